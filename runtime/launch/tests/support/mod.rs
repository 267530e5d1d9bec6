//! A server as small as can be: forks the zygote, launches containers from a busybox root, reaps everything.

#![allow(unreachable_pub, clippy::unwrap_used)]

mod container;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{PermissionsExt, symlink},
    },
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use bulkhead_cgroup::{Cgroup, CgroupPath};
use bulkhead_launch::{Created, ExecJob, Kept, LaunchError, Running, StartError, Stdio, Stream, Zygote};
use bulkhead_model::{ConfineSpec, ContainerId, Mount};
use bulkhead_plan::ExecPlan;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use oci_spec::runtime::{Process, Spec};
use serde_json::Value;

pub use self::container::Container;
use self::container::{confine, spec};

pub const PATIENCE: Duration = Duration::from_secs(60);
/// `struct sock_filter` of one instruction: return SECCOMP_RET_ALLOW.
pub const ALLOW: u64 = 0x7fff_0000 << 32 | 0x06;
pub const UID: u32 = 65532;

/// The server of a test run.
pub struct World {
    pub zygote: Zygote,
    pub dir: tempfile::TempDir,
    exits: BTreeMap<u32, i32>,
    count: u32,
}

impl World {
    pub fn new() -> Self {
        Self::on(Zygote::fork().unwrap())
    }

    pub fn on(zygote: Zygote) -> Self {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let dir = tempfile::Builder::new().prefix("bulkhead-launch-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let image = dir.path().join("image");
        for sub in ["bin", "proc", "sys", "dev", "tmp", "etc", "run", "home"] {
            fs::create_dir_all(image.join(sub)).unwrap();
        }
        fs::copy("/bin/busybox", image.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "cat", "ls", "sleep", "id", "echo", "mount", "stat", "tty", "readlink", "head",
            "grep", "env", "dd", "kill", "hostname", "ps", "touch",
        ] {
            symlink("busybox", image.join("bin").join(applet)).unwrap();
        }
        fs::write(image.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:65532:65532::/home:/bin/sh\n")
            .unwrap();
        fs::write(image.join("bin/garbage"), "\x01\x02\x03 not a program").unwrap();
        fs::set_permissions(image.join("bin/garbage"), fs::Permissions::from_mode(0o755)).unwrap();
        bulkhead_launch::prepare_canary(&dir.path().join("canary")).unwrap();
        fs::create_dir(dir.path().join("tasks")).unwrap();
        Self { zygote, dir, exits: BTreeMap::new(), count: 0 }
    }

    /// A container whose program runs `args`; `change` may alter its spec.
    pub fn container(&mut self, args: &[&str], change: impl FnOnce(&mut Value)) -> Container {
        self.count += 1;
        let id: ContainerId = format!("t{}-{}", std::process::id(), self.count).parse().unwrap();
        let task_dir = self.dir.path().join("tasks").join(id.as_str());
        let mut spec = spec(args, self.dir.path());
        change(&mut spec);
        let spec: Spec = serde_json::from_value(spec).unwrap();
        let layer = self.dir.path().join(format!("layer-{id}"));
        for sub in ["upper", "work"] {
            fs::create_dir_all(layer.join(sub)).unwrap();
        }
        let image = self.dir.path().join("image");
        let rootfs = Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: PathBuf::new(),
            options: vec![
                "index=off".to_owned(),
                format!("workdir={}", layer.join("work").display()),
                format!("upperdir={}", layer.join("upper").display()),
                format!("lowerdir={}", image.display()),
            ],
        };
        let cgroup: CgroupPath = format!("/bulkhead-test-{}/{id}", std::process::id()).parse().unwrap();
        Container {
            confine: confine(&spec),
            resources: spec.linux().as_ref().unwrap().resources().clone().unwrap_or_default(),
            id,
            task_dir,
            layer,
            spec,
            rootfs: vec![rootfs],
            cgroup,
            execs: 0,
        }
    }

    pub fn cgroup(&self, container: &Container) -> Cgroup {
        self.zygote.cgroups().cgroup(&container.cgroup)
    }

    pub fn create(&self, container: &Container, stdio: &Stdio) -> Result<Created, LaunchError> {
        self.zygote.create(&container.job(&container.plan(), stdio))?.wait(PATIENCE)
    }

    /// Creates and starts a container with its output in a pipe, and waits for its end.
    pub fn run(&mut self, container: &Container) -> Result<(i32, String), String> {
        let created = self.create(container, &OUTPUTS).map_err(|e| format!("create: {e}"));
        let created = created.inspect_err(|_| self.clean(container))?;
        let pid = created.pid;
        let started = created.gate.release().map_err(StartError::from).and_then(|p| p.wait(PATIENCE));
        if let Err(error) = started {
            self.exit_of(pid);
            self.clean(container);
            return Err(format!("start: {error}"));
        }
        let output = output_of(created.kept);
        let code = self.exit_of(pid);
        self.clean(container);
        Ok((code, output))
    }

    /// Starts a container that stays.
    pub fn start(&mut self, container: &Container) -> Alive {
        let created = self.create(container, &NO_STDIO).unwrap();
        let (pid, pidfd) = (created.pid, created.pidfd);
        created.gate.release().unwrap().wait(PATIENCE).unwrap();
        Alive { pid, pidfd }
    }

    /// Runs one more process in a container and waits for its end.
    pub fn exec(
        &mut self,
        container: &mut Container,
        alive: &Alive,
        args: &[&str],
    ) -> Result<(i32, String), String> {
        let running = self.exec_start(container, alive, args, &OUTPUTS).map_err(|e| e.to_string())?;
        let output = output_of(running.kept);
        Ok((self.exit_of(running.pid), output))
    }

    pub fn exec_start(
        &mut self,
        container: &mut Container,
        alive: &Alive,
        args: &[&str],
        stdio: &Stdio,
    ) -> Result<Running, StartError> {
        container.execs += 1;
        let exec: ContainerId = format!("e{}", container.execs).parse().unwrap();
        let mut process = container.spec.process().clone().unwrap();
        process.set_args(Some(args.iter().map(|s| (*s).to_owned()).collect()));
        process.set_terminal(Some(stdio.terminal));
        self.exec_process(container, alive, &exec, &process, stdio)
    }

    pub fn exec_process(
        &self,
        container: &Container,
        alive: &Alive,
        exec: &ContainerId,
        process: &Process,
        stdio: &Stdio,
    ) -> Result<Running, StartError> {
        self.zygote
            .exec(&ExecJob {
                container: &container.id,
                exec,
                task_dir: &container.task_dir,
                init_pid: alive.pid,
                init_pidfd: alive.pidfd.as_fd(),
                plan: &ExecPlan::unjudged(process.clone(), ConfineSpec::Hardened(container.confine.clone())),
                cgroup: &container.cgroup,
                stdio,
            })?
            .wait(PATIENCE)
    }

    /// Waits for one process; all others that end meanwhile are remembered.
    pub fn exit_of(&mut self, pid: u32) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.reap();
            if let Some(code) = self.exits.remove(&pid) {
                return code;
            }
            assert!(Instant::now() < deadline, "process {pid} did not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The same without sleeping between two looks: for measurements.
    #[allow(dead_code)]
    pub fn exit_of_now(&mut self, pid: u32) -> i32 {
        while !self.exits.contains_key(&pid) {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) => self.exits.insert(pid.as_raw() as u32, code),
                other => panic!("waitpid: {other:?}"),
            };
        }
        self.exits.remove(&pid).unwrap()
    }

    pub fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.exits.insert(pid.as_raw() as u32, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.exits.insert(pid.as_raw() as u32, 128 + signal as i32)
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                other => panic!("waitpid: {other:?}"),
            };
        }
    }

    pub fn stop(&mut self, container: &Container, alive: Alive) {
        match kill(Pid::from_raw(alive.pid as i32), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("kill: {error}"),
        }
        self.exit_of(alive.pid);
        self.clean(container);
    }

    /// What a server does when a container is gone or never was.
    pub fn clean(&mut self, container: &Container) {
        let cgroup = self.cgroup(container);
        cgroup.kill_all().unwrap_or_else(|error| assert!(error.is_not_found(), "{error}"));
        let deadline = Instant::now() + PATIENCE;
        while !cgroup.procs().unwrap().is_empty() {
            self.reap();
            assert!(Instant::now() < deadline, "processes are left in the cgroup");
        }
        cgroup.remove().unwrap();
        fs::remove_dir_all(&container.task_dir).unwrap();
        fs::remove_dir_all(&container.layer).unwrap();
    }

    /// Everything that a launch could leave behind.
    pub fn footprint(&mut self) -> BTreeMap<&'static str, usize> {
        std::thread::sleep(Duration::from_millis(20));
        self.reap();
        let count = |path: &str| fs::read_dir(path).map(|dir| dir.count()).unwrap_or(0);
        let cgroups: usize = fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .map(|entry| {
                let dir = entry.unwrap().path().join(format!("bulkhead-test-{}", std::process::id()));
                fs::read_dir(dir)
                    .map(|d| d.filter(|e| e.as_ref().unwrap().path().is_dir()).count())
                    .unwrap_or(0)
            })
            .sum();
        let children =
            fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
        let (mounts, own) =
            (fs::read_to_string("/proc/self/mountinfo").unwrap(), self.dir.path().to_string_lossy());
        BTreeMap::from([
            // Others on this machine mount things at the same time.
            ("mounts", mounts.lines().filter(|line| line.contains(&*own)).count()),
            ("cgroups", cgroups),
            ("children", children.split_whitespace().count()),
            ("descriptors", count("/proc/self/fd")),
            ("descriptors of the zygote", count(&format!("/proc/{}/fd", self.zygote.pid()))),
            ("directories", count(&self.dir.path().join("tasks").display().to_string())),
        ])
    }
}

pub const NO_STDIO: Stdio = Stdio::NULL;

/// Both outputs in pipes.
pub const OUTPUTS: Stdio = Stdio { stdout: Stream::Pipe, stderr: Stream::Pipe, ..Stdio::NULL };

/// A terminal, and nothing behind it.
pub const TERMINAL: Stdio = Stdio { terminal: true, ..Stdio::NULL };

/// Standard output to its end, then standard error.
pub fn output_of(kept: Kept) -> String {
    [kept.stdout, kept.stderr].into_iter().filter_map(|ends| ends.reader).map(read_all).collect()
}

/// A container that runs.
pub struct Alive {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

pub fn read_all(fd: OwnedFd) -> String {
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// Reads from a terminal's master until `needle` was seen.
pub fn read_until(fd: &OwnedFd, needle: &str) -> String {
    let mut text = String::new();
    let deadline = Instant::now() + PATIENCE;
    let mut file = File::from(fd.try_clone().unwrap());
    while !text.contains(needle) {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        let count = poll(&mut ready, PollTimeout::try_from(left).unwrap()).unwrap();
        assert!(count > 0, "{needle:?} is not in {text:?}");
        let mut buffer = [0; 1024];
        match file.read(&mut buffer) {
            Ok(0) => panic!("end before {needle:?}: {text:?}"),
            Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
            Err(error) => panic!("{error} before {needle:?}: {text:?}"),
        }
    }
    text
}

pub fn write_all(fd: &OwnedFd, text: &str) {
    File::from(fd.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
}

/// Removes the groups that this process's were below.
pub fn remove_parents() {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
        let dir = hierarchy.unwrap().path().join(format!("bulkhead-test-{}", std::process::id()));
        assert!(!dir.exists() || fs::remove_dir(&dir).is_ok(), "{} is not empty", dir.display());
    }
}

/// One test.
pub type Test = fn(&mut World);

/// Runs every test and prints what cargo's own harness would.
pub fn main(world: &mut World, tests: &[(&str, Test)]) {
    let filter = std::env::args().nth(1).filter(|arg| !arg.starts_with('-'));
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in tests {
        if filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let before = world.footprint();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            test(world);
            // What has ended may not be a zombie yet.
            let deadline = Instant::now() + PATIENCE;
            let mut after = world.footprint();
            while after != before && Instant::now() < deadline {
                after = world.footprint();
            }
            assert_eq!(after, before, "something was left behind");
        }));
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(_) => {
                println!("test {name} ... FAILED");
                failed.push(*name);
            }
        }
    }
    remove_parents();
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        failed.len()
    );
    if !failed.is_empty() {
        std::process::exit(101);
    }
}

#[allow(dead_code)]
pub fn shell(command: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[allow(dead_code)]
pub fn raw(fd: &OwnedFd) -> i32 {
    fd.as_raw_fd()
}
