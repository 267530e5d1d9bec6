//! Runs inside containers: prints what the kernel says about the process, and tries what a confined one must not do.
//!
//! ```text
//! probe facts            {"uid":65532,…}
//! probe try NAME…        {"NAME":"done" | "EPERM" | …}
//! probe cost             {"getppid":NANOSECONDS,"open-close":NANOSECONDS}
//! probe pause            sleeps until SIGTERM or SIGINT
//! probe wait-file FILE COMMAND…   runs COMMAND once FILE is there
//! ```
//! A single file, built static by the harness with rustc alone: it has to run in an image that holds nothing else.

use std::{
    collections::BTreeMap,
    env,
    ffi::CString,
    fs::{self, OpenOptions},
    io::{self, Read, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    path::Path,
    process::{Command, exit},
    thread,
    time::{Duration, Instant},
};

#[path = "sys.rs"]
mod sys;

use sys::{call, nr};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["facts"] => println!("{}", facts()),
        ["try", names @ ..] => println!("{}", attempts(names)),
        ["cost"] => println!("{}", cost()),
        ["pause"] => pause(),
        ["wait-file", file, command @ ..] => {
            while !Path::new(file).exists() {
                thread::sleep(Duration::from_millis(5));
            }
            let error = Command::new(command[0]).args(&command[1..]).exec();
            eprintln!("probe: exec {}: {error}", command[0]);
            exit(127);
        }
        ["exit", code] => exit(code.parse().unwrap_or(2)),
        ["true"] => {}
        // What a dropped copy of this program does: proof that it ran.
        ["dropped"] => println!("dropped program ran"),
        _ => {
            eprintln!("usage: probe facts | try NAME… | pause | wait-file FILE COMMAND… | exit N | true");
            exit(2);
        }
    }
}

/// Nanoseconds that calls take: of some batches the quickest, since whatever else the machine does only adds.
fn cost() -> String {
    /// How long a batch takes, about.
    const BATCH_NS: f64 = 5e6;
    fn least(one: impl Fn()) -> String {
        let batch = |calls: u32| {
            let began = Instant::now();
            (0..calls).for_each(|_| one());
            began.elapsed().as_nanos() as f64 / f64::from(calls)
        };
        let calls = (BATCH_NS / batch(200)).clamp(200.0, 1e6) as u32;
        format!("{:.1}", (0..15).map(|_| batch(calls)).fold(f64::INFINITY, f64::min))
    }
    let own = c"/bin/probe".as_ptr() as i64;
    let mut out = BTreeMap::new();
    out.insert("getppid".to_owned(), least(|| drop(call(nr::GETPPID, [0; 6]))));
    out.insert(
        "open-close".to_owned(),
        least(|| match call(nr::OPENAT, [-100, own, 0, 0, 0, 0]) {
            Ok(fd) => drop(call(nr::CLOSE, [fd, 0, 0, 0, 0, 0])),
            Err(error) => panic!("open of /bin/probe: {error}"),
        }),
    );
    json(&out)
}

/// As PID 1 a signal without a handler is ignored: this is a pause container that ends when it is asked to.
fn pause() -> ! {
    sys::exit_on_terminate();
    loop {
        thread::park();
    }
}

fn facts() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or("").trim().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut out = BTreeMap::new();
    for name in ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
        "Seccomp_filters"]
    {
        out.insert(name.to_owned(), field(name));
    }
    // mount point: per-mount options, type
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        let (Some((left, right)), words) = (line.split_once(" - "), line.split(' ').collect::<Vec<_>>()) else {
            continue;
        };
        let kind = right.split(' ').next().unwrap_or("");
        let super_options = right.split(' ').nth(2).unwrap_or("");
        let own = left.split(' ').nth(5).unwrap_or("");
        out.insert(format!("mount {}", words[4]), format!("{own} {kind} {super_options}"));
    }
    for line in fs::read_to_string("/proc/self/limits").unwrap_or_default().lines() {
        for name in ["Max core file size", "Max open files", "Max processes"] {
            if let Some(rest) = line.strip_prefix(name) {
                out.insert(name.to_owned(), rest.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
            }
        }
    }
    for name in ["HOME", "PATH", "HOSTNAME"] {
        out.insert(format!("env {name}"), env::var(name).unwrap_or_default());
    }
    out.insert("dev".to_owned(), list("/dev"));
    out.insert("fds".to_owned(), open_files());
    out.insert("cwd".to_owned(), env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default());
    json(&out)
}

fn list(dir: &str) -> String {
    let mut names: Vec<String> = fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    names.join(" ")
}

/// What is open beyond standard input, output and error, and this listing itself.
fn open_files() -> String {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return "unknown".to_owned() };
    let mut open: Vec<String> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        if !["0", "1", "2"].contains(&name.as_str()) && !target.ends_with("/fd") {
            open.push(format!("{name}:{target}"));
        }
    }
    open.sort();
    open.join(" ")
}

fn attempts(names: &[&str]) -> String {
    let mut out = BTreeMap::new();
    for name in names {
        let outcome = match attempt(name) {
            Ok(()) => "done".to_owned(),
            Err(error) => sys::errno_name(error.raw_os_error().unwrap_or(0)),
        };
        out.insert((*name).to_owned(), outcome);
    }
    json(&out)
}

/// Tries one thing; `write:/path` and the like carry their subject.
fn attempt(name: &str) -> io::Result<()> {
    let (what, subject) = name.split_once(':').unwrap_or((name, ""));
    match what {
        "write" => fs::write(subject, b"probe\n"),
        "create" => OpenOptions::new().write(true).create_new(true).open(subject).map(drop),
        "read" => fs::File::open(subject).and_then(|mut file| file.read(&mut [0; 1])).map(drop),
        "list" => fs::read_dir(subject).map(drop),
        "mkdir" => fs::create_dir(subject),
        "symlink" => std::os::unix::fs::symlink("/probe", subject),
        "mknod" => {
            let path = CString::new(subject)?;
            // A character device 1:3 (null), mode 0666.
            call(nr::MKNODAT, [-100, path.as_ptr() as i64, 0o020_666, 0x103, 0, 0]).map(drop)
        }
        "run-dropped" => run_dropped(subject),
        "run-memfd" => run_memfd(),
        "map-exec" => map_exec(subject),
        "memfd" => call(nr::MEMFD_CREATE, [c"m".as_ptr() as i64, 1, 0, 0, 0, 0]).map(drop),
        "userns" => in_child(|| call(nr::UNSHARE, [0x1000_0000, 0, 0, 0, 0, 0]).map(drop)),
        "mountns" => in_child(|| call(nr::UNSHARE, [0x2_0000, 0, 0, 0, 0, 0]).map(drop)),
        "keyctl" => call(nr::KEYCTL, [0, -3, 1, 0, 0, 0]).map(drop),
        "bpf" => call(nr::BPF, [0, 0, 0, 0, 0, 0]).map(drop),
        "io_uring" => call(nr::IO_URING_SETUP, [1, [0u64; 15].as_mut_ptr() as i64, 0, 0, 0, 0]).map(drop),
        "userfaultfd" => call(nr::USERFAULTFD, [1, 0, 0, 0, 0, 0]).map(drop),
        "ptrace" => in_child(|| call(nr::PTRACE, [0, 0, 0, 0, 0, 0]).map(drop)),
        "personality" => call(nr::PERSONALITY, [0x2_0000, 0, 0, 0, 0, 0]).map(drop),
        "mount" => {
            let flags = 0x1000;
            call(nr::MOUNT, [c"/".as_ptr() as i64, c"/tmp".as_ptr() as i64, 0, flags, 0, 0]).map(drop)
        }
        "chroot" => in_child(|| call(nr::CHROOT, [c"/tmp".as_ptr() as i64, 0, 0, 0, 0, 0]).map(drop)),
        "setuid0" => in_child(|| call(nr::SETUID, [0, 0, 0, 0, 0, 0]).map(drop)),
        "af_alg" => socket(38, 5, 0),
        "af_packet" => socket(17, 3, 0),
        "af_vsock" => socket(40, 1, 0),
        "mptcp" => socket(2, 1, 262),
        "raw" => socket(2, 3, 1),
        "tcp" => socket(2, 1, 0),
        "netlink" => socket(16, 3, 0),
        "tiocsti" => {
            let byte = b'x';
            call(nr::IOCTL, [0, 0x5412, &raw const byte as i64, 0, 0, 0]).map(drop)
        }
        "fork" => in_child(|| Ok(())),
        "signal-init" => call(nr::KILL, [1, 0, 0, 0, 0, 0]).map(drop),
        "self-exe" => OpenOptions::new().write(true).open("/proc/self/exe").map(drop),
        "parent-exe" => OpenOptions::new().write(true).open("/proc/1/exe").map(drop),
        _ => {
            eprintln!("probe: no attempt is called {name}");
            exit(2);
        }
    }
}

fn socket(family: i64, kind: i64, protocol: i64) -> io::Result<()> {
    call(nr::SOCKET, [family, kind, protocol, 0, 0, 0]).map(drop)
}

/// Copies this program to `path` and runs the copy.
fn run_dropped(path: &str) -> io::Result<()> {
    drop_copy(path)?;
    ran(Command::new(path).arg("dropped"))
}

fn drop_copy(path: &str) -> io::Result<()> {
    let program = own_bytes()?;
    // Another attempt may have left one behind.
    drop(fs::remove_file(path));
    OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?.write_all(&program)
}

/// This program, by the path that the image gives it: Landlock has no rule for /proc/self/exe.
fn own_bytes() -> io::Result<Vec<u8>> {
    fs::read("/bin/probe").or_else(|_| fs::read("/proc/self/exe"))
}

fn ran(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.stdout.starts_with(b"dropped program ran") { Ok(()) } else { Err(io::Error::from_raw_os_error(13)) }
}

fn run_memfd() -> io::Result<()> {
    let fd = call(nr::MEMFD_CREATE, [c"m".as_ptr() as i64, 0, 0, 0, 0, 0])?;
    let mut file = sys::owned(fd);
    file.write_all(&own_bytes()?)?;
    ran(Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).arg("dropped"))
}

/// Maps a page of a file of ours as executable.
fn map_exec(path: &str) -> io::Result<()> {
    drop_copy(path)?;
    let file = fs::File::open(path)?;
    call(nr::MMAP, [0, 4096, 1 | 4, 2, i64::from(file.as_raw_fd()), 0]).map(drop)
}

/// Some attempts change the process: a child makes them, and the errno comes back as its exit code.
fn in_child(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match sys::fork()? {
        0 => exit(attempt().map_or_else(|error| error.raw_os_error().unwrap_or(255), |()| 0)),
        child => match sys::wait_for(child)? {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
    }
}

fn json(pairs: &BTreeMap<String, String>) -> String {
    let text = |s: &str| {
        let mut out = String::from("\"");
        for c in s.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        out + "\""
    };
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{}:{}", text(key), text(value))).collect();
    format!("{{{}}}", pairs.join(","))
}
