//! Profiles worked out from files, held against what programs really do: the truth is recorded with one workload, the
//! profile enforced by runc with another.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bulkhead_integration::{bulkhead_dir, merge_report, need_root, run, until, workspace};
use serde_json::{Value, json};
use tempfile::TempDir;

const NGINX: &str = "daemon off; user root; pid /tmp/nginx.pid; error_log /tmp/error.log; worker_processes 2;
events {}
http {
  access_log /tmp/access.log;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen unix:/tmp/http.sock; location / { return 200 served; } location /files/ { alias /etc/; sendfile on; } }
}
";

/// Programs that end by themselves: how the truth is recorded, and what is run under enforcement.
const PROGRAMS: &[(&str, &[&str], &[&str])] = &[
    ("true", &["/usr/bin/true"], &["/usr/bin/true", "x"]),
    (
        "curl",
        &["/usr/bin/curl", "-s", "file:///etc/debian_version"],
        &["/usr/bin/curl", "-s", "-o", "/tmp/out", "-w", "%{size_download}", "file:///etc/debian_version"],
    ),
    (
        "perl",
        &["/usr/bin/perl", "-e", "print join(',', sort map { $_ * 2 } 1..9)"],
        &[
            "/usr/bin/perl",
            "-e",
            "my $p = fork; if (!$p) { exit 7 } waitpid($p, 0); print $? >> 8; open my $f, '>', '/tmp/p' or die; print $f 1; close $f; rename '/tmp/p', '/tmp/q' or die; unlink '/tmp/q' or die; print -e '/tmp/q' ? 1 : 0",
        ],
    ),
    (
        "python",
        &["/usr/bin/python3", "-c", "import os; print(sorted(os.listdir('/etc'))[:2])"],
        &[
            "/usr/bin/python3",
            "-c",
            "import threading, os, socket
out = []
ts = [threading.Thread(target=lambda i=i: out.append(i * i)) for i in range(4)]
[t.start() for t in ts]; [t.join() for t in ts]
a, b = socket.socketpair(); a.sendall(b'x'); print(sorted(out), b.recv(1), os.stat('/etc').st_uid)",
        ],
    ),
    (
        "bash",
        &["/bin/bash", "-c", "for i in 3 1 2; do echo $i; done; [ -d /etc ] && echo y"],
        &[
            "/bin/bash",
            "-c",
            "trap 'echo got' TERM; kill -TERM $$; echo a > /tmp/b; read x < /tmp/b; echo $x; (exit 3); echo $?",
        ],
    ),
];

struct World {
    dir: TempDir,
    root: PathBuf,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let tar = workspace().join("target/deps/userland/userland.tar");
        run(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&root), Duration::from_secs(120))
            .unwrap()
            .success()
            .unwrap();
        fs::write(root.join("etc/nginx/nginx.conf"), NGINX).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
            .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
        for (name, minor) in [("null", "3"), ("zero", "5"), ("urandom", "9")] {
            let device = root.join("dev").join(name);
            if !device.exists() {
                run(
                    Command::new("mknod").args(["-m", "666"]).arg(&device).args(["c", "1", minor]),
                    Duration::from_secs(10),
                )
                .unwrap()
                .success()
                .unwrap();
            }
        }
        Self { dir, root }
    }

    fn bulkhead(&self, args: &[&str]) -> (Value, String) {
        let output = run(
            Command::new(bulkhead_dir().unwrap().join("bulkhead"))
                .arg("--root")
                .arg(self.dir.path())
                .args(args),
            Duration::from_secs(300),
        );
        let output = output.unwrap().success().unwrap();
        (serde_json::from_str(&output.stdout).unwrap_or_default(), output.stdout)
    }

    /// The profile of a command, its file, and how long it took.
    fn generate(&self, argv: &[&str]) -> (Value, PathBuf, f64) {
        let file = self.dir.path().join("profile.json");
        let (root, out) = (self.root.to_str().unwrap(), file.to_str().unwrap());
        let began = Instant::now();
        let mut args = vec!["--json", "profile", "generate", "--no-cache", root, "-o", out, "--"];
        args.extend(argv);
        let (answer, _) = self.bulkhead(&args);
        (answer["profile"].clone(), file, began.elapsed().as_secs_f64())
    }

    /// Starts a program of the image under strace; what it calls from its first instruction on is in the file.
    fn trace(&self, argv: &[&str]) -> (Child, PathBuf) {
        let file = self.dir.path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(&file).arg("chroot").arg(&self.root).args(argv);
        (command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap(), file)
    }

    /// Runs a program of the image with runc, confined by an exported profile alone.
    fn confined(&self, profile: &Path, argv: &[&str], id: &str) -> Command {
        let bundle = self.dir.path().join("bundle");
        if !bundle.exists() {
            fs::create_dir(&bundle).unwrap();
            run(Command::new("runc").arg("spec").current_dir(&bundle), Duration::from_secs(20))
                .unwrap()
                .success()
                .unwrap();
        }
        let (_, exported) = self.bulkhead(&["profile", "export", profile.to_str().unwrap()]);
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["root"] = json!({ "path": self.root, "readonly": false });
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(argv);
        config["linux"]["seccomp"] = serde_json::from_str(&exported).unwrap();
        fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(self.dir.path().join("runc"))
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(id);
        command
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.root.join("tmp/http.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

/// Names of the calls that strace saw, after the execve(2) of the program itself.
fn recorded(trace: &Path) -> BTreeSet<String> {
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

fn names(profile: &Value) -> BTreeSet<String> {
    profile["rows"].as_object().unwrap().keys().cloned().collect()
}

/// What was made and is not allowed, but for what the baseline denies to everybody.
fn false_denials(profile: &Value, truth: &BTreeSet<String>) -> Vec<String> {
    let denied: BTreeSet<&str> =
        profile["denied_by_baseline"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let allowed = names(profile);
    truth.iter().filter(|name| !allowed.contains(*name) && !denied.contains(name.as_str())).cloned().collect()
}

fn row(image: &str, profile: &Value, truth: &BTreeSet<String>, seconds: f64) -> Value {
    json!({
        "image": image,
        "syscalls": names(profile).len(),
        "recorded": truth.len(),
        "baseline": bulkhead_baseline(),
        "false_denials": false_denials(profile, truth).len(),
        "unresolved": profile["unresolved"].as_array().unwrap().len(),
        "elf_bytes": profile["elf_bytes"],
        "seconds": seconds,
    })
}

/// How many calls the baseline allows: a program that is not there gets all of them.
fn bulkhead_baseline() -> usize {
    let empty = TempDir::new().unwrap();
    let output = run(
        Command::new(bulkhead_dir().unwrap().join("bulkhead"))
            .args(["--json", "profile", "generate", "--no-cache"])
            .arg(empty.path())
            .args(["--", "nosuch"]),
        Duration::from_secs(60),
    );
    let answer: Value = serde_json::from_str(&output.unwrap().success().unwrap().stdout).unwrap();
    names(&answer["profile"]).len()
}

#[test]
fn programs_do_under_their_profiles_what_they_do_without() {
    need_root().unwrap();
    let world = World::new();
    let mut rows = Vec::new();
    for (name, recorded_argv, enforced_argv) in PROGRAMS {
        let (profile, file, seconds) = world.generate(recorded_argv);
        let (child, trace) = world.trace(recorded_argv);
        assert!(child.wait_with_output().unwrap().status.success(), "{name}");
        let truth = recorded(&trace);
        assert!(truth.len() > 5, "{name}: {truth:?}");
        assert_eq!(false_denials(&profile, &truth), Vec::<String>::new(), "{name}");
        let free = run(Command::new("chroot").arg(&world.root).args(*enforced_argv), Duration::from_secs(60))
            .unwrap();
        let bound = run(&mut world.confined(&file, enforced_argv, name), Duration::from_secs(60)).unwrap();
        assert_eq!((&bound.stdout, bound.code()), (&free.stdout, free.code()), "{name}: {}", bound.stderr);
        rows.push(row(name, &profile, &truth, seconds));
    }
    rows.push(nginx(&world));
    for row in &rows {
        println!("{row}");
    }
    merge_report("profiles", &["image"], &rows).unwrap();
}

/// Recorded: serves, reloads, quits. Enforced: serves a file, an error, reopens its logs, reloads, quits.
fn nginx(world: &World) -> Value {
    let argv = ["/usr/sbin/nginx"];
    let (profile, file, seconds) = world.generate(&argv);
    assert_eq!(profile["unresolved"], json!([]));
    let master = || fs::read_to_string(world.root.join("tmp/nginx.pid")).ok()?.trim().parse::<i32>().ok();
    let served = |path: &str| Ok(world.get(path).is_some_and(|answer| answer.starts_with("HTTP/1.1 ")));
    let wait = Duration::from_secs(60);

    let (mut child, trace) = world.trace(&argv);
    until("nginx to serve", wait, || served("/")).unwrap();
    let pid = master().unwrap();
    let signal = |pid: i32, name: &str| {
        run(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]), wait)
            .unwrap()
            .success()
            .unwrap();
    };
    signal(pid, "HUP");
    until("nginx to serve after a reload", wait, || served("/files/debian_version")).unwrap();
    signal(pid, "QUIT");
    child.wait().unwrap();
    let truth = recorded(&trace);
    assert_eq!(false_denials(&profile, &truth), Vec::<String>::new());

    fs::remove_file(world.root.join("tmp/http.sock")).unwrap_or_default();
    fs::remove_file(world.root.join("tmp/nginx.pid")).unwrap_or_default();
    let mut child =
        world.confined(&file, &argv, "nginx").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    until("nginx to serve under its profile", wait, || served("/")).unwrap();
    assert!(world.get("/files/debian_version").unwrap().starts_with("HTTP/1.1 200"));
    assert!(world.get("/files/nosuch").unwrap().starts_with("HTTP/1.1 404"));
    for name in ["USR1", "HUP"] {
        let runc = Command::new("runc")
            .arg("--root")
            .arg(world.dir.path().join("runc"))
            .args(["kill", "nginx", name])
            .status();
        assert!(runc.unwrap().success());
        until("nginx to serve after a signal", wait, || served("/files/debian_version")).unwrap();
    }
    let runc = Command::new("runc")
        .arg("--root")
        .arg(world.dir.path().join("runc"))
        .args(["kill", "nginx", "QUIT"])
        .status();
    assert!(runc.unwrap().success());
    assert!(child.wait().unwrap().success());
    row("nginx", &profile, &truth, seconds)
}

/// The profile bites: a call that it lacks fails, and the same program without it does not.
#[test]
fn a_call_that_a_profile_lacks_is_denied() {
    need_root().unwrap();
    let world = World::new();
    let argv = ["/usr/bin/python3", "-c", "import os; os.symlink('/x', '/tmp/link')"];
    let (_, file, _) = world.generate(&argv);
    let free = run(&mut world.confined(&file, &argv, "with"), Duration::from_secs(60)).unwrap();
    assert_eq!(free.code(), 0, "{}", free.stderr);
    fs::remove_file(world.root.join("tmp/link")).unwrap();
    let mut profile: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    profile["rows"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("symlink"));
    fs::write(&file, profile.to_string()).unwrap();
    let bound = run(&mut world.confined(&file, &argv, "without"), Duration::from_secs(60)).unwrap();
    assert_ne!(bound.code(), 0);
    assert!(bound.stderr.contains("Function not implemented"), "{}", bound.stderr);
}
