//! What a profile that is worked out from an image costs: at each system call, at a launch that finds it ready, and to work
//! it out.
//!
//! Calls are timed by a program whose own calls can be told (`cost/cost.c`: the probe makes any that it is told), of an
//! image that has it, the loader and the C library of this machine, and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{
    Answers, Digests, Entry, HarnessError, Image, Layer, Output, UID, bulkhead_dir, run, until, workspace,
};
use serde_json::{Map, Value, json};

use super::{policy::WITHOUT, syscalls::NO_FILTER, warm};
use crate::{
    compiled, interrupt,
    row::{Findings, SUBJECT},
    runtimes::Runtime,
    series::{Series, in_turn},
    stage::Stage,
    wrong,
};

const NAME: &str = "registry.test/team-a/cost:1";
const PROGRAM: &str = "/bin/cost";

/// How long a profile may take to be ready, and one program to be worked out.
const READY: Duration = Duration::from_secs(300);

/// Files that the program is linked with.
///
/// Source: System V ABI, AMD64 supplement, and Debian's multiarch directories.
const LIBRARIES: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"];

/// Images of the corpus that are worked out anew.
const COLD: [&str; 2] = ["nginx", "redis"];

/// A call under the profile's filter beside runc's under containerd's default, and without any.
pub(super) fn calls(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let digests = import(stage)?;
    let subject = stage.subject()?;
    stage.bench.allow_digests(&[&digests.manifest], "seccomp = \"generated\"")?;
    when_ready(|| start(stage, subject, &[]))?;
    let mut series = [("getppid", Series::default()), ("open-close", Series::default())];
    let rounds = stage.settings.runs.div_ceil(2);
    let runc: Vec<Runtime> =
        stage.runtimes.iter().filter(|runtime| [SUBJECT, "runc"].contains(&runtime.name)).cloned().collect();
    let measured = in_turn("profiles", rounds, &runc, findings, |runtime, _| {
        let ways: &[(&'static str, &[&str])] = match runtime.name {
            SUBJECT => &[(SUBJECT, &[])],
            _ => &[("runc", &["--seccomp"]), (NO_FILTER, &[])],
        };
        for (who, options) in ways {
            let answers = Answers::read(&start(stage, runtime, options)?.success()?.stdout)?;
            for (call, series) in &mut series {
                let text = answers.get(call);
                series.add(who, text.parse().map_err(|_| wrong("nanoseconds", text))?);
            }
        }
        Ok(())
    });
    stage.bench.allow("exec = [\"*\"]")?;
    measured?;
    for (call, series) in series {
        series.rows(&format!("profile-{call}"), "ns", findings);
    }
    Ok(())
}

/// The gates of a launch whose profile is stored beside those of one without, in turn.
pub(super) fn stored(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let digests = import(stage)?;
    let subject = stage.subject()?;
    let lines = [(SUBJECT, "seccomp = \"generated\"\nlandlock = { files = \"generated\" }"), (WITHOUT, "")];
    stage.bench.allow_digests(&[&digests.manifest], lines[0].1)?;
    when_ready(|| start(stage, subject, &[]))?;
    let mut series = Series::default();
    for round in 0..stage.settings.runs {
        let mut turns = lines;
        if round % 2 == 1 {
            turns.reverse();
        }
        for (who, lines) in turns {
            interrupt::check()?;
            stage.bench.allow_digests(&[&digests.manifest], lines)?;
            start(stage, subject, &[])?.success()?;
            series.add(who, warm::last(&stage.daemon().bulkhead_root())?.0);
        }
    }
    stage.bench.allow("exec = [\"*\"]")?;
    series.rows("profile-stored", "ms", findings);
    Ok(())
}

/// Processor time of profiles that are worked out with nothing kept, for 100 MB of ELF each, beside sha256sum of the image.
pub(super) fn cold(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    for image in COLD {
        let (root, base) = (corpus(image)?, corpus("base")?);
        let command = format!(
            "{} --root {} --json profile generate --no-cache {} --lower {} -- /usr/{}",
            bulkhead_dir()?.join("bulkhead").display(),
            stage.daemon().dir().join("cold").display(),
            root.display(),
            base.display(),
            if image == "nginx" { "sbin/nginx" } else { "bin/redis-server" },
        );
        let sums =
            format!("find {} {} -type f -exec sha256sum {{}} + >/dev/null", root.display(), base.display());
        let mut series = Series::default();
        for _ in 0..stage.settings.runs.div_ceil(3) {
            interrupt::check()?;
            let (seconds, said) = processor(&command)?;
            let said: Value = serde_json::from_str(&said).map_err(|_| wrong("a profile", said))?;
            let bytes = said["profile"]["elf_bytes"].as_f64().filter(|bytes| *bytes > 0.0);
            let bytes =
                bytes.ok_or_else(|| wrong("bytes of ELF", said["profile"]["elf_bytes"].to_string()))?;
            series.add(SUBJECT, seconds / (bytes / 1e8));
            series.add("sha256sum", processor(&sums)?.0 / (bytes / 1e8));
        }
        series.rows(&format!("profile-cold-{image}"), "s", findings);
    }
    Ok(())
}

/// Runs it until its profile is ready, and that must be narrower than the baseline.
pub(super) fn when_ready(
    mut start: impl FnMut() -> Result<Output, HarnessError>,
) -> Result<Output, HarnessError> {
    let mut last = None;
    until("its profile is ready", READY, || {
        let output = start()?;
        let busy = output.stderr.contains("is being worked out");
        last = Some(output);
        Ok(!busy)
    })?;
    last.ok_or_else(|| wrong("a start", "none"))?.success()
}

/// Where an image of the corpus is unpacked.
pub(super) fn corpus(image: &str) -> Result<PathBuf, HarnessError> {
    run(Command::new(workspace().join("integration/scripts/corpus.sh")).arg(image), 2 * READY)?.success()?;
    Ok(workspace().join("target/deps/corpus").join(image))
}

fn start(stage: &Stage, runtime: &Runtime, options: &[&str]) -> Result<Output, HarnessError> {
    let (id, own) = (stage.daemon().id("cost"), runtime.options());
    let mut args = vec!["run", "--rm"];
    args.extend(own.iter().map(String::as_str));
    args.extend(options);
    args.extend([NAME, &id]);
    stage.daemon().ctr(&args)
}

fn import(stage: &Stage) -> Result<Digests, HarnessError> {
    let read = |path: &Path| fs::read(path).map_err(HarnessError::at("read", path));
    let program = read(&program()?)?;
    let libraries = LIBRARIES.map(|path| read(Path::new(path)));
    let [loader, libc] = libraries;
    let (loader, libc) = (loader?, libc?);
    let [loader_at, libc_at] = LIBRARIES.map(|path| path.trim_start_matches('/'));
    let layer = Layer::of(&[
        Entry::Dir("bin", 0o755),
        Entry::File(PROGRAM.trim_start_matches('/'), 0o755, &program),
        Entry::Dir("lib64", 0o755),
        Entry::File(loader_at, 0o755, &loader),
        Entry::Dir("lib", 0o755),
        Entry::Dir("lib/x86_64-linux-gnu", 0o755),
        Entry::File(libc_at, 0o755, &libc),
        Entry::Dir("proc", 0o555),
        Entry::Dir("sys", 0o555),
        Entry::Dir("dev", 0o755),
        Entry::Dir("tmp", 0o1777),
        Entry::Dir("run", 0o755),
        Entry::Dir("var", 0o755),
        Entry::Dir("var/tmp", 0o1777),
    ])?;
    let mut config = Map::new();
    config.insert("User".to_owned(), json!(format!("{UID}:{UID}")));
    config.insert("Entrypoint".to_owned(), json!([PROGRAM]));
    stage.daemon().import(&Image::of_config(NAME, vec![layer], config))
}

/// Builds the program, once per source. Not static: in a static C library the number of a call cannot be told.
fn program() -> Result<PathBuf, HarnessError> {
    compiled::program("cost", &[])
}

/// Seconds of processor that a line of shell and its children took, and what it printed.
fn processor(line: &str) -> Result<(f64, String), HarnessError> {
    let timed = format!("TIMEFORMAT='%U %S'; time {{ {line} 2>/dev/null; }}");
    let output = run(Command::new("bash").args(["-ec", &timed]), READY)?.success()?;
    let last = output.stderr.lines().last().unwrap_or_default();
    let seconds: Option<f64> = last.split(' ').map(|word| word.parse::<f64>().ok()).sum();
    let seconds = seconds.ok_or_else(|| wrong("seconds of processor", last))?;
    Ok((seconds, output.stdout))
}
