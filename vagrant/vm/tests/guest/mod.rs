//! What the tests of a machine share: one containerd for all tests of a file, containers by request, files of groups.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each file of tests uses its own part of this"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{LazyLock, atomic::AtomicU32, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use bulkhead_integration::{ALLOWED, BULKHEAD, Bench, Cri, Output, Release, run, until};
use serde_json::Value;

/// How long something may take on a machine whose every instruction is translated.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Linux's version: major, minor.
pub fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    assert!(
        Path::new("/sys/fs/cgroup/cgroup.controllers").exists() && Path::new("/run/systemd/system").exists(),
        "these tests need cgroup v2 and systemd: run them by `make vm-test`"
    );
    // A containerd ends with the thread that started it: this one outlives every test.
    let (give, take) = mpsc::channel();
    thread::spawn(move || {
        give.send(Bench::start(Release::System, Cri::Off)).unwrap();
        loop {
            thread::park();
        }
    });
    take.recv().unwrap().unwrap()
});

/// The containerd of all tests of this file.
pub fn bench() -> &'static Bench {
    &BENCH
}

/// A container of the allowed image whose spec was edited; removed when it is dropped.
#[derive(Debug)]
pub struct Container {
    pub id: String,
    /// Pid of its init, on this machine.
    pub pid: u32,
    removed: bool,
}

impl Container {
    /// Creates it and starts its task; the error is that of the API.
    pub fn start(edit: impl FnOnce(&mut Value), command: &[&str]) -> bulkhead_integration::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let id = bench().create_container(BULKHEAD, ALLOWED, &name, &[])?;
        Self::of(id, |spec| {
            spec["process"]["args"] = command.into();
            edit(spec);
        })
    }

    fn of(id: String, edit: impl FnOnce(&mut Value)) -> bulkhead_integration::Result<Self> {
        bench().daemon.edit_spec(&id, edit)?;
        let tasks = bench().daemon.tasks()?;
        let mounts = tasks.mounts(&id)?;
        // A machine without KVM may be too slow for the judge's first look: what is unavailable is asked for again, as kubelet does.
        let mut created = tasks.create(&id, mounts.clone());
        for _ in 0..5 {
            match &created {
                Err(error) if error.to_string().contains("try again") => {
                    created = tasks.create(&id, mounts.clone());
                }
                _ => break,
            }
        }
        let pid = created?;
        let container = Self { id, pid, removed: false };
        tasks.start(&container.id)?;
        Ok(container)
    }

    /// One that sleeps until it is killed.
    pub fn sleeping(edit: impl FnOnce(&mut Value)) -> Self {
        Self::start(edit, &["/bin/probe", "pause"]).unwrap()
    }

    /// Its control group, as the kernel says.
    pub fn group(&self) -> PathBuf {
        let table = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap();
        let path = table.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        Path::new("/sys/fs/cgroup").join(path)
    }

    /// Runs a command in it.
    pub fn exec(&self, command: &[&str]) -> Output {
        bench().exec(&self.id, command).unwrap()
    }

    /// Its metrics, as `ctr` reads them.
    pub fn metrics(&self) -> Value {
        let output = bench().daemon.ctr(&["task", "metrics", "--format", "json", &self.id]).unwrap();
        let text = output.success().unwrap().stdout;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Kills and deletes the task, and keeps the container.
    pub fn end(&mut self) {
        let tasks = bench().daemon.tasks().unwrap();
        tasks.kill(&self.id, 9, true).unwrap();
        tasks.wait(&self.id).unwrap();
        self.delete();
    }

    /// Deletes a task that has ended, and keeps the container.
    pub fn delete(&mut self) {
        bench().daemon.tasks().unwrap().delete(&self.id).unwrap();
        self.removed = true;
    }

    /// Starts a task of the same container again.
    pub fn again(&self) -> Self {
        assert!(self.removed, "its task is still there");
        Self::of(self.id.clone(), |_| {}).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A machine is thrown away; what is left here would only use up its processor.
        if !self.removed
            && let Err(error) = bench().remove(&self.id)
        {
            eprintln!("remove {}: {error}", self.id);
        }
    }
}

/// A file of a control group.
pub fn read(group: &Path, file: &str) -> String {
    let path = group.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().to_owned()
}

/// The number behind a word in a file of a control group.
pub fn number(group: &Path, file: &str, word: &str) -> u64 {
    let text = read(group, file);
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("{word} in {file}: {text}"))
}

/// Waits for something of a machine that takes its time.
pub fn eventually(what: &str, mut ready: impl FnMut() -> bool) {
    until(what, PATIENCE, || Ok(ready())).unwrap();
}

/// What a shell does as a process in a control group: its standard output.
pub fn inside_group(group: &Path, script: &str) -> String {
    let script = format!("echo $$ >{}/cgroup.procs && {script}", group.display());
    let output = run(std::process::Command::new("sh").args(["-c", &script]), PATIENCE).unwrap();
    output.success().unwrap().stdout
}

/// `systemctl` with its arguments: standard output.
pub fn systemctl(args: &[&str]) -> String {
    let output = run(std::process::Command::new("systemctl").args(args), PATIENCE).unwrap();
    output.success().unwrap().stdout
}

/// `ctr events`, until it is dropped.
#[derive(Debug)]
pub struct Events {
    child: Child,
    file: PathBuf,
}

impl Events {
    /// Follows them from now on; `name` keeps tests apart.
    pub fn follow(name: &str) -> Self {
        let file = bench().daemon.dir().join(format!("events-{name}"));
        let to = fs::File::create(&file).unwrap();
        let mut command = bench().daemon.ctr_command(bench().daemon.tag(), &["events"]);
        let child = command.stdout(to).stderr(Stdio::null()).spawn().unwrap();
        let events = Self { child, file };
        // It says nothing when it is there: it is once it tells of something that we do over and over.
        let probe = format!("follows-{name}:1");
        eventually("ctr events", || {
            bench().daemon.ctr(&["images", "tag", ALLOWED, &probe]).unwrap();
            let told = events.all().contains("/images/create");
            bench().daemon.ctr(&["images", "rm", &probe]).unwrap();
            told
        });
        events
    }

    pub fn all(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// Waits for an event of a topic about a container.
    pub fn wait_for(&self, topic: &str, id: &str) {
        eventually(&format!("{topic} of {id}"), || {
            self.all().lines().any(|line| line.contains(topic) && line.contains(id))
        });
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).unwrap();
    }
}
