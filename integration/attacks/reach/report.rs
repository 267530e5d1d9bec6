//! The numbers in the terminal, in target/reports/reach.json and in docs/reach.md.

use std::{collections::BTreeSet, fs};

use bulkhead_integration::{HarnessError, Result, workspace, write_report};
use serde_json::json;

use crate::{
    load, machine,
    measured::{Load, Measured, Subject},
};

/// One run of a subject.
pub(crate) fn of(rows: &[Measured], subject: Subject, load: Load) -> Option<&Measured> {
    rows.iter().find(|row| row.subject == subject && row.load == load)
}

/// Prints, writes the report, and the page where that is asked for.
pub(crate) fn write(rows: &[Measured]) -> Result<()> {
    println!("{}", table(rows));
    let report: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({ "runtime": row.subject.name(), "load": row.load.name(), "kernel": machine::KERNEL, "lost": 0,
                "entries": row.entries, "functions": row.whole.len(), "functions_serving": row.serving.len() })
        })
        .collect();
    write_report("reach", &report)?;
    if std::env::var_os("BULKHEAD_WRITE_DOCS").is_some() {
        let path = workspace().join("docs/reach.md");
        fs::write(&path, page(rows)).map_err(HarnessError::at("write", &path))?;
    }
    Ok(())
}

fn table(rows: &[Measured]) -> String {
    let mut text = String::from(
        "| runtime | create to delete | while serving | idle container, create to delete |\n|---|---|---|---|\n",
    );
    for subject in Subject::ALL {
        let loaded = of(rows, subject, Load::Requests);
        let idle = of(rows, subject, Load::Idle);
        let [whole, serving, idle] = [
            loaded.map(|row| row.whole.len()),
            loaded.map(|row| row.serving.len()),
            idle.map(|row| row.whole.len()),
        ]
        .map(|number| number.map_or_else(|| "–".to_owned(), |number| number.to_string()));
        text += &format!("| {} | {whole} | {serving} | {idle} |\n", subject.name());
    }
    text
}

/// How many functions one subject reaches and another does not, and the other way round.
fn apart(one: &BTreeSet<String>, other: &BTreeSet<String>) -> (usize, usize) {
    (one.difference(other).count(), other.difference(one).count())
}

fn page(rows: &[Measured]) -> String {
    let mut text = format!(
        "# What a tenant can reach\n\n\
         How many functions of the kernel one nginx reaches, with all processes that serve its container. Written by\n\
         `make reach`; the rows are in `target/reports/reach.json`.\n\n{}\n",
        table(rows)
    );
    if let [Some(runc), Some(bulkhead), Some(runsc)] =
        Subject::ALL.map(|subject| of(rows, subject, Load::Requests))
    {
        let (runc_only, bulkhead_only) = apart(&runc.serving, &bulkhead.serving);
        let (sentry, native) = apart(&runsc.serving, &bulkhead.serving);
        text += &format!(
            "While serving, runc's nginx reached {runc_only} functions that Bulkhead's did not, and Bulkhead's {bulkhead_only} that\n\
             runc's did not; gVisor reached {sentry} that Bulkhead did not, and Bulkhead {native} that gVisor did not.\n\n"
        );
    }
    text += &format!(
        "## What is counted\n\n\
         - Every process that serves the container, from the first instruction of the shim that containerd starts to the end of\n  \
           the last: shim, runc and its stages, runc's init; Bulkhead's server, zygotes, workers and judge (it is the image's\n  \
           first launch); gVisor's shim, runsc, gofer and sentry; nginx's master and workers. containerd, `ctr` and the CNI\n  \
           plugin are the same for all and are not counted.\n\
         - A function counts once, however often it is entered: the function tracer of Debian's cloud kernel {kernel}, which can\n  \
           trace some forty thousand, followed over fork and thread (`options/function-fork`). What an interrupt ran that\n  \
           happened to come does not count; softirqs do, since packets of the tenant run there.\n\
         - The kernel had room for every event: a lost one fails the measurement.\n\
         - The same image (nginx of Debian 12 with its libraries), the same request, which says nothing of security, the same\n  \
           load: {connections} connections of three requests each, from outside of the container over a veth pair. runc runs with\n  \
           containerd's defaults, which are no seccomp profile; runsc with systrap and its own network stack; Bulkhead with its\n  \
           defaults.\n\
         - Threads of the kernel that work for everybody are not counted. From run to run the numbers move: from create to\n  \
           delete by some 2 %, while serving by up to 20 % (softirqs of others run there too). Smaller differences say nothing.\n\
         - The idle container runs a program that sleeps: the control, and the cost of starting and removing anything.\n\n\
         ## What it says, and what it does not\n\n\
         This is what an honest nginx reaches. Bulkhead shares the node's kernel, as runc does: a request that is allowed takes\n\
         the same way through the kernel under both, and in this measure they differ little: its filters and rulesets even add\n\
         the functions that check them. What Bulkhead takes away is what a *hostile* nginx could reach next: \
         [attacks.md](attacks.md).\n\
         gVisor answers the tenant's system calls in user space: what is counted for it is what its sentry asks of the kernel.\n",
        kernel = machine::KERNEL,
        connections = load::CONNECTIONS,
    );
    text
}
