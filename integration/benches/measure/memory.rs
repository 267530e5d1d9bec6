//! Memory and idle processor time of all processes that a runtime keeps beside the containers' own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::{Containerd, HarnessError};

use crate::{
    interrupt,
    row::Findings,
    runtimes::Runtime,
    series::{Series, in_turn},
    stage::Stage,
    wrong,
};

/// How many containers at each look.
pub(super) const COUNTS: [usize; 3] = [1, 3, 20];

/// How long idle shims are watched.
const IDLE: Duration = Duration::from_secs(5);

/// What a runtime keeps running is one of these, or was started by one of these.
const PROGRAMS: [&str; 5] = ["containerd-shim", "bulkhead", "runsc", "runc", "crun"];

/// PSS of all shim processes with 1, 3 and 20 containers, each with a shim of its own, and what they burn while idle.
pub(super) fn one_pod_each(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let mut pss: BTreeMap<usize, Series> = BTreeMap::new();
    let mut idle = Series::default();
    // Twenty containers of each: a round takes as long as ten of anything else, and differs by a hundredth.
    let rounds = stage.settings.runs.div_ceil(10);
    in_turn("memory", rounds, &stage.runtimes, findings, |runtime, _| {
        let (sizes, milliseconds) = of_one(stage, runtime)?;
        for (count, megabytes) in sizes {
            pss.entry(count).or_default().add(runtime.name, megabytes);
        }
        idle.add(runtime.name, milliseconds);
        Ok(())
    })?;
    for (count, series) in pss {
        series.rows(&format!("pss-{count}"), "MB", findings);
    }
    idle.rows("idle-cpu", "ms/min", findings);
    Ok(())
}

type Sizes = Vec<(usize, f64)>;

fn of_one(stage: &Stage, runtime: &Runtime) -> Result<(Sizes, f64), HarnessError> {
    let mut ids = Vec::new();
    let mut sizes = Vec::new();
    for count in COUNTS {
        while ids.len() < count {
            interrupt::check()?;
            // Of one length: runsc takes the beginning of an id for the id.
            ids.push(stage.start_pause(runtime, &format!("m{:02}", ids.len()))?);
        }
        settle();
        sizes.push((count, pss_megabytes(stage.daemon())?));
    }
    let (before, began) = (cpu_ns(stage.daemon())?, Instant::now());
    thread::sleep(IDLE);
    let burnt = cpu_ns(stage.daemon())?.saturating_sub(before) as f64;
    let idle = burnt / 1e6 / began.elapsed().as_secs_f64() * 60.0;
    remove(stage, &ids)?;
    Ok((sizes, idle))
}

fn remove(stage: &Stage, ids: &[String]) -> Result<(), HarnessError> {
    let tasks = stage.daemon().tasks()?;
    for id in ids {
        tasks.kill(id, 9, true)?;
        tasks.wait(id)?;
        tasks.delete(id)?;
    }
    let mut args = vec!["container", "delete"];
    args.extend(ids.iter().map(String::as_str));
    stage.daemon().ctr(&args)?.success().map(drop)
}

/// What has just started is let come to rest: a garbage collector gives back, an event goes out.
pub(super) fn settle() {
    thread::sleep(Duration::from_secs(1));
}

/// Sum of the proportional set sizes of a daemon's shims and of what they keep running.
pub(super) fn pss_megabytes(daemon: &Containerd) -> Result<f64, HarnessError> {
    let mut kilobytes = 0u64;
    for pid in shims(daemon)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(HarnessError::at("read", &path))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes += number.ok_or_else(|| wrong("Pss", text.clone()))?;
    }
    Ok(kilobytes as f64 * 1024.0 / 1e6)
}

/// Processor time of the same processes, over all their threads.
fn cpu_ns(daemon: &Containerd) -> Result<u64, HarnessError> {
    let mut total = 0;
    for pid in shims(daemon)? {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            // On the processor, waiting for it, times it got it. A thread that ended meanwhile is not counted.
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            total += text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(total)
}

/// A daemon's shims and what they keep running for their containers; not the containers' own processes.
fn shims(daemon: &Containerd) -> Result<BTreeSet<u32>, HarnessError> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").map_err(HarnessError::at("read", "/proc"))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that ended meanwhile is none.
        if let Some(parent) = parent_of(&entry.path()) {
            parents.insert(pid, parent);
        }
    }
    let tag = format!("={}\0", daemon.tag());
    let is_shim = |pid: &u32| {
        let proc = Path::new("/proc").join(pid.to_string());
        program(&proc).starts_with("containerd-shim")
            && fs::read(proc.join("environ"))
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&tag))
    };
    let mut found: BTreeSet<u32> = parents.keys().copied().filter(is_shim).collect();
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .filter(|(pid, _)| {
                let program = program(&Path::new("/proc").join(pid.to_string()));
                PROGRAMS.iter().any(|name| program.starts_with(name))
            })
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    if found.is_empty() {
        return Err(wrong("processes of shims", "none"));
    }
    Ok(found)
}

/// File name of what a process runs.
fn program(proc: &Path) -> String {
    let target = fs::read_link(proc.join("exe")).unwrap_or_default();
    target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn parent_of(proc: &Path) -> Option<u32> {
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
