//! Memory of one pod with many containers. Pods need a newer CRI than that of Debian 12's containerd.

use std::collections::BTreeMap;

use bulkhead_integration::{
    ALLOWED, Bench, ContainerOptions, Cri, HarnessError, Hierarchies, Pods, Release, RunDir, Surroundings,
};

use super::memory::{COUNTS, pss_megabytes, settle};
use crate::{
    interrupt,
    row::{Findings, SUBJECT},
    runtimes,
    series::Series,
    stage,
};

/// Tried on 2026-11-21 with runsc 20240729.
const NO_PODS_OF_RUNSC: &str = "with --ignore-cgroups --network=none behind runc's shim, StartContainer in a CRI pod did not return in 60 s";

pub(super) fn in_one_pod(findings: &mut Findings) -> Result<(), HarnessError> {
    // Why a peer is not there was said before.
    let runtimes = runtimes::find(&mut Findings::default())?;
    let handlers = stage::handlers(&runtimes);
    let around = Surroundings {
        hierarchies: Hierarchies::V1Only,
        run: RunDir::Tmpfs,
        handlers: &handlers,
        ..Surroundings::default()
    };
    let bench = match Bench::start_in(Release::V1_7, Cri::On, &around) {
        Err(error @ HarnessError::Missing { .. }) => {
            findings.lacks("pss-pod", &error);
            return Ok(());
        }
        started => started?,
    };
    let pods = bench.daemon.pods()?;
    let mut pss: BTreeMap<usize, Series> = BTreeMap::new();
    for runtime in &runtimes {
        if runtime.name == "runsc" {
            findings.lacks("pss-pod beside runsc", &NO_PODS_OF_RUNSC);
            continue;
        }
        match of_one(&bench, &pods, runtime.handler()) {
            Ok(sizes) => {
                for (count, megabytes) in sizes {
                    pss.entry(count).or_default().add(runtime.name, megabytes);
                }
            }
            Err(error) if runtime.name == SUBJECT || interrupt::came() => return Err(error),
            Err(error) => findings.lacks(format!("pss-pod beside {}", runtime.name), &error),
        }
    }
    for (count, series) in pss {
        series.rows(&format!("pss-pod-{count}"), "MB", findings);
    }
    Ok(())
}

fn of_one(bench: &Bench, pods: &Pods, handler: &str) -> Result<Vec<(usize, f64)>, HarnessError> {
    let pod = pods.run(handler, "default", handler)?;
    let mut sizes = Vec::new();
    let mut made = 0;
    let filled = COUNTS.into_iter().try_for_each(|count| {
        while made < count {
            interrupt::check()?;
            let name = format!("c{made}");
            pods.launch(&pod, &ContainerOptions::restricted(&name, ALLOWED, &["/bin/probe", "pause"]))?;
            made += 1;
        }
        settle();
        sizes.push((count, pss_megabytes(&bench.daemon)?));
        Ok::<_, HarnessError>(())
    });
    // The pod goes first: what is left of it would be counted with the next one.
    pods.remove_pod(&pod)?;
    filled.map(|()| sizes)
}
