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
    getppid.rows("syscall-getppid", "ns", findings);
    open_close.rows("syscall-open-close", "ns", findings);
    Ok(())
}
