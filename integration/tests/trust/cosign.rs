//! The real cosign, with a key of its own and no network but the registry's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{Output, run, workspace};

const WITHIN: Duration = Duration::from_secs(60);

/// A cosign with its home.
pub(crate) struct Cosign {
    version: u32,
    home: PathBuf,
}

impl Cosign {
    pub(crate) fn new(version: u32, home: &Path) -> Self {
        fs::create_dir_all(home).unwrap();
        let cosign = Self { version, home: home.to_owned() };
        cosign.run(&["generate-key-pair"]);
        if version >= 3 {
            cosign.run(&["signing-config", "create", "--out", "sc.json"]);
            cosign.run(&["trusted-root", "create", "--out", "tr.json"]);
        }
        cosign
    }

    /// What policy names.
    pub(crate) fn public_key(&self) -> String {
        fs::read_to_string(self.home.join("cosign.pub")).unwrap()
    }

    /// Signs an image of a registry by its digest.
    pub(crate) fn sign(&self, image: &str) {
        let how: &[&str] = match self.version {
            2 => &["--tlog-upload=false"],
            _ => &["--signing-config", "sc.json", "--trusted-root", "tr.json"],
        };
        self.run(&[&["sign", "-y", "--key", "cosign.key"], how, &[image]].concat());
    }

    /// `cosign save`.
    pub(crate) fn save(&self, image: &str, dir: &Path) {
        self.run(&["save", "--dir", &dir.to_string_lossy(), image]);
    }

    fn run(&self, words: &[&str]) -> Output {
        let program = workspace().join(format!("target/deps/cosign-{}/usr/bin/cosign", self.version));
        let mut command = Command::new(program);
        command.args(words).current_dir(&self.home).env("HOME", &self.home).env("COSIGN_PASSWORD", "");
        command.env("DOCKER_CONFIG", &self.home);
        run(&mut command, WITHIN).unwrap().success().unwrap()
    }
}
