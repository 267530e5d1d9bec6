//! Builds the probe program that images carry, and reads what it prints.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, sync::OnceLock, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::{HarnessError, Result, run::run, tools::workspace};

/// What the probe printed: facts by name, or outcomes by attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers(BTreeMap<String, String>);

impl Answers {
    /// Reads the last line of `text` that is the probe's.
    pub fn read(text: &str) -> Result<Self> {
        let line = text.lines().rev().find(|line| line.trim_start().starts_with('{'));
        let wrong = || HarnessError::Format { what: "a line of the probe", found: text.to_owned() };
        serde_json::from_str(line.ok_or_else(wrong)?).map(Self).map_err(|_| wrong())
    }

    /// One answer; empty where there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// All answers whose name starts so, without that start.
    pub fn all<'a>(&'a self, start: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(start)?, value.as_str())))
    }
}

/// The static probe program, built once per source.
pub(crate) fn program() -> Result<Vec<u8>> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let path = BUILT.get_or_init(|| build().map_err(|error| error.to_string()));
    let path = path.as_ref().map_err(|text| HarnessError::Command {
        line: "build integration/probe".to_owned(),
        outcome: text.clone(),
    })?;
    fs::read(path).map_err(HarnessError::at("read", path))
}

fn build() -> Result<PathBuf> {
    let source = workspace().join("integration/probe");
    let mut hash = Sha256::new();
    for name in ["probe.rs", "sys.rs"] {
        let file = source.join(name);
        hash.update(fs::read(&file).map_err(HarnessError::at("read", file))?);
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let dir = workspace().join("target/deps/probe");
    let program = dir.join(format!("probe-{hash}"));
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&dir).map_err(HarnessError::at("create", &dir))?;
    // Suites build it at the same time: each under a name of its own, the last rename wins.
    let unfinished = dir.join(format!("probe-{hash}.{}", std::process::id()));
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "-O", "--crate-name", "probe"]);
    for option in [
        "target-feature=+crt-static",
        "relocation-model=static",
        "panic=abort",
        "strip=symbols",
        "target-cpu=x86-64",
    ] {
        rustc.args(["-C", option]);
    }
    rustc.arg("-o").arg(&unfinished).arg(source.join("probe.rs"));
    run(&mut rustc, Duration::from_secs(120))?.success()?;
    fs::rename(&unfinished, &program).map_err(HarnessError::at("rename", &unfinished))?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn last_line_of_the_probe_is_read_and_other_text_is_an_error() {
        let answers =
            Answers::read("warning\n{\"a\":\"1\"}\n{\"try memfd\":\"EPERM\",\"b\":\"\"}\n").unwrap();
        assert_eq!(answers.get("try memfd"), "EPERM");
        assert_eq!(answers.get("a"), "");
        assert_eq!(answers.all("try ").collect::<Vec<_>>(), [("memfd", "EPERM")]);
        assert!(Answers::read("nothing").is_err());
    }
}
