//! What a tenant can reach: the kernel functions that one nginx under load reaches, under runc, Bulkhead and gVisor.
//!
//! ```text
//! here:           this program, nginx, runsc ─► a machine with Debian's kernel 6.1 ─► rows ─► report, docs, tests
//! in the machine: a pod per runtime, every process that serves it traced from the first to the last ─► a JSON line
//! ```
//! One kernel for all and one that users have: the development machine's own need not let anybody trace functions.

mod inside;
mod load;
mod machine;
mod measured;
mod report;
mod ring;
mod tracer;

use std::process::ExitCode;

use bulkhead_integration::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use measured::{Load, Measured, Subject};

/// The word by which this program is told that it is in the machine.
const INSIDE: &str = "inside";

/// What nginx is linked with beside libc.
const LIBRARIES: [&str; 5] =
    ["libcrypt.so.1", "libpcre2-8.so.0", "libssl.so.3", "libcrypto.so.3", "libz.so.1"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == [INSIDE] {
        return match inside::measure() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error.tell("reach");
                ExitCode::FAILURE
            }
        };
    }
    let trials = match machine::measured().and_then(written) {
        Ok(rows) => trials(&rows),
        // One red test that says why there are no numbers.
        Err(error) => vec![Trial::test("reach_is_measured", move || Err(error.to_string().into()))],
    };
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn written(rows: Vec<Measured>) -> Result<Vec<Measured>> {
    report::write(&rows)?;
    Ok(rows)
}

/// What makes the numbers believable, for each subject; and what is to hold of them.
fn trials(rows: &[Measured]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for subject in Subject::ALL {
        let found = [Load::Idle, Load::Requests].map(|load| report::of(rows, subject, load).cloned());
        let [Some(idle), Some(loaded)] = found else {
            let test = move || Err(format!("{} has no row", subject.name()).into());
            trials.push(Trial::test(format!("{}_is_measured", subject.name()), test));
            continue;
        };
        let test = move || believable(&idle, &loaded);
        trials.push(Trial::test(format!("{}_under_load_reaches_more_than_idle", subject.name()), test));
    }
    let whole = |subject| report::of(rows, subject, Load::Requests).map_or(0, |row| row.whole.len());
    let (runc, bulkhead) = (whole(Subject::Runc), whole(Subject::Bulkhead));
    trials.push(Trial::test("bulkhead_reaches_about_as_much_of_the_kernel_as_runc", move || {
        // Both share the node's kernel: a runtime that reached far more would be a finding.
        let more = bulkhead.saturating_sub(runc);
        if bulkhead > 0 && more * 5 <= runc { Ok(()) } else { Err(format!("{bulkhead} and {runc}").into()) }
    }));
    trials
}

fn believable(idle: &Measured, loaded: &Measured) -> std::result::Result<(), Failed> {
    let has = |name: &str| loaded.serving.iter().any(|function| function.split('@').next() == Some(name));
    // Every one of them, gVisor's own network stack too, takes packets off a socket and waits for them.
    let waits = ["do_epoll_wait", "ep_poll", "do_sys_poll", "futex_wait"];
    if !idle.serving.is_empty() {
        return Err("an idle container served".into());
    }
    if loaded.serving.len() < 100 || !waits.into_iter().any(has) {
        return Err(format!("{} functions while serving, and none that waits", loaded.serving.len()).into());
    }
    if loaded.whole.len() <= idle.whole.len() || !loaded.serving.is_subset(&loaded.whole) {
        return Err(format!("{} under load, {} idle", loaded.whole.len(), idle.whole.len()).into());
    }
    Ok(())
}
