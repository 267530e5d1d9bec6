//! An image of the corpus: generated for, run and recorded without confinement, run with it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bulkhead_integration::{Output, bulkhead_dir, run, workspace};
use serde_json::{Value, json};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

/// Whose loopback a program has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// The host's: the workload comes over it.
    Host,
    Own,
}

/// The image mounted writable, with what a container has in /dev.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) root: PathBuf,
    user: Option<u32>,
}

impl Drop for World {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--recursive").arg(&self.root).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn ok(command: &mut Command) -> Output {
    run(command, Duration::from_secs(600)).unwrap().success().unwrap()
}

impl World {
    /// Unpacks the images if they are not there, and puts them above each other, the base at the bottom if they are not
    /// whole by themselves.
    pub(crate) fn of(images: &[&str], user: Option<u32>) -> Self {
        ok(Command::new(workspace().join("integration/scripts/corpus.sh")).args(images));
        let corpus = workspace().join("target/deps/corpus");
        let base =
            (!images.contains(&"base") && !corpus.join(images[0]).join(".whole").exists()).then_some("base");
        let layers = images.iter().copied().chain(base).map(|image| corpus.join(image));
        let dir = TempDir::new().unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (root, upper, work) = (path("root"), path("upper"), path("work"));
        let lower: Vec<_> = layers.map(|layer| layer.display().to_string()).collect();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
        ok(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&root));
        let world = Self { dir, root, user };
        for (name, minor) in [("null", "3"), ("zero", "5"), ("urandom", "9")] {
            let device = world.root.join("dev").join(name);
            ok(Command::new("mknod").args(["-m", "666"]).arg(device).args(["c", "1", minor]));
        }
        world
    }

    /// Something that the image does not bring. Of these, only programs and scripts that name their interpreter can be executed, as in
    /// an image: what a configuration says is no command.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let mode = if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Has a directory that is there be of the user, as a volume is.
    pub(crate) fn own(&self, path: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        if let (Some(user), true) = (self.user, path.exists()) {
            ok(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(path));
        }
    }

    fn bulkhead(&self, args: &[&str]) -> String {
        let mut command = Command::new(bulkhead_dir().unwrap().join("bulkhead"));
        ok(command.arg("--root").arg(self.dir.path()).args(args)).stdout
    }

    /// The profile of a command, its file, and the processor's seconds that it took.
    pub(crate) fn generate(&self, argv: &[&str], exec: &[&str]) -> (Value, PathBuf, f64) {
        let file = self.dir.path().join("profile.json");
        let (root, out) = (self.root.to_str().unwrap().to_owned(), file.to_str().unwrap().to_owned());
        let mut args = vec!["--json", "profile", "generate", "--no-cache", &root, "-o", &out];
        for command in exec {
            args.extend(["--exec", command]);
        }
        args.push("--");
        args.extend(argv);
        let before = children_seconds();
        let answer: Value = serde_json::from_str(&self.bulkhead(&args)).unwrap();
        let seconds = children_seconds() - before;
        // As in a container; only now, as they are none of the image's files.
        ok(Command::new("mount").args(["-t", "proc", "proc"]).arg(self.root.join("proc")));
        let shared = self.root.join("dev/shm");
        fs::create_dir_all(&shared).unwrap();
        ok(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "shm"]).arg(shared));
        (answer["profile"].clone(), file, seconds)
    }

    /// A program of the image, not confined.
    pub(crate) fn free(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        self.as_user(&mut command);
        command.arg(&self.root).args(argv);
        command
    }

    fn as_user(&self, command: &mut Command) {
        if let Some(user) = self.user {
            command.arg(format!("--userspec={user}:{user}"));
        }
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/tmp");
    }

    /// The same under strace; what it calls is in the file.
    pub(crate) fn traced(&self, argv: &[&str]) -> (Command, PathBuf) {
        self.traced_to("trace", argv)
    }

    /// The same while another is traced.
    pub(crate) fn traced_besides(&self, argv: &[&str]) -> (Command, PathBuf) {
        self.traced_to("trace-besides", argv)
    }

    fn traced_to(&self, name: &str, argv: &[&str]) -> (Command, PathBuf) {
        let file = self.dir.path().join(name);
        let mut command = Command::new("strace");
        // Numbers beside names: values of arguments are held against the profile's.
        command.args(["-f", "-qq", "-X", "verbose", "-o"]).arg(&file).arg("chroot");
        self.as_user(&mut command);
        command.arg(&self.root).args(argv);
        (command, file)
    }

    /// What is exec'd in what [`Self::confined`] started, under the same filter.
    pub(crate) fn confined_besides(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.dir.path().join("runc")).args(["exec", "it"]).args(argv);
        command
    }

    /// The same by runc, confined by the exported profile alone.
    pub(crate) fn confined(&self, profile: &Path, network: Network, argv: &[&str]) -> Command {
        let bundle = self.dir.path().join("bundle");
        if !bundle.exists() {
            fs::create_dir(&bundle).unwrap();
            ok(Command::new("runc").arg("spec").current_dir(&bundle));
        }
        let exported = self.bulkhead(&["profile", "export", profile.to_str().unwrap()]);
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["root"] = json!({ "path": self.root, "readonly": false });
        let process = &mut config["process"];
        process["terminal"] = json!(false);
        process["args"] = json!(argv);
        process["env"] = json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp"]);
        let user = self.user.unwrap_or(0);
        process["user"] = json!({ "uid": user, "gid": user });
        process["rlimits"] = json!([]);
        // Servers that change their user.
        let capabilities =
            json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]);
        for set in ["bounding", "permitted", "effective"] {
            process["capabilities"][set] = capabilities.clone();
        }
        // Others run a container of this name too.
        let own = self.dir.path().file_name().unwrap().to_str().unwrap();
        config["linux"]["cgroupsPath"] = json!(format!("/bulkhead-corpus{own}"));
        config["linux"]["seccomp"] = serde_json::from_str(&exported).unwrap();
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        if network == Network::Own {
            namespaces.push(json!({ "type": "network" }));
            config["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "0" });
        }
        fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(self.dir.path().join("runc"))
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg("it");
        command
    }

    /// Sends a signal to what [`Self::confined`] started.
    pub(crate) fn signal_confined(&self, signal: &str) {
        ok(Command::new("runc").arg("--root").arg(self.dir.path().join("runc")).args(["kill", "it", signal]));
    }
}

/// Sends a signal to what strace traces.
pub(crate) fn signal_traced(strace: &Child, signal: &str) {
    let pid = strace.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let first = children.split_whitespace().next().unwrap().to_owned();
    let sent = run(Command::new("kill").args([&format!("-{signal}"), &first]), MINUTE);
    sent.unwrap().success().unwrap();
}

pub(crate) fn quiet(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// User and system time of the children that have ended, in seconds.
fn children_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // cutime and cstime, in hundredths. Source: proc_pid_stat(5), fields 16 and 17.
    (fields[13].parse::<f64>().unwrap() + fields[14].parse::<f64>().unwrap()) / 100.0
}

/// Names of the calls that strace saw after the execve(2) of the program itself.
pub(crate) fn recorded(trace: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(trace).unwrap();
    // The first is strace's own of chroot(1), then chroot's of the program; those that fail are looked over.
    let mut programs = 0;
    let mut calls = BTreeSet::new();
    for line in text.lines() {
        let Some((_, call)) = line.split_once(char::is_whitespace) else { continue };
        let call = call.trim_start().trim_start_matches("<... ");
        let name: String = call.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if programs >= 2 && !name.is_empty() && !call.starts_with('+') && !call.starts_with('-') {
            calls.insert(name.clone());
        }
        if name == "execve" && line.ends_with("= 0") {
            programs += 1;
        }
    }
    calls
}

/// Files of the image that strace saw opened for reading or executed: what Landlock must let through.
pub(crate) fn touched(trace: &Path, root: &Path) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(trace).unwrap();
    let mut programs = 0;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let executes = line.contains(" execve(\"");
        if executes && line.ends_with("= 0") {
            programs += 1;
        }
        let opens = executes && line.ends_with("= 0")
            || line.contains("openat(")
                && line.contains("AT_FDCWD */, \"/")
                && line.contains("O_RDONLY")
                && !line.contains("= -1");
        let Some(path) =
            line.split('"').nth(1).filter(|path| opens && programs >= 2 && path.starts_with('/'))
        else {
            continue;
        };
        if let Ok(real) = fs::canonicalize(root.join(path.trim_start_matches('/')))
            && let Ok(inside) = real.strip_prefix(root)
            && real.is_file()
        {
            found.insert(Path::new("/").join(inside));
        }
    }
    found
}
