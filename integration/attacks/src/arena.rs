//! Where the attacks happen: one containerd, one image that policy allows, a volume, and a host to look at.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bulkhead_integration::{
    BULKHEAD, Bench, Cri, Digests, Entry, HarnessError, Image, Layer, Output, Release, Result, UID,
};

use crate::{
    attacker,
    column::{Column, Phase},
};

/// The image that holds the attacker, by the user that it names.
fn image_of(user: u32) -> String {
    format!("registry.test/team-a/attacker:{user}")
}

/// A daemon with the attacker's image.
pub(crate) struct Arena {
    pub(crate) bench: Bench,
    /// Mounted at /data, writable, in every container.
    volume: PathBuf,
    /// Manifest digests that policy allows: grows.
    allowed: Mutex<Vec<String>>,
    /// The attacker on this machine.
    pub(crate) program: PathBuf,
}

impl Arena {
    /// Starts the daemon, and allows the image by its digest.
    pub(crate) fn start() -> Result<Self> {
        let program = attacker::build()?;
        let bench = Bench::start(Release::V2_1, Cri::Off)?;
        let (bytes, loader, library) = (
            attacker::bytes(&program)?,
            attacker::bytes(Path::new("/lib64/ld-linux-x86-64.so.2"))?,
            attacker::bytes(Path::new("/lib/x86_64-linux-gnu/libc.so.6"))?,
        );
        let echo = attacker::bytes(Path::new("/bin/echo"))?;
        let layer = Layer::of(&[
            Entry::File("bin/attacker", 0o755, &bytes),
            Entry::File("bin/setuid-id", 0o4755, &bytes),
            // For what loaders do: a program with an interpreter.
            Entry::Dir("lib64", 0o755),
            Entry::File("lib64/ld-linux-x86-64.so.2", 0o755, &loader),
            Entry::Dir("lib", 0o755),
            Entry::Dir("lib/x86_64-linux-gnu", 0o755),
            Entry::File("lib/x86_64-linux-gnu/libc.so.6", 0o755, &library),
            Entry::File("bin/dynamic-echo", 0o755, &echo),
        ])?;
        let volume = bench.daemon.dir().join("volume");
        let anyone = Permissions::from_mode(0o777);
        fs::create_dir(&volume)
            .and_then(|()| fs::set_permissions(&volume, anyone))
            .map_err(|source| HarnessError::Path { call: "mkdir", path: volume.clone(), source })?;
        let arena = Self { bench, volume, allowed: Mutex::default(), program };
        for user in [0, UID] {
            let image = Image::busybox(&image_of(user), &user.to_string())?.with(layer.clone());
            arena.import(&image)?;
        }
        Ok(arena)
    }

    /// Imports an image that policy allows from now on; all get the volume and may be exec'd into.
    pub(crate) fn import(&self, image: &Image) -> Result<()> {
        // One import at a time: the harness has one place for its tar. A panic of another thread left the list whole.
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.push(self.bench.daemon.import(image)?.manifest);
        let digests: Vec<&str> = allowed.iter().map(String::as_str).collect();
        let volume = self.volume.display();
        let lines =
            format!("exec = [\"*\"]\nhost_paths = [{{ path = \"{volume}\", access = \"read-write\" }}]");
        self.bench.allow_digests(&digests, &lines)
    }

    /// Imports an image that policy does not allow.
    pub(crate) fn import_unallowed(&self, image: &Image) -> Result<Digests> {
        // Only held: the harness has one place for its tar.
        let _allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        self.bench.daemon.import(image)
    }

    /// The attacker's image for a column.
    pub(crate) fn image(&self, column: Column) -> String {
        image_of(column.user())
    }

    /// Mounted at /data in every container.
    pub(crate) fn volume(&self) -> &Path {
        &self.volume
    }

    /// A number that no other container, image or directory of this run has.
    pub(crate) fn next(&self) -> u32 {
        unique()
    }

    /// An empty directory of the host that nothing else uses.
    pub(crate) fn fresh_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.bench.daemon.dir().join(format!("{name}-{}", unique()));
        fs::create_dir(&path).map_err(|source| HarnessError::Path {
            call: "mkdir",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    /// Removes a container, whatever state its task is in.
    pub(crate) fn forget(&self, id: &str) -> Result<()> {
        // Either may be gone already; what matters is checked by `assert_nothing_left`.
        drop(self.bench.daemon.ctr(&["task", "delete", "-f", id])?);
        drop(self.bench.daemon.ctr(&["container", "delete", id])?);
        Ok(())
    }

    /// Runs a command of the image in a column, as its first process or by exec, to its end.
    pub(crate) fn run(&self, column: Column, phase: Phase, command: &[&str]) -> Result<Output> {
        self.run_with(column, phase, &[], command)
    }

    /// As [`Self::run`], with more options of `ctr run`.
    pub(crate) fn run_with(
        &self,
        column: Column,
        phase: Phase,
        options: &[&str],
        command: &[&str],
    ) -> Result<Output> {
        let id = self.bench.daemon.id(&format!(
            "{}-{}-{}",
            column.name().replace(' ', "-"),
            phase.name(),
            unique()
        ));
        let image = image_of(column.user());
        let volume = format!("type=bind,src={},dst=/data,options=rbind:rw", self.volume.display());
        let mut arguments = vec!["run", "--runtime", column.runtime(), "--mount", &volume];
        arguments.extend(column.options().iter().chain(options));
        match phase {
            Phase::Init => {
                arguments.extend(["--rm", image.as_str(), &id]);
                arguments.extend(command);
                self.bench.daemon.ctr(&arguments)
            }
            Phase::Exec => {
                arguments.extend(["-d", image.as_str(), &id, "/bin/attacker", "pause"]);
                let started = self.bench.daemon.ctr(&arguments)?;
                if !started.ok() {
                    return Ok(started);
                }
                let output = self.bench.exec(&id, command);
                self.bench.remove(&id)?;
                output
            }
        }
    }
}

/// Whether a column is one of ours.
pub(crate) fn is_ours(column: Column) -> bool {
    column.runtime() == BULKHEAD
}

fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
