//! Where the attacks happen: one containerd, one image that policy allows, a volume, and a host to look at.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use bulkhead_integration::{
    Bench, Cri, Digests, Entry, HarnessError, Image, Layer, Output, Release, Result, answered, workspace,
};

use crate::{
    attacker,
    column::{Column, Phase},
};

/// The image that holds the attacker, for a column.
fn image_of(column: Column) -> String {
    format!("{}/attacker:{}", column.repository(), column.user())
}

/// A daemon with the attacker's image.
pub(crate) struct Arena {
    pub(crate) bench: Bench,
    /// Mounted at /data, writable, in every container.
    volume: PathBuf,
    /// runsc with its options: runc's shim can give it none.
    runsc: String,
    /// runc 1.1.11.
    runc_old: String,
    /// runc 1.0.0-rc6.
    runc_first: String,
    /// Manifest digests that policy allows: grows.
    allowed: Mutex<Vec<String>>,
    /// The attacker on this machine.
    pub(crate) program: PathBuf,
}

impl Arena {
    /// Starts the daemon, and allows the image by its digest.
    pub(crate) fn start() -> Result<Self> {
        let program = bulkhead_integration::attacker()?;
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
            // Waits with its log for a reader that the attacker is.
            Entry::File("bin/hostile", 0o755, b"#!/proc/self/exe --log=/tmp/held\n"),
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
            .map_err(HarnessError::at("mkdir", &volume))?;
        let runsc = runsc(bench.daemon.dir(), &component("runsc/usr/bin/runsc")?)?;
        let runc_old = component("runc-old/runc")?.display().to_string();
        let runc_first = component("runc-first/runc")?.display().to_string();
        let arena = Self { bench, volume, runsc, runc_old, runc_first, allowed: Mutex::default(), program };
        for column in [Column::Runc, Column::RuncNonRoot, Column::BulkheadCompatible] {
            arena.import(&arena.busybox(column, &image_of(column))?.with(layer.clone()))?;
        }
        Ok(arena)
    }

    /// Imports an image that policy allows from now on; all get the volume and may be exec'd into.
    pub(crate) fn import(&self, image: &Image) -> Result<()> {
        // One import at a time: the harness has one place for its tar. A panic of another thread left the list whole.
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.push(self.bench.daemon.import(image)?.manifest);
        let volume = self.volume.display();
        self.bench.daemon.policy(&format!(
            "version = 1\nmode = \"enforce\"\n[image]\n\
             \"registry.test/team-a/*\" = {{ digests = {allowed:?}, confine = \"tenant\" }}\n\
             \"registry.test/infra/*\" = {{ digests = {allowed:?}, confine = \"infra\" }}\n\
             [confine.tenant]\nexec = [\"*\"]\n\
             host_paths = [{{ path = \"{volume}\", access = \"read-write\" }}]\n\
             [confine.infra]\nlevel = \"compatible\"\nnamespaces = [\"*\"]\nexec = [\"*\"]\n"
        ))
    }

    /// A busybox image for a column. One digest under two names would be judged by both: each repository has its own.
    pub(crate) fn busybox(&self, column: Column, name: &str) -> Result<Image> {
        let own = Layer::of(&[Entry::File("repository", 0o644, column.repository().as_bytes())])?;
        Ok(Image::busybox(name, &column.user().to_string())?.with(own))
    }

    /// A name that no other image has.
    pub(crate) fn name(&self, column: Column, what: &str) -> String {
        format!("{}/{what}-{}:1", column.repository(), unique())
    }

    /// What chooses the runtime on `ctr`'s command line.
    pub(crate) fn runtime(&self, column: Column) -> Vec<&str> {
        match column {
            Column::Runsc => vec!["--runtime", column.runtime(), "--runc-binary", &self.runsc],
            Column::RuncOld => vec!["--runtime", column.runtime(), "--runc-binary", &self.runc_old],
            _ => vec!["--runtime", column.runtime()],
        }
    }

    /// As [`Self::runtime`], with the oldest runc in place of the old one.
    pub(crate) fn first_runtime(&self, column: Column) -> Vec<&str> {
        match column {
            Column::RuncOld => vec!["--runtime", column.runtime(), "--runc-binary", &self.runc_first],
            _ => self.runtime(column),
        }
    }

    /// Imports an image that policy does not allow.
    pub(crate) fn import_unallowed(&self, image: &Image) -> Result<Digests> {
        // Only held: the harness has one place for its tar.
        let _allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        self.bench.daemon.import(image)
    }

    /// The attacker's image for a column.
    pub(crate) fn image(&self, column: Column) -> String {
        image_of(column)
    }

    /// Mounted at /data in every container.
    pub(crate) fn volume(&self) -> &Path {
        &self.volume
    }

    /// Creates a container without a task; its id.
    pub(crate) fn create(&self, column: Column, image: &str, command: &[&str]) -> Result<String> {
        self.create_by(self.runtime(column), image, command)
    }

    /// As [`Self::create`], by a runtime of choice.
    pub(crate) fn create_by(&self, runtime: Vec<&str>, image: &str, command: &[&str]) -> Result<String> {
        let id = self.bench.daemon.id(&format!("made-{}", unique()));
        let mut arguments = vec!["container", "create"];
        arguments.extend(runtime);
        arguments.extend([image, &id]);
        arguments.extend(command);
        self.bench.daemon.ctr(&arguments)?.success()?;
        Ok(id)
    }

    /// A number that no other container, image or directory of this run has.
    pub(crate) fn next(&self) -> u32 {
        unique()
    }

    /// An empty directory of the host that nothing else uses.
    pub(crate) fn fresh_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.bench.daemon.dir().join(format!("{name}-{}", unique()));
        fs::create_dir(&path).map_err(HarnessError::at("mkdir", &path))?;
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
        match phase {
            Phase::Init => answered(column.runtime(), || {
                let (id, image) = (self.id_of(column), image_of(column));
                let mut arguments = self.request(column, options);
                arguments.extend(["--rm".to_owned(), image, id]);
                let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                arguments.extend(command);
                self.bench.daemon.ctr(&arguments)
            }),
            Phase::Exec => {
                self.exec_each(column, options, &[(&[], command)]).map(|mut outputs| outputs.swap_remove(0))
            }
        }
    }

    /// Runs commands in one container, one after the other, each with its options of `ctr task exec`; what the container
    /// said where it did not start.
    pub(crate) fn exec_each(
        &self,
        column: Column,
        options: &[&str],
        commands: &[(&[&str], &[&str])],
    ) -> Result<Vec<Output>> {
        let (id, started) = self.start_with(column, options, "pause")?;
        if !started.ok() {
            return Ok(vec![started]);
        }
        let exec = |(options, command): &(&[&str], &[&str])| {
            answered(column.runtime(), || {
                let name = format!("e{}", unique());
                let words =
                    [["task", "exec", "--exec-id", &name].as_slice(), options, &[&id], command].concat();
                self.bench.daemon.ctr(&words)
            })
        };
        let outputs = commands.iter().map(exec).collect();
        self.bench.remove(&id)?;
        outputs
    }

    /// Starts the attacker's image, to exec into; its id.
    pub(crate) fn start_task(&self, column: Column) -> Result<String> {
        self.start_task_of(column, "pause")
    }

    /// Starts the attacker's image with a command of the attacker that stays; its id.
    pub(crate) fn start_task_of(&self, column: Column, command: &str) -> Result<String> {
        let (id, started) = self.start_with(column, &[], command)?;
        started.success().map(|_| id)
    }

    /// The process of a container that the node knows as its first.
    pub(crate) fn pid_of(&self, id: &str) -> Result<u32> {
        Ok(self.bench.daemon.tasks()?.state(id, "")?.pid)
    }

    fn start_with(&self, column: Column, options: &[&str], command: &str) -> Result<(String, Output)> {
        let (id, image) = (self.id_of(column), image_of(column));
        let mut arguments = self.request(column, options);
        arguments.extend(["-d", &image, &id, "/bin/attacker", command].map(str::to_owned));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let started = self.bench.daemon.ctr(&arguments)?;
        Ok((id, started))
    }

    fn id_of(&self, column: Column) -> String {
        self.bench.daemon.id(&format!("{}-{}", column.name().replace(' ', "-"), unique()))
    }

    /// `ctr run` with what chooses a column, and the volume.
    pub(crate) fn request(&self, column: Column, options: &[&str]) -> Vec<String> {
        let volume = format!("type=bind,src={},dst=/data,options=rbind:rw", self.volume.display());
        let mut arguments = vec!["run", "--mount", &volume];
        arguments.extend(self.runtime(column));
        arguments.extend(column.options().iter().chain(options));
        arguments.into_iter().map(str::to_owned).collect()
    }
}

/// A script that runs gVisor on this machine: no control groups on the hybrid layout, and no network, which none has.
pub(crate) fn runsc(dir: &Path, program: &Path) -> Result<String> {
    let path = dir.join("runsc.sh");
    let text = format!(
        "#!/bin/sh\nexec {} --ignore-cgroups --network=none --platform=systrap \"$@\"\n",
        program.display()
    );
    bulkhead_integration::program(&path, text.as_bytes())?;
    Ok(path.display().to_string())
}

/// What deps.sh has put below target/deps.
pub(crate) fn component(name: &str) -> Result<PathBuf> {
    let path = workspace().join("target/deps").join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(HarnessError::Missing { what: path.display().to_string(), fix: "integration/scripts/deps.sh" })
}

fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
