//! A floor that left something out would be a lie: what the probe says of itself there must be what it says under
//! Bulkhead. (A Landlock domain cannot be read back: its rules are counted in the script.)

use std::{fs, path::Path, time::Duration};

use bulkhead_integration::{Answers, HarnessError, run};

use crate::{stage::Stage, wrong};

/// How long it may take.
const FLOOR: Duration = Duration::from_secs(20);

/// What the floor has no reason to give alike: environment, names of hosts, descriptors of its caller.
const OTHERWISE: [&str; 3] = ["env ", "fds", "cwd"];

/// Runs the probe on the floor of `script` and compares it with the probe under Bulkhead.
pub(super) fn same_as_bulkhead(stage: &Stage, program: &Path, script: &Path) -> Result<(), HarnessError> {
    let text = fs::read_to_string(script).map_err(HarnessError::at("read", script))?;
    let asks = text.replace("execve\t/bin/probe\ttrue\n", "execve\t/bin/probe\tfacts\n");
    let path = script.with_extension("facts");
    fs::write(&path, asks).map_err(HarnessError::at("write", &path))?;
    let output = run(stage.daemon().as_daemon(program).arg(&path), FLOOR)?.success()?;
    let floor = Answers::read(&output.stdout)?;
    let subject = stage.subject()?;
    let ours = Answers::read(&stage.run(subject, "facts", &[], &["/bin/probe", "facts"])?.stdout)?;
    match differences(&floor, &ours).as_slice() {
        [] => Ok(()),
        some => Err(wrong("a floor that is confined as Bulkhead confines", some.join("; "))),
    }
}

fn differences(floor: &Answers, ours: &Answers) -> Vec<String> {
    let names = ours.all("").chain(floor.all("")).map(|(name, _)| name);
    let mut names: Vec<&str> =
        names.filter(|name| !OTHERWISE.iter().any(|other| name.starts_with(other))).collect();
    names.sort_unstable();
    names.dedup();
    let differs = |name: &&str| {
        let [floor, ours] = [floor, ours].map(|answers| part(name, answers.get(name)));
        (floor != ours).then(|| format!("{name}: floor {floor:?}, Bulkhead {ours:?}"))
    };
    names.iter().filter_map(differs).collect()
}

/// Flags and type, the first two words, count of a root, whose layers have other directories, and of /sys, which the
/// floor makes read-only with the same call.
fn part(name: &str, answer: &str) -> String {
    let words = if ["mount /", "mount /sys"].contains(&name) { 2 } else { usize::MAX };
    answer.split(' ').take(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_floor_without_a_filter_differs_and_one_with_other_layers_does_not() {
        let ours = r#"{"Seccomp":"2","mount /":"ro,nosuid overlay ro,upperdir=/a","fds":"3"}"#;
        let same = r#"{"Seccomp":"2","mount /":"ro,nosuid overlay ro,upperdir=/b","fds":""}"#;
        let less = r#"{"Seccomp":"0","mount /":"rw,nosuid overlay rw","mount /x":"rw tmpfs rw"}"#;
        let [ours, same, less] = [ours, same, less].map(|text| Answers::read(text).unwrap());
        assert_eq!(differences(&same, &ours), [""; 0]);
        let found = differences(&less, &ours);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("Seccomp: floor \"0\""));
    }
}
