//! What a system call costs inside: the filter is paid for at each one.
//!
//! The cheapest call there is (getppid) and a common pair (open and close) in a loop, timed by the probe itself. Peers
//! run with containerd's default profile, which Kubernetes gives a pod that asks for RuntimeDefault; beside them runc
//! without any filter.

use bulkhead_integration::{Answers, HarnessError};

use crate::{
    row::{Findings, SUBJECT},
    series::{Series, in_turn},
    stage::Stage,
    wrong,
};

/// The name of runc without a filter.
pub(crate) const NO_FILTER: &str = "no-filter";

/// Under the image's own profile, beside runc with containerd's default one.
fn generated(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let mut series = [("getppid", Series::default()), ("open-close", Series::default())];
    let Some(runc) = stage.runtimes.iter().find(|runtime| runtime.name == "runc") else { return Ok(()) };
    let subject = stage.subject()?;
    stage.bench.allow("seccomp = \"generated\"")?;
    let measured = (|| {
        super::policy::until_ready(stage, &["/bin/probe", "cost"])?;
        for _ in 0..stage.settings.runs.div_ceil(2) {
            for (name, runtime, options) in [(SUBJECT, subject, &[][..]), ("runc", runc, &["--seccomp"])] {
                let output = stage.run(runtime, "calls", options, &["/bin/probe", "cost"])?;
                let answers = Answers::read(&output.stdout)?;
                for (call, series) in &mut series {
                    let text = answers.get(call);
                    series.add(name, text.parse().map_err(|_| wrong("nanoseconds", text))?);
                }
            }
        }
        Ok::<(), HarnessError>(())
    })();
    stage.bench.allow("exec = [\"*\"]")?;
    match measured {
        Ok(()) => series.iter().for_each(|(call, series)| {
            series.rows(&format!("syscall-generated-{call}"), "ns", findings);
        }),
        Err(error) => findings.lacks("syscall-generated", &error),
    }
    Ok(())
}

pub(super) fn cost(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let (mut getppid, mut open_close) = (Series::default(), Series::default());
    let rounds = stage.settings.runs.div_ceil(2);
    in_turn("syscalls", rounds, &stage.runtimes, findings, |runtime, _| {
        let mut ask = |name: &'static str, options: &[&str]| -> Result<(), HarnessError> {
            let output = stage.run(runtime, "calls", options, &["/bin/probe", "cost"])?;
            let answers = Answers::read(&output.stdout)?;
            for (series, call) in [(&mut getppid, "getppid"), (&mut open_close, "open-close")] {
                let text = answers.get(call);
                series.add(name, text.parse().map_err(|_| wrong("nanoseconds", text))?);
            }
            Ok(())
        };
        match runtime.name {
            SUBJECT => ask(SUBJECT, &[]),
            name => ask(name, &["--seccomp"]),
        }?;
        if runtime.name == "runc" {
            ask(NO_FILTER, &[])?;
        }
        Ok(())
    })?;
    generated(stage, findings)?;
    getppid.rows("syscall-getppid", "ns", findings);
    open_close.rows("syscall-open-close", "ns", findings);
    Ok(())
}
