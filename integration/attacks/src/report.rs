//! The table in the terminal, in target/reports/attacks.json and in docs/attacks.md.

use std::fs;

use bulkhead_integration::{HarnessError, Result, workspace, write_report};
use serde_json::json;

use crate::{
    column::{Column, Phase},
    gather::{self, Cells, Table},
    known::Known,
    technique::{Outcome, Row},
    verdict,
};

/// Prints it: what Bulkhead does not stop comes first, in red.
pub(crate) fn print(table: &Table) {
    let names: Vec<String> = Column::ALL.into_iter().map(|column| format!(" {:16}", column.name())).collect();
    println!("{:52}{}", "technique (as init/by exec)", names.concat());
    for (row, cells) in ordered(table) {
        let mut line = format!("{:52}", row.name);
        for column in Column::ALL {
            line += &format!(" {:16}", marks(cells, column, "BITES").join("/"));
        }
        if verdict::bites_us(cells) { println!("\x1b[31m{line}\x1b[0m") } else { println!("{line}") }
    }
}

/// Writes report and page.
pub(crate) fn write(table: &Table, known: &Known) -> Result<()> {
    // A part of the table is no report.
    if gather::only().is_some() {
        return Ok(());
    }
    let mut rows = Vec::new();
    for (row, cells) in ordered(table) {
        for ((column, phase), outcome) in cells {
            let (outcome, by) = match outcome {
                Outcome::Succeeded(by) => ("succeeded", by),
                Outcome::Stopped(by) => ("stopped", by),
                Outcome::Untried(by) => ("untried", by),
            };
            rows.push(json!({ "technique": row.name, "source": row.source, "phase": phase.name(),
                "runtime": column.name(), "outcome": outcome, "by": by }));
        }
    }
    write_report("attacks", &rows)?;
    if std::env::var_os("BULKHEAD_WRITE_DOCS").is_some() {
        let path = workspace().join("docs/attacks.md");
        fs::write(&path, page(table, known)).map_err(HarnessError::at("write", &path))?;
    }
    Ok(())
}

/// What came of a row in a column, as init and by exec.
fn marks(cells: &Cells, column: Column, bites: &'static str) -> Vec<&'static str> {
    Phase::ALL
        .into_iter()
        .filter_map(|phase| cells.get(&(column, phase)))
        .map(|outcome| match outcome {
            Outcome::Succeeded(_) => bites,
            Outcome::Stopped(_) => "stopped",
            Outcome::Untried(_) => "–",
        })
        .collect()
}

fn ordered(table: &Table) -> Vec<(&Row, &Cells)> {
    let mut rows: Vec<_> = table.iter().collect();
    rows.sort_by_key(|(row, cells)| (!verdict::bites_us(cells), *row));
    rows
}

fn page(table: &Table, known: &Known) -> String {
    let count = |what: &dyn Fn(&Cells) -> bool| table.values().filter(|cells| what(cells)).count();
    let mut text = format!(
        "# Attacks\n\nWhat a hostile tenant tries, and what came of it. Written by `make attacks`; each cell was observed.\n\
         `init/exec`: as the container's first process, and by exec into it.\n\n\
         {} techniques bite somewhere, {} of them under Bulkhead's defaults: those come first and are named in the\n\
         [threat model](threat-model.md). {} more have nothing to bite on the kernel that this was taken on, and do not count:\n\
         [where they bite](#on-other-kernels).\n\
         runsc runs without a network here, which stops what asks for one. The old runc is 1.1.11, and 1.0.0-rc6 for\n\
         *replace the runtime* and for races, whose holes were mended before.\n\n",
        count(&verdict::bites),
        count(&verdict::bites_us),
        count(&|cells| !verdict::bites(cells)),
    );
    text += "| technique | source |";
    for column in Column::ALL {
        text += &format!(" {} |", column.name());
    }
    text += " what stopped it under Bulkhead |\n|---|---|";
    text += &"---|".repeat(Column::ALL.len() + 1);
    text.push('\n');
    for (row, cells) in ordered(table) {
        text += &format!("| **{}**: {} | {} |", row.name.replace('_', " "), row.tries, row.source);
        for column in Column::ALL {
            let marks = marks(cells, column, if column.is_ours() { "🟥 **bites**" } else { "**bites**" });
            let same = marks.windows(2).all(|pair| pair[0] == pair[1]);
            text += &format!(
                " {} |",
                if same { marks.first().copied().unwrap_or("–").to_owned() } else { marks.join("/") }
            );
        }
        text += &format!(" {} |\n", verdict::evidence(cells).replace('|', "\\|"));
    }
    text + &elsewhere(table, known) + WAY_IN
}

/// Where bites what this kernel has for nobody.
fn elsewhere(table: &Table, known: &Known) -> String {
    let absent = |name: &str| table.iter().any(|(row, cells)| row.name == name && !verdict::bites(cells));
    let mut text = "\n## On other kernels\n\n\
        What this kernel lacks, Debian's 6.1 and 6.12 have: in the machines of `make vm-test` these bite a privileged runc,\n\
        and Bulkhead stops them as init and by exec (`vagrant/vm/tests/attacks.rs`).\n\n| technique | what it needs |\n|---|---|\n"
        .to_owned();
    let row = |(name, what): (&String, &String)| format!("| **{}** | {what} |\n", name.replace('_', " "));
    text.extend(known.machines.iter().filter(|(name, _)| absent(name)).map(row));
    text += "\nOn none that we have tried these bite:\n\n| technique | why |\n|---|---|\n";
    text.extend(known.nowhere.iter().filter(|(name, _)| absent(name)).map(row));
    text
}

/// What is no row of the table: attacks whose victim is not the container but what serves it.
const WAY_IN: &str = "
## Attacks on the way in

Tests, each with a neighbour that takes an exec and a container that runs while it lasts or after it.

| what is attacked | how | suite |
|---|---|---|
| the server's socket | bytes that are no ttrpc; unknown services and methods, messages of 2 GiB, ids and bundles with `..`, a thousand connections; a user that is not root | `siege`, `hostile_calls` |
| one container, by calls that race | pause, resume, kill, exec, delete at once; execs of one name; execs while it ends | `siege`, `hostile_calls` |
| the request | specs, process JSON, bundles and annotations that are malformed or reach for the host | `bad_input`, `hostile` |
| the image | links at /dev, /proc, /sys and where mounts land, an interpreter that is the runtime | `hostile` |
| the pod's other containers, whose processes it shares | files by /proc/PID/root, environment, memory | `pods` |
| the pod's other volumes | those of another pod, links of a volume on the way to a mount, one that comes and goes meanwhile | `pods`, `hostile` |
| the node's processes and memory | a fork bomb, memory without end, SIGKILL and SIGSTOP to all that can be seen | `siege` |
| files, inodes and space | open files at the limit, a full disk, /tmp filled by bytes and by empty files | `bad_input`, the table above |
| the log | a log that nobody takes, a reader that stops, a logger that dies or never answers | `stdio`, `stdio_restart` |
| server, zygote, worker and judge | killed at each system call of create, start, exec, kill and delete | `faults` |
";
