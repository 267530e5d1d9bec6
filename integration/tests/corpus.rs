//! Profiles of the corpus: programs of Debian as images. The truth is recorded with one workload, the profile enforced by
//! runc with another; what the ruleset of Landlock must let through is what the recorded workload opened.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "corpus/autopkgtests.rs"]
mod autopkgtests;
#[path = "corpus/cves.rs"]
mod cves;
#[path = "corpus/made.rs"]
mod made;
#[path = "corpus/network.rs"]
mod network;
#[path = "corpus/programs.rs"]
mod programs;
#[path = "corpus/servers.rs"]
mod servers;
#[path = "corpus/values.rs"]
mod values;
#[path = "corpus/world.rs"]
mod world;

use std::{
    collections::BTreeSet,
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use autopkgtests::{AUTOPKGTESTS, Autopkgtest, autopkgtest};
use bulkhead_integration::{Output, merge_report, need_root, run, until};
use network::Loopback;
use programs::{Class, Server, Step, TOOLS, Tool};
use serde_json::{Value, json};
use servers::SERVERS;
use world::{Network, World, quiet, recorded, signal_traced, touched};

const MINUTE: Duration = Duration::from_secs(60);

/// Small programs, of each kind some; the rest is of the long tier.
const OF_CI: &[&str] = &["redis", "memcached", "haproxy", "rust", "sqlite", "jq", "lua", "base"];

/// What strace saw.
#[derive(Default)]
struct Run {
    /// Of the workload that is recorded.
    recorded: BTreeSet<String>,
    /// Of that and of the one that is enforced.
    truth: BTreeSet<String>,
    touched: BTreeSet<PathBuf>,
    /// Values of arguments.
    values: values::Seen,
}

impl Run {
    fn add(&mut self, world: &World, trace: &Path, first: bool) {
        let calls = recorded(trace);
        if first {
            self.recorded.extend(calls.iter().cloned());
        }
        self.truth.extend(calls);
        self.touched.extend(touched(trace, &world.root));
        for (of, seen) in values::values(trace) {
            self.values.entry(of).or_default().extend(seen);
        }
    }
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

/// Files that were opened or executed and that no rule reaches. What the test itself put there has rules too.
fn out_of_rules(profile: &Value, touched: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let landlock = &profile["landlock"];
    if !landlock["widened"].is_null() {
        return Vec::new();
    }
    let rules: Vec<&Path> = landlock["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| Path::new(rule["path"].as_str().unwrap()))
        .collect();
    // Mounts of their own in every container.
    let mounted = |path: &&PathBuf| {
        ["/tmp", "/dev", "/run", "/proc", "/sys"].iter().any(|mount| path.starts_with(mount))
    };
    let reached = |path: &&PathBuf| rules.iter().any(|rule| path.starts_with(rule));
    touched.iter().filter(|path| !mounted(path) && !reached(path)).cloned().collect()
}

fn row(image: &str, class: &str, profile: &Value, seen: &Run, seconds: f64) -> Value {
    let allowed = names(profile);
    let mut missing = false_denials(profile, &seen.truth);
    missing.extend(values::false_denials(profile, &seen.values));
    let arguments = values::allowed(profile);
    let unreached = out_of_rules(profile, &seen.touched);
    let hits = seen.truth.iter().filter(|name| allowed.contains(*name)).count();
    let (cves, cves_left) = cves::out_of_reach(&allowed, &arguments);
    let count = |list: &Value| list.as_array().map_or(0, Vec::len);
    let row = json!({
        "image": image,
        "class": class,
        "syscalls": allowed.len(),
        "recorded": seen.recorded.len(),
        "recorded_two": seen.truth.len(),
        "ratio": allowed.len() as f64 / seen.truth.len() as f64,
        "precision": hits as f64 / allowed.len() as f64,
        "recall": hits as f64 / seen.truth.len() as f64,
        "unseen": allowed.difference(&seen.truth).collect::<Vec<_>>(),
        "false_denials": missing.len(),
        "missing": missing,
        "arguments_narrowed": arguments.values().map(std::collections::BTreeMap::len).sum::<usize>(),
        "unresolved": count(&profile["unresolved"]),
        "widened": profile["widened"],
        "elf_bytes": profile["elf_bytes"],
        "seconds": seconds,
        "landlock_rules": count(&profile["landlock"]["rules"]),
        "landlock_programs_out": profile["landlock"]["programs_out"],
        "landlock_false_denials": unreached.len(),
        "landlock_missing": unreached,
        "cves_blocked": cves.len(),
        "cves_blocked_by_name": cves,
        "cves_blocked_with_arguments": cves::ALL - cves_left.len(),
        "cves_left": cves_left,
    });
    println!("{row}");
    row
}

/// The same /tmp for each run.
fn empty_tmp(world: &World) {
    run(
        Command::new("sh").args(["-c", "rm -rf \"$1\"/tmp/* \"$1\"/tmp/.s.*", "sh"]).arg(&world.root),
        MINUTE,
    )
    .unwrap()
    .success()
    .unwrap();
}

fn tool(tool: &Tool) -> Value {
    let Tool { image, class, exec, recorded: first, enforced: second } = tool;
    let world = World::of(&[image], None);
    world.put(
        "/etc/it.tcl",
        b"set f [open /tmp/t w]; puts $f x; close $f; puts [file size /tmp/t]; puts [exec echo hi]\n",
    );
    let (profile, file, seconds) = world.generate(first[0], exec);
    let mut seen = Run::default();
    for (argvs, is_first) in [(*first, true), (*second, false)] {
        empty_tmp(&world);
        for argv in argvs {
            let (mut command, trace) = world.traced(argv);
            run(&mut command, MINUTE).unwrap();
            seen.add(&world, &trace, is_first);
        }
    }
    assert!(seen.recorded.len() > 5, "{image}: {:?}", seen.recorded);
    let all = |of: &dyn Fn(&[&str]) -> Command| -> Vec<_> {
        empty_tmp(&world);
        let outputs = second.iter().map(|argv| run(&mut of(argv), MINUTE).unwrap());
        outputs.map(|output| (output.stdout.clone(), output.code(), output.stderr)).collect()
    };
    let free = all(&|argv| world.free(argv));
    let bound = all(&|argv| world.confined(&file, Network::Host, argv));
    for (free, bound) in free.iter().zip(&bound) {
        assert_eq!((&bound.0, bound.1), (&free.0, free.1), "{image}: {} free: {}", bound.2, free.2);
    }
    let class = if *class == Class::Interpreter { "interpreter" } else { "program" };
    row(image, class, &profile, &seen, seconds)
}

/// Sends, and reads until the answer has what is expected; whether it had.
fn say(to: &str, root: &Path, text: &str, expected: &str) -> bool {
    fn talk(mut stream: impl std::io::Read + std::io::Write, text: &str, expected: &str) -> bool {
        // Bytes, one a character.
        let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        let mut answer = String::new();
        let mut part = [0; 4096];
        if stream.write_all(&bytes).is_err() {
            return false;
        }
        while let Ok(got @ 1..) = stream.read(&mut part) {
            answer.push_str(&String::from_utf8_lossy(&part[..got]));
            if answer.contains(expected) {
                return true;
            }
        }
        false
    }
    let wait = Some(Duration::from_secs(10));
    if to.starts_with('/') {
        let Ok(stream) = UnixStream::connect(root.join(to.trim_start_matches('/'))) else { return false };
        stream.set_read_timeout(wait).unwrap();
        talk(stream, text, expected)
    } else {
        let Ok(stream) = TcpStream::connect(to) else { return false };
        stream.set_read_timeout(wait).unwrap();
        talk(stream, text, expected)
    }
}

/// What comes to a server from outside, however it was started.
struct Outside<'a> {
    signal: &'a dyn Fn(&str),
    /// Runs a command beside it.
    exec: &'a mut dyn FnMut(&[&str]) -> Output,
}

fn work(server: &Server, world: &World, steps: &[Step], outside: &mut Outside<'_>) {
    for step in steps {
        let said = |to: &str, text: &str, expected: &str| {
            let what = format!("{} to answer {text:?}", server.image);
            until(&what, 2 * MINUTE, || Ok(say(to, &world.root, text, expected))).unwrap();
        };
        match step {
            Step::Say(text, expected) => said(server.socket, text, expected),
            Step::To(to, text, expected) => said(to, text, expected),
            Step::Client(script, expected) => client(server.image, world, script, expected),
            Step::Exec(argv) => {
                (outside.exec)(argv).success().unwrap();
            }
            Step::Signal(name) => (outside.signal)(name),
        }
    }
}

fn client(image: &str, world: &World, script: &str, expected: &str) {
    let mut last = String::new();
    let there = until("", MINUTE / 2, || {
        let output = run(Command::new("sh").args(["-c", script]).current_dir(&world.root), MINUTE).unwrap();
        let found = output.stdout.contains(expected);
        last = format!("{}{}", output.stdout, output.stderr);
        Ok(found)
    });
    assert!(there.is_ok(), "{image}: {script}: {last}");
}

/// Tells it to end until it has: Apache loses what it is told while it restarts.
fn end(child: &mut Child, image: &str, tell: &dyn Fn(&Child)) {
    let ended = (0..6).any(|_| {
        tell(child);
        let what = format!("{image} to end");
        until(&what, Duration::from_secs(10), || Ok(child.try_wait().unwrap().is_some())).is_ok()
    });
    assert!(ended, "{image} does not end");
}

/// In a thread of its own, which has a network of its own.
fn server(server: &Server) -> Value {
    std::thread::scope(|scope| scope.spawn(|| server_alone(server)).join()).unwrap()
}

fn server_alone(server: &Server) -> Value {
    let image = server.image;
    let below = match image {
        "rust" | "go" => "base",
        "exporter" => "distroless",
        // With the programs that write its logs.
        "apache" => "apache2",
        image => image,
    };
    let world = World::of(&[below], server.user);
    match image {
        "rust" => world.put("/server", &made::rust_server()),
        "go" => world.put("/server", &made::go_server()),
        "exporter" => world.put("/server", &made::exporter()),
        "distroless" => world.put("/server", &made::distroless_server()),
        "musl" => world.put("/server", &made::musl_server()),
        _ => {}
    }
    let _network = Loopback::new();
    for (path, text) in [("/etc/hosts", network::HOSTS), ("/etc/resolv.conf", network::RESOLV_CONF)] {
        world.put(path, text.as_bytes());
    }
    world.put(network::CERTIFICATE, &network::certificate());
    put_again(&world, server);
    let probe = server.probe.join(" ");
    let exec: Vec<&str> = server.exec.iter().copied().chain([probe.as_str()]).collect();
    let (profile, file, seconds) = world.generate(server.argv, &exec);

    let mut seen = Run::default();
    let mut probed = None;
    for (steps, is_first) in [(server.recorded, true), (server.enforced, false)] {
        empty_tmp(&world);
        put_again(&world, server);
        let (mut command, trace) = world.traced(server.argv);
        let mut child = quiet(&mut command);
        let mut besides = |argv: &[&str]| {
            let (mut command, trace) = world.traced_besides(argv);
            let output = run(&mut command, MINUTE).unwrap();
            seen.add(&world, &trace, is_first);
            output
        };
        let signal = |name: &str| signal_traced(&child, name);
        work(server, &world, steps, &mut Outside { signal: &signal, exec: &mut besides });
        probed = Some(besides(server.probe));
        end(&mut child, image, &|child| signal_traced(child, server.quit));
        seen.add(&world, &trace, is_first);
    }

    empty_tmp(&world);
    put_again(&world, server);
    let mut child = quiet(&mut world.confined(&file, Network::Host, server.argv));
    let signal = |name: &str| world.signal_confined(name);
    let mut besides = |argv: &[&str]| run(&mut world.confined_besides(argv), MINUTE).unwrap();
    work(server, &world, server.enforced, &mut Outside { signal: &signal, exec: &mut besides });
    let bound = besides(server.probe);
    let probed = probed.unwrap();
    assert_eq!((&bound.stdout, bound.code()), (&probed.stdout, probed.code()), "{image}: {}", bound.stderr);
    end(&mut child, image, &|_| world.signal_confined(server.quit));
    row(image, "server", &profile, &seen, seconds)
}

/// The files as they are at first: a server may write its own.
fn put_again(world: &World, server: &Server) {
    for (path, text) in server.files {
        world.put(path, text.as_bytes());
    }
    world.own("/data");
}

fn report(wanted: impl Fn(&str) -> bool) {
    need_root().unwrap();
    let only = std::env::var("BULKHEAD_CORPUS_ONLY").unwrap_or_default();
    let wanted =
        |image: &str| if only.is_empty() { wanted(image) } else { only.split(',').any(|one| one == image) };
    let servers = SERVERS.iter().filter(|one| wanted(one.image)).map(server);
    let tools = TOOLS.iter().filter(|one| wanted(one.image)).map(tool);
    reported(servers.chain(tools).collect());
}

fn reported(rows: Vec<Value>) {
    merge_report("profiles", &["image"], &rows).unwrap();
    for row in &rows {
        assert_eq!(row["false_denials"], 0, "{row}");
        assert_eq!(row["landlock_false_denials"], 0, "{row}");
    }
}

#[test]
fn some_programs_of_each_kind_do_under_their_profiles_what_they_do_without() {
    report(|image| OF_CI.contains(&image));
}

#[test]
#[ignore = "long"]
fn every_program_of_the_corpus_does_under_its_profile_what_it_does_without() {
    report(|image| !OF_CI.contains(&image));
}

#[test]
#[ignore = "long"]
fn debians_own_tests_pass_under_the_profile_of_what_they_run() {
    need_root().unwrap();
    let only = std::env::var("BULKHEAD_CORPUS_ONLY").unwrap_or_default();
    let wanted = |test: &&Autopkgtest| only.is_empty() || only.split(',').any(|one| one == test.source);
    reported(AUTOPKGTESTS.iter().filter(wanted).map(autopkgtest).collect());
}
