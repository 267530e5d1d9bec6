//! Containers of the compatible level beside runc's: what a request asks for is granted as runc would grant it.

#![allow(clippy::unwrap_used)] // A fixture of tests: what fails here fails the test.

use std::{path::Path, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    Answers, BULKHEAD, Bench, Cri, Image, Output, RUNC, Release, fixture::unique, heard, run, runcs,
};

/// An image whose user is root.
pub const ROOT: &str = "registry.test/team-a/root:1";

/// A section that grants the level to every tenant.
pub const COMPATIBLE: &str = "level = \"compatible\"\nnamespaces = [\"*\"]\nexec = [\"*\"]";

/// One at the hardened level.
pub const HARDENED: &str = "exec = [\"*\"]";

/// A daemon with [`ROOT`], and the policy for it.
pub struct Infra {
    /// Where it runs.
    pub bench: Bench,
    digest: String,
}

impl Infra {
    /// A daemon with the image; no policy yet.
    pub fn start(release: Release) -> Self {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let digest = bench.daemon.import(&Image::busybox(ROOT, "0:0").unwrap()).unwrap().manifest;
        Self { bench, digest }
    }

    /// Grants the image these lines.
    pub fn allow(&self, lines: &str) {
        self.bench.allow_digests(&[&self.digest], lines).unwrap();
    }

    /// Runs a command to its end.
    pub fn run(&self, runtime: &str, options: &[&str], command: &[&str]) -> Output {
        let id = self.bench.daemon.id(&fresh("run"));
        let mut args = vec!["run", "--rm", "--runtime", runtime];
        args.extend(options);
        args.extend([ROOT, &id]);
        args.extend(command);
        self.bench.daemon.ctr(&args).unwrap()
    }

    /// What the probe says as the first process.
    pub fn facts(&self, runtime: &str, options: &[&str]) -> Answers {
        let said = || Ok(self.run(runtime, options, &["/bin/probe", "facts"]).success()?.stdout);
        Answers::read(&heard(runtime, said).unwrap()).unwrap()
    }

    /// Starts a shell script whose spec was changed; its id.
    pub fn start_script(
        &self,
        runtime: &str,
        name: &str,
        script: &str,
        edit: impl FnOnce(&mut Value),
    ) -> String {
        // `ctr` would take a -c for its own.
        let id = self.bench.create_container(runtime, ROOT, name, &["/bin/true"]).unwrap();
        let with_script = |spec: &mut Value| {
            spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
            edit(spec);
        };
        self.bench.daemon.edit_spec(&id, with_script).unwrap();
        id
    }

    /// Runs it to its end.
    pub fn script(&self, runtime: &str, script: &str, edit: impl FnOnce(&mut Value)) -> Output {
        let id = self.start_script(runtime, &fresh("script"), script, edit);
        let output = self.bench.start_container(&id).unwrap();
        drop(self.bench.daemon.ctr(&["task", "delete", "-f", &id]));
        self.bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        output
    }

    /// Runs it in the background.
    pub fn background(
        &self,
        runtime: &str,
        name: &str,
        script: &str,
        edit: impl FnOnce(&mut Value),
    ) -> String {
        let id = self.start_script(runtime, name, script, edit);
        self.bench.daemon.ctr(&["task", "start", "-d", &id]).unwrap().success().unwrap();
        id
    }

    /// A command in the daemon's mount namespace, which is the node's to its containers.
    pub fn on_node(&self, command: &[&str]) -> Output {
        let mut line = Command::new("nsenter");
        line.arg(format!("--mount=/proc/{}/ns/mnt", self.bench.daemon.pid())).arg("--").args(command);
        run(&mut line, Duration::from_secs(60)).unwrap()
    }
}

/// A name that no other container has: runc's shim of 1.7 and later answers Delete before it has taken its socket away, and a
/// start of the same id finds the one that is about to end.
fn fresh(what: &str) -> String {
    format!("{what}{}", unique())
}

/// What both runtimes print is the same, and is not nothing.
#[track_caller]
pub fn same(infra: &Infra, script: &str, edit: impl Fn(&mut Value)) -> String {
    let ours = infra.script(BULKHEAD, script, &edit).success().unwrap();
    let runc = runcs(&ours.stdout, || infra.script(RUNC, script, &edit).success().unwrap().stdout);
    assert_eq!(ours.stdout, runc, "{script}");
    assert!(!ours.stdout.trim().is_empty(), "{script}");
    ours.stdout
}

/// Adds to a list of a spec.
pub fn push(spec: &mut Value, list: &str, entry: Value) {
    let list = spec.pointer_mut(list).unwrap();
    match list.as_array_mut() {
        Some(entries) => entries.push(entry),
        None => *list = json!([entry]),
    }
}

/// Adds a bind mount.
pub fn bind(spec: &mut Value, source: &Path, at: &str, options: &[&str]) {
    push(spec, "/mounts", json!({ "type": "bind", "source": source, "destination": at, "options": options }));
}
