//! Programs of Debian as images, under both halves of what is worked out from them: each does what it does under runc
//! without them. The workload is none that anything was recorded with.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "corpus/servers/others.rs"]
mod others;
#[path = "corpus/programs.rs"]
#[allow(dead_code, reason = "the corpus has more to it")]
mod programs;
#[path = "landlock_enforced/servers.rs"]
mod servers;
#[path = "landlock_enforced/world.rs"]
#[allow(dead_code, reason = "each test program uses a part")]
mod world;

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use bulkhead_integration::{
    BULKHEAD, Entry, Image, Layer, Output, RUNC, UID, merge_report, need_root, run, runcs, until, workspace,
};
use programs::{Server, Step, TOOLS, Tool};
use serde_json::{Map, Value, json};
use servers::SERVERS;
use world::World;

const NAME: &str = "registry.test/team-a/corpus:1";
const MINUTE: Duration = Duration::from_secs(60);

/// A server and a tool; the rest is of the long tier.
const OF_CI: &[&str] = &["memcached", "jq"];

fn corpus(image: &str) -> Layer {
    let script = workspace().join("integration/scripts/corpus.sh");
    run(Command::new(script).arg(image), 10 * MINUTE).unwrap().success().unwrap();
    let dir = workspace().join("target/deps/corpus").join(image);
    let tar =
        Command::new("tar").arg("-C").arg(dir).args(["--exclude=./.complete", "-c", "."]).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    Layer::of_tar(tar.stdout)
}

fn world(image: &str, files: &[(&str, &str)]) -> Corpus {
    let mut layers = vec![corpus("base")];
    if image != "base" {
        layers.push(corpus(image));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| Entry::File(path.trim_start_matches('/'), 0o644, text.as_bytes()))
        .collect();
    layers.push(Layer::of(&files).unwrap());
    let config = json!({ "User": format!("{UID}:{UID}"), "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] });
    let config: Map<String, Value> = serde_json::from_value(config).unwrap();
    let world = World::of(&Image::of_config(NAME, layers, config));
    let dirs = world.bench.daemon.dir().join("tmp");
    let corpus = Corpus { world, free: dirs.join("free"), held: dirs.join("held") };
    for dir in [&corpus.free, &corpus.held] {
        fs::create_dir_all(dir).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).unwrap();
    }
    corpus
}

struct Corpus {
    world: World,
    /// What /tmp is without confinement, and with it.
    free: PathBuf,
    held: PathBuf,
}

impl Corpus {
    fn policy(&self, exec: &[&str]) {
        self.world.policy(
            "enforce",
            &format!(
                "identity = \"as-is\"\nseccomp = \"generated-when-ready\"\nlandlock = {{ files = \"generated\" }}\nexec = {exec:?}\n\
                 host_paths = [{{ path = {:?}, access = \"read-write\" }}]",
                self.held
            ),
        );
    }

    fn mount(&self, runtime: &str) -> String {
        let source = if runtime == RUNC { &self.free } else { &self.held };
        format!("type=bind,src={},dst=/tmp,options=rbind:rw", source.display())
    }

    fn once(&self, runtime: &str, argv: &[&str]) -> Output {
        let mount = self.mount(runtime);
        let mut last = None;
        until("its profile is ready", 5 * MINUTE, || {
            let output = self.world.run_under(runtime, "once", &["--mount", &mount], argv);
            let busy = output.stderr.contains("is being worked out");
            last = Some(output);
            Ok(!busy)
        })
        .unwrap();
        last.unwrap()
    }

    /// What was kept, once for each command.
    fn kept(&self) -> Vec<Value> {
        let dir = self.world.bench.daemon.bulkhead_root().join("var/lib/bulkhead/profiles/enforced");
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap()).collect()
    }

    fn row(&self, image: &str) -> Value {
        let kept = self.kept();
        let rules = |profile: &Value| {
            let count = |list: &str| profile["files"][list].as_array().map_or(0, Vec::len);
            count("execute") + count("read")
        };
        for profile in &kept {
            assert_eq!(profile["files_widened"], Value::Null, "{image}: {profile}");
        }
        let row = json!({
            "image": image,
            "commands": kept.len(),
            "landlock_rules": kept.iter().map(rules).max(),
            "seccomp_widened": kept.iter().any(|profile| !profile["widened"].is_null()),
            "false_denials": 0,
        });
        println!("{row}");
        row
    }
}

fn tool(tool: &Tool) -> Value {
    let script = "set f [open /tmp/t w]; puts $f x; close $f; puts [file size /tmp/t]; puts [exec echo hi]\n";
    let corpus = world(tool.image, &[("/etc/it.tcl", script)]);
    corpus.policy(tool.exec);
    for argv in tool.enforced {
        let held = corpus.once(BULKHEAD, argv);
        let of = |output: &Output| (without_times(&output.stdout).join("\n"), output.code());
        let free = runcs(&of(&held), || of(&corpus.once(RUNC, argv)));
        assert_eq!(of(&held), free, "{argv:?}: {}", held.stderr);
    }
    corpus.world.bench.assert_nothing_left();
    corpus.row(tool.image)
}

/// What is said of how long it took is no two times the same.
fn without_times(said: &str) -> Vec<&str> {
    said.lines().filter(|line| !line.ends_with(" seconds") && !line.ends_with(" bytes/sec")).collect()
}

fn server(server: &Server) -> Value {
    let Server { image, argv, files, socket, enforced, quit, .. } = server;
    let corpus = world(image, files);
    corpus.policy(&[]);
    let world = &corpus.world;
    let mount = corpus.mount(BULKHEAD);
    let id = world.start_with_when_ready(image, &["--mount", &mount], argv);
    let socket = corpus.held.join(socket.trim_start_matches("/tmp/"));
    for step in *enforced {
        match step {
            Step::Say(text, expected) => until(&format!("{image} to answer {text:?}"), MINUTE, || {
                Ok(UnixStream::connect(&socket).is_ok_and(|stream| talk(stream, text, expected)))
            })
            .unwrap(),
            Step::Signal(name) => signal(world, &id, name),
            // Only the corpus' own report has a network.
            Step::To(..) | Step::Client(..) | Step::Exec(_) => unreachable!(),
        }
    }
    signal(world, &id, quit);
    let ended = || Ok(world.bench.daemon.tasks().unwrap().state(&id, "").unwrap().status == "STOPPED");
    until(&format!("{image} to end"), MINUTE, ended).unwrap();
    let denied =
        world.bench.daemon.bulkhead_root().join("run/bulkhead/denied").join(world.bench.daemon.tag());
    assert!(!denied.join(format!("{id}.json")).exists(), "{image} was denied a call");
    world.bench.remove(&id).unwrap();
    world.bench.assert_nothing_left();
    corpus.row(image)
}

fn signal(world: &World, id: &str, name: &str) {
    world.bench.daemon.ctr(&["task", "kill", "-s", name, id]).unwrap().success().unwrap();
}

/// Sends, and reads until the answer has what is expected; whether it had.
fn talk(mut stream: UnixStream, text: &str, expected: &str) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    if stream.write_all(text.as_bytes()).is_err() {
        return false;
    }
    let (mut answer, mut part) = (String::new(), [0; 4096]);
    while let Ok(got @ 1..) = stream.read(&mut part) {
        answer.push_str(&String::from_utf8_lossy(&part[..got]));
        if answer.contains(expected) {
            return true;
        }
    }
    false
}

fn report(wanted: impl Fn(&str) -> bool) {
    need_root().unwrap();
    let only = std::env::var("BULKHEAD_CORPUS_ONLY").unwrap_or_default();
    let wanted = |image: &str| {
        if only.is_empty() { wanted(image) } else { only.split(',').any(|one| one == image) }
    };
    let servers = SERVERS.iter().filter(|one| wanted(one.image)).map(server);
    let tools = TOOLS.iter().filter(|one| wanted(one.image)).map(tool);
    let rows: Vec<Value> = servers.chain(tools).collect();
    merge_report("landlock", &["image"], &rows).unwrap();
}

#[test]
fn some_programs_do_under_what_their_image_needs_what_they_do_without() {
    report(|image| OF_CI.contains(&image));
}

#[test]
#[ignore = "long"]
fn every_program_of_the_corpus_does_under_what_its_image_needs_what_it_does_without() {
    report(|image| !OF_CI.contains(&image));
}
