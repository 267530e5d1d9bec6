//! Small C programs that are measured, built once per source.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use bulkhead_integration::{HarnessError, digest_of, run, workspace};

/// Where the program of `integration/benches/NAME/NAME.c` is.
pub(crate) fn program(name: &str, flags: &[&str]) -> Result<PathBuf, HarnessError> {
    let source = workspace().join(format!("integration/benches/{name}/{name}.c"));
    let text = fs::read(&source).map_err(HarnessError::at("read", &source))?;
    let hash: String = digest_of(&text).chars().skip("sha256:".len()).take(16).collect();
    let dir = workspace().join("target/deps").join(name);
    let program = dir.join(format!("{name}-{hash}"));
    if !program.exists() {
        fs::create_dir_all(&dir).map_err(HarnessError::at("create", &dir))?;
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-Wextra", "-s"]).args(flags).arg("-o").arg(&program).arg(&source);
        run(&mut cc, Duration::from_secs(60))?.success()?;
    }
    Ok(program)
}
