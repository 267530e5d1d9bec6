//! A private containerd: its own directories, socket, configuration and mount namespace.
//!
//! ```text
//! start ─► unshare mounts, tmpfs on /run/containerd ─► containerd ─► ready ─► tests ─► drop: kill by tag, remove
//! ```
//! The mount namespace is shared within itself, as the host's is under systemd, so that a mount that leaks is seen
//! where it would hurt. Shim sockets live in /run/containerd/s whatever the state directory: here that is a tmpfs of
//! the daemon's own. Everything it starts carries its tag and is ended when it is dropped, after a panic too.

use std::{
    fs,
    os::fd::AsRawFd as _,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::{
    HarnessError, Result,
    config::{self, Cri, Places},
    image::{Digests, Image},
    leftovers::Mountpoints,
    pods::Pod,
    run::{self, Output},
    tag,
    tools::{Release, Tools, bulkhead_dir, cni_dir},
};

/// How long a daemon may take to answer.
const READY: Duration = Duration::from_secs(180);

/// How long one `ctr` call may take.
const CTR: Duration = Duration::from_secs(180);

/// The kubelet's directory: in the daemon's mount namespace it is one of the daemon's own.
const KUBELET: &str = "/var/lib/kubelet";

/// The name of the sandbox image of pods.
pub const PAUSE: &str = "registry.test/pause:1";

/// What a containerd finds around itself that is not as on the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// Its control groups.
    pub hierarchies: Hierarchies,
    /// Where Bulkhead keeps what does not outlive a boot.
    pub run: RunDir,
    /// More CRI handlers: runc's shim with another runtime binary.
    pub handlers: &'a [(&'a str, &'a Path)],
    /// More CRI handlers: of runc's type, with the shim at a path.
    pub shims: &'a [(&'a str, &'a Path)],
    /// The handler of pods that name none: runc's, where this is not said.
    pub default_handler: Option<&'a str>,
    /// A network namespace of its own, by a path: its pods are then on a bridge in it.
    pub network: Option<&'a Path>,
}

/// Which control groups a containerd and its shims see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hierarchies {
    /// Those of the host.
    #[default]
    AsOnHost,
    /// Without the one of version 2 on a hybrid host: crun refuses it where it holds a controller.
    V1Only,
}

/// Where `/run/bulkhead` is. runc's state lies in `/run/containerd`, which is a tmpfs here always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunDir {
    /// On the disk, with the rest of the daemon's directory: seen from outside of its mount namespace.
    #[default]
    Disk,
    /// On a tmpfs, as /run of a node is.
    Tmpfs,
}

/// A containerd of its own; dropped, it is gone with all it started.
#[derive(Debug)]
pub struct Containerd {
    tag: String,
    dir: PathBuf,
    tools: Tools,
    cri: Cri,
    child: Child,
    pub(crate) mounts_at_start: Mountpoints,
}

impl Containerd {
    /// Starts `release` and waits until it answers.
    pub fn start(release: Release, cri: Cri) -> Result<Self> {
        Self::start_in(release, cri, &Surroundings::default())
    }

    /// As [`Self::start`], in surroundings that are not the host's own.
    pub fn start_in(release: Release, cri: Cri, around: &Surroundings<'_>) -> Result<Self> {
        tag::need_root()?;
        tag::sweep()?;
        let tools = Tools::of(release)?;
        let tag = tag::fresh();
        let dir = tag::directory(&tag);
        directory(&dir)?;
        directory(Path::new("/run/containerd"))?;
        let default = around.default_handler.unwrap_or("runc");
        let (handlers, shims) = (around.handlers, around.shims);
        let places = Places { dir: &dir, cni: cni_dir()?, pause: PAUSE, handlers, shims, default };
        write(&dir.join("config.toml"), &config::config(tools.version, cri, &places))?;
        directory(&dir.join("cni"))?;
        directory(&dir.join("bin"))?;
        let number = tag.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let network = match around.network {
            Some(_) => config::bridge(&dir),
            None => config::network(&dir, number),
        };
        write(&dir.join("cni/10-test.conflist"), &network)?;
        directory(&dir.join("kubelet"))?;
        directory(Path::new(KUBELET))?;
        let child = spawn(&tools, &tag, &dir, around)?;
        let mut daemon = Self { tag, dir, tools, cri, child, mounts_at_start: Mountpoints::default() };
        daemon.wait_until_ready()?;
        if cri == Cri::On {
            daemon.import_in("k8s.io", &Image::pause(PAUSE)?)?;
        }
        daemon.mounts_at_start = Mountpoints::of(daemon.pid())?;
        Ok(daemon)
    }

    /// Kills the daemon and starts it again on the same directories, in the same mount namespace. What its shims run
    /// goes on meanwhile.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_after(|| {})
    }

    /// As [`Self::restart`], with something done while no daemon is there.
    pub fn restart_after(&mut self, meanwhile: impl FnOnce()) -> Result<()> {
        self.restart_by(Signal::SIGKILL, || {
            meanwhile();
            Ok(())
        })
    }

    /// As [`Self::restart_after`], ended by that signal.
    pub fn restart_by(&mut self, end: Signal, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        // Open, they outlive the daemon, should no shim be in them.
        let open = |name| {
            let path = format!("/proc/{}/ns/{name}", self.pid());
            fs::File::open(&path).map_err(HarnessError::at("open", &path))
        };
        let (mounts, network) = (open("mnt")?, open("net")?);
        let failed = |source| HarnessError::Run { program: "containerd".to_owned(), source };
        // No child's pid is another's before it is waited for.
        let pid = Pid::from_raw(self.child.id().cast_signed());
        signal::kill(pid, end).map_err(|errno| failed(errno.into()))?;
        self.child.wait().map_err(failed)?;
        meanwhile()?;
        let socket = self.socket();
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(HarnessError::at("remove", socket)(error));
            }
            _ => {}
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter"]);
        for (name, namespace) in [("net", &network), ("mount", &mounts)] {
            command.arg(format!("--{name}=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
        }
        command.arg("--").arg(&self.tools.containerd).arg("-c").arg(self.dir.join("config.toml"));
        self.child = environment(&mut command, &self.tools, &self.tag, &self.dir)?.spawn().map_err(failed)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let socket = self.socket();
        run::until("the start of containerd", READY, || {
            let ended = self.child.try_wait().map_err(HarnessError::at("wait for", "containerd"))?;
            if let Some(status) = ended {
                let outcome = format!("{status}\n{}", self.log());
                return Err(HarnessError::Command { line: "containerd".to_owned(), outcome });
            }
            Ok(socket.exists())
        })?;
        run::until("an answer of containerd", READY, || Ok(self.ctr(&["version"])?.ok()))?;
        if self.cri == Cri::On {
            let pods = self.pods()?;
            run::until("CRI with a network", READY, || Ok(pods.ready().unwrap_or(false)))?;
        }
        Ok(())
    }

    /// What names this daemon everywhere; also its containerd namespace for `ctr`.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// An id for a container that carries the tag.
    #[must_use]
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.tag)
    }

    /// Pid of the daemon.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The daemon's directory; what is below it goes with the daemon.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its API socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// `BULKHEAD_ROOT` of every shim it starts.
    #[must_use]
    pub fn bulkhead_root(&self) -> PathBuf {
        self.dir.join("bulkhead")
    }

    /// Makes a directory of a pod as the kubelet does: where it is for the harness, and for containerd.
    pub fn kubelet_dir(&self, pod: &Pod, below: &str) -> Result<(PathBuf, PathBuf)> {
        let path = Path::new("pods").join(pod.uid()).join(below);
        let here = self.dir.join("kubelet").join(&path);
        directory(&here)?;
        Ok((here, Path::new(KUBELET).join(path)))
    }

    /// Major and minor version.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        self.tools.version
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("containerd.log")).unwrap_or_default()
    }

    /// `ctr` in the daemon's own namespace.
    pub fn ctr(&self, args: &[&str]) -> Result<Output> {
        self.ctr_in(&self.tag, args)
    }

    /// `ctr` in a namespace of containerd.
    pub fn ctr_in(&self, namespace: &str, args: &[&str]) -> Result<Output> {
        run::run(&mut self.ctr_command(namespace, args), CTR)
    }

    /// `ctr` on a terminal of its own, with the words typed into it.
    pub fn ctr_on_terminal(&self, args: &[&str]) -> Result<Output> {
        let command = self.ctr_command(&self.tag, args);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ");
        run::run(Command::new("script").args(["-qefc", &line, "/dev/null"]), CTR)
    }

    /// The command that [`Self::ctr_in`] runs: inside the daemon's mount namespace, where the FIFOs are.
    #[must_use]
    pub fn ctr_command(&self, namespace: &str, args: &[&str]) -> Command {
        let mut command = self.inside(&self.tools.ctr);
        command.arg("-a").arg(self.socket()).args(["-n", namespace]).args(args);
        command
    }

    /// The `bulkhead` command, asked about this daemon.
    pub fn bulkhead(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(bulkhead_dir()?.join("bulkhead"));
        command.arg("--root").arg(self.bulkhead_root()).args(args);
        command.arg("--containerd-config").arg(self.dir.join("config.toml"));
        command.arg("--containerd").arg(&self.tools.containerd).arg("--address").arg(self.socket());
        run::run(&mut command, CTR)
    }

    /// A command inside the daemon's mount and network namespaces.
    #[must_use]
    pub fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = |name| format!("/proc/{}/ns/{name}", self.pid());
        command.arg(format!("--net={}", namespace("net"))).arg(format!("--mount={}", namespace("mnt")));
        command.arg("--").arg(program);
        command
    }

    /// A command inside the daemon's namespaces, with the environment in which the daemon starts its shims.
    #[must_use]
    pub fn as_daemon(&self, program: &Path) -> Command {
        let mut command = self.inside(program);
        variables(&mut command, &self.tools, &self.tag, &self.dir);
        command
    }

    /// Imports an image into the daemon's own namespace and unpacks it.
    pub fn import(&self, image: &Image) -> Result<Digests> {
        self.import_in(&self.tag, image)
    }

    /// Imports an image and unpacks it.
    pub fn import_in(&self, namespace: &str, image: &Image) -> Result<Digests> {
        let path = self.dir.join("import.tar");
        let digests = image.write(&path)?;
        let import = || self.ctr_in(namespace, &["images", "import", &path.to_string_lossy()]);
        let mut output = import()?;
        // containerd 1.6 collects the snapshots of the name's former image while it unpacks on top of them.
        for _ in 0..3 {
            if output.ok() || !output.stderr.contains("parent snapshot") {
                break;
            }
            output = import()?;
        }
        output.success()?;
        fs::remove_file(&path).map_err(HarnessError::at("remove", &path))?;
        Ok(digests)
    }

    /// A runtime type that starts Bulkhead's shim with another address of containerd's API.
    pub fn runtime_with_api_at(&self, name: &str, socket: &Path) -> Result<String> {
        let shim = bulkhead_dir()?.join("containerd-shim-bulkhead-v2");
        let script = format!(
            "#!/bin/sh\nexport GRPC_ADDRESS={socket}\nbefore=\nfor word; do\n  shift\n  \
             [ \"$before\" != -address ] || word={socket}\n  before=$word\n  set -- \"$@\" \"$word\"\ndone\n\
             exec {shim} \"$@\"\n",
            socket = socket.display(),
            shim = shim.display()
        );
        self.runtime(name, &script)
    }

    /// A runtime type whose shim is a script.
    pub fn runtime(&self, name: &str, script: &str) -> Result<String> {
        let path = self.dir.join("bin").join(format!("containerd-shim-{name}-v2"));
        program(&path, script.as_bytes())?;
        Ok(format!("io.containerd.{name}.v2"))
    }

    /// The file of a blob in containerd's content store.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let store = self.dir.join("root/io.containerd.content.v1.content/blobs/sha256");
        store.join(digest.trim_start_matches("sha256:"))
    }

    /// Writes the node's policy.
    pub fn policy(&self, text: &str) -> Result<()> {
        let dir = self.bulkhead_root().join("etc/bulkhead");
        directory(&dir)?;
        write(&dir.join("policy.toml"), text)
    }

    /// Writes a tenant's policy.
    pub fn tenant_policy(&self, namespace: &str, text: &str) -> Result<()> {
        let dir = self.bulkhead_root().join("etc/bulkhead/tenants");
        directory(&dir)?;
        write(&dir.join(format!("{namespace}.toml")), text)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| !is_noise(line)).collect();
            eprintln!("--- end of containerd's log ({:?}) ---", self.tools.version);
            lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| eprintln!("{line:.400}"));
        }
        // SIGTERM first would have it save state that nobody reads again.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended.map_err(HarnessError::at("kill", "containerd")).and(tag::clean(&self.tag)) {
            eprintln!("harness: {error}");
        }
    }
}

fn is_noise(line: &str) -> bool {
    ["loading plugin", "skip loading plugin", "serving...", "garbage collect"]
        .iter()
        .any(|word| line.contains(word))
}

fn spawn(tools: &Tools, tag: &str, dir: &Path, around: &Surroundings<'_>) -> Result<Child> {
    let unified = Path::new("/sys/fs/cgroup/unified");
    let hidden = match around.hierarchies {
        Hierarchies::V1Only if unified.exists() => format!("umount {} && ", unified.display()),
        Hierarchies::V1Only | Hierarchies::AsOnHost => String::new(),
    };
    // As Debian's unit starts it: in a control group of its own, below which systemd leaves everything alone.
    let scope = if Path::new("/run/systemd/system").exists() {
        "systemd-run --quiet --scope --collect --property=Delegate=yes --"
    } else {
        ""
    };
    let run = match around.run {
        RunDir::Disk => String::new(),
        RunDir::Tmpfs => {
            let run = dir.join("bulkhead/run");
            directory(&run)?;
            format!("mount -t tmpfs -o mode=0755 bulkhead {} && ", run.display())
        }
    };
    let script = format!(
        "{hidden}{run}mount -t tmpfs -o mode=0711 containerd /run/containerd && mount --bind {}/kubelet {KUBELET} && \
         mount --make-rshared / && exec {scope} \"$0\" -c \"$1\"",
        dir.display()
    );
    let mut command = Command::new("setpriv");
    // Dies with the thread that started it, should that be killed.
    command.args(["--pdeathsig", "KILL", "--"]);
    if let Some(network) = around.network {
        command.arg("nsenter").arg(format!("--net={}", network.display())).arg("--");
    }
    command.args(["unshare", "--mount", "--propagation", "private", "--"]);
    command.args(["sh", "-c", &script]).arg(&tools.containerd).arg(dir.join("config.toml"));
    let started = environment(&mut command, tools, tag, dir)?.spawn();
    started.map_err(|source| HarnessError::Run { program: "containerd".to_owned(), source })
}

/// What a daemon finds around itself, and where its log goes.
fn environment<'a>(
    command: &'a mut Command,
    tools: &Tools,
    tag: &str,
    dir: &Path,
) -> Result<&'a mut Command> {
    let log = dir.join("containerd.log");
    let opened = fs::OpenOptions::new().create(true).append(true).open(&log);
    let log = opened.map_err(HarnessError::at("open", &log))?;
    variables(command, tools, tag, dir);
    Ok(command.stdin(Stdio::null()).stderr(log).stdout(Stdio::null()).process_group(0))
}

fn variables(command: &mut Command, tools: &Tools, tag: &str, dir: &Path) {
    command
        .env_clear()
        .env("PATH", format!("{}:{}", dir.join("bin").display(), tools.path))
        .env("HOME", "/root")
        .env(tag::VARIABLE, tag)
        .env("BULKHEAD_ROOT", dir.join("bulkhead"));
}

/// A directory that only root can write, with its parents.
pub(crate) fn directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(HarnessError::at("create", path))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(HarnessError::at("write", path))
}

/// Writes a program that others execute at once.
///
/// Not by this process: what another of its threads starts at that moment has the file open for writing until its own
/// execve(2), and to execute it is ETXTBSY until then.
pub fn program(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, bytes).map_err(HarnessError::at("write", &part))?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755))
        .map_err(HarnessError::at("chmod", &part))?;
    copy_program(&part, path)?;
    fs::remove_file(&part).map_err(HarnessError::at("remove", part))
}

/// As [`program`], of one that is there.
pub fn copy_program(from: &Path, to: &Path) -> Result<()> {
    run::run(Command::new("/bin/cp").arg("-p").args([from, to]), CTR)?.success().map(drop)
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
