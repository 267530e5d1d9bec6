//! `bulkhead watch` on real containerds with real registries: what it has judged, a launch judges no more.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "trust/cosign.rs"]
#[allow(dead_code, reason = "shared with the suite of the store, which saves images too")]
mod cosign;
#[path = "watch/launch.rs"]
mod launch;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Containerd, Cri, Output, Refused, Registry, RegistryDoor, RegistryKind,
    Release, bulkhead_dir, on_each_containerd, until, workspace,
};
use cosign::Cosign;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// How long the watch may take to say something, on a busy machine.
const SAID: Duration = Duration::from_secs(90);

/// A running `bulkhead watch`, and what it says.
struct Watch {
    child: Child,
    said: PathBuf,
}

impl Watch {
    fn start(daemon: &Containerd, options: &[&str]) -> Self {
        let said = daemon.dir().join("watch.log");
        let out = fs::File::create(&said).unwrap();
        let child = command(daemon, options)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn();
        Self { child: child.unwrap(), said }
    }

    /// Waits for a line with all of these words.
    fn says(&self, words: &[&str]) -> String {
        let find = || {
            let text = fs::read_to_string(&self.said).unwrap();
            text.lines().rfind(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        };
        let waited = until("a line of the watch", SAID, || Ok(find().is_some()));
        waited.unwrap_or_else(|error| {
            panic!("{error}: {words:?} in\n{}", fs::read_to_string(&self.said).unwrap())
        });
        find().unwrap()
    }

    /// Ends it as systemd does.
    fn end(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Ended already, or now.
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

fn command(daemon: &Containerd, options: &[&str]) -> Command {
    let mut command = Command::new(bulkhead_dir().unwrap().join("bulkhead"));
    let root = daemon.bulkhead_root();
    command
        .arg("--root")
        .arg(&root)
        .arg("watch")
        .arg("--containerd-config")
        .arg(daemon.dir().join("config.toml"));
    command.arg("--containerd").arg("/nonexistent").arg("--address").arg(daemon.socket());
    command.args(options).env("DOCKER_CONFIG", root.join("none"));
    command
}

/// One look.
fn once(daemon: &Containerd, options: &[&str]) -> Output {
    bulkhead_integration::run(&mut command(daemon, &[&["--once"], options].concat()), SAID).unwrap()
}

/// The last line of the record.
fn recorded(daemon: &Containerd) -> Value {
    let text =
        fs::read_to_string(daemon.bulkhead_root().join("var/lib/bulkhead/audit/verdicts.jsonl")).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn run(daemon: &Containerd, image: &str, name: &str) -> Output {
    let id = daemon.id(name);
    daemon.ctr(&["run", "--rm", "--runtime", BULKHEAD, image, &id, "/bin/true"]).unwrap()
}

/// A policy by which images of `scope` need a signature by `cosign`, and `fetch`.
fn policy(daemon: &Containerd, cosign: &Cosign, scopes: &[&str], fetch: &str) {
    let scopes: String =
        scopes.iter().map(|scope| format!("\"{scope}\" = {{ require = [\"ci\"] }}\n")).collect();
    let keys = daemon.bulkhead_root().join("etc/bulkhead/keys");
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join("ci.pub"), cosign.public_key()).unwrap();
    daemon
        .policy(&format!(
            "version = 1\n[image]\n{scopes}[rule.ci]\nkeys = [\"keys/ci.pub\"]\n[trust]\nfetch = \"{fetch}\"\n"
        ))
        .unwrap();
}

/// Pushes what containerd has as `from` and gives its name by digest.
fn push(daemon: &Containerd, from: &str, to: &str, target: &str) -> String {
    daemon.ctr(&["images", "push", "--plain-http", to, from]).unwrap().success().unwrap();
    format!("{}@{target}", to.rsplit_once(':').unwrap().0)
}

fn nothing_left(dir: &Path) {
    let open = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    assert_eq!(open.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

on_each_containerd! {
    fn a_signed_image_that_is_pulled_is_fetched_judged_and_compared_before_its_first_launch(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let daemon = &bench.daemon;
        let registry = Registry::start(RegistryKind::Docker, RegistryDoor::Open, &daemon.dir().join("registry")).unwrap();
        let (signed, unsigned) =
            (format!("{}/team-a/signed:1", registry.address()), format!("{}/team-a/unsigned:1", registry.address()));
        let evil = bench.import_evil("registry.test/team-a/evil:1").unwrap();
        let image = push(daemon, ALLOWED, &signed, &bench.digests.target);
        push(daemon, "registry.test/team-a/evil:1", &unsigned, &evil.target);
        let ci = Cosign::new(3, &daemon.dir().join("ci"));
        ci.sign(&image);
        let scope = format!("{}/team-a/*", registry.address());
        policy(daemon, &ci, &[&scope], "watch");

        let watch = Watch::start(daemon, &[]);
        watch.says(&["watching containerd"]);
        for name in [&signed, &unsigned] {
            daemon.ctr(&["images", "pull", "--plain-http", name]).unwrap().success().unwrap();
        }
        let line = watch.says(&["admitted", &signed, "its files are those of its layers"]);
        assert!(line.contains("[rule.ci] by key sha256:"), "{line}");
        let line = watch.says(&["refused", &unsigned, "image-signature"]);
        assert!(line.contains("0 signatures were fetched"), "{line}");

        // The first launch starts no judge; and no network is asked any more, not even one that is there.
        drop(registry);
        run(daemon, &signed, "first").success().unwrap();
        let record = recorded(daemon);
        assert_eq!(record["judges"], 0, "{record}");
        assert_eq!(record["signed_by"][0]["rule"], "ci", "{record}");
        assert_eq!(record["image"]["contents"], "receipt", "{record}");
        Refused::of(run(daemon, &unsigned, "unsigned")).unwrap();
        // Cut off, everything that was verified stays so, under a watch that begins anew as well.
        watch.end();
        let look = once(daemon, &[]);
        assert!(look.stdout.contains(&format!("admitted {}", signed)), "{look:?}");
        assert_eq!(look.code(), 1, "{look:?}");
        run(daemon, &signed, "again").success().unwrap();
        assert_eq!(recorded(daemon)["judges"], 0);

        nothing_left(&daemon.bulkhead_root().join("run/bulkhead/judge"));
        let snapshots = daemon.ctr(&["snapshots", "ls"]).unwrap().stdout;
        assert!(!snapshots.contains("bulkhead-view"), "{snapshots}");
        bench.assert_nothing_left();
    }
}

#[test]
fn nothing_is_fetched_unless_policy_says_so() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let daemon = &bench.daemon;
    let registry =
        Registry::start(RegistryKind::Referrers, RegistryDoor::Open, &daemon.dir().join("registry")).unwrap();
    let name = format!("{}/team-a/signed:1", registry.address());
    let image = push(daemon, ALLOWED, &name, &bench.digests.target);
    let ci = Cosign::new(3, &daemon.dir().join("ci"));
    ci.sign(&image);
    daemon.ctr(&["images", "tag", ALLOWED, &name]).unwrap().success().unwrap();
    let scope = format!("{}/team-a/*", registry.address());
    for (fetch, status) in [("never", 1), ("watch", 0)] {
        policy(daemon, &ci, &[&scope], fetch);
        let look = once(daemon, &[]);
        assert_eq!(look.code(), status, "{fetch}: {look:?}");
    }
}

#[test]
fn a_watch_waits_for_containerd_and_goes_on_when_it_comes_back() {
    let mut bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let mut watch = None;
    let start = |daemon: &Containerd| Watch::start(daemon, &[]);
    let none = fs::remove_file(bench.daemon.socket());
    none.unwrap();
    let unreachable = once(&bench.daemon, &[]);
    assert_eq!(unreachable.code(), 3, "{unreachable:?}");
    assert!(unreachable.stderr.contains("connect to containerd at"), "{unreachable:?}");
    watch.replace(start(&bench.daemon));
    let watch = watch.unwrap();
    watch.says(&["failed", "connect to containerd at", "No such file", "trying again"]);

    bench.daemon.restart().unwrap();
    watch.says(&["admitted", ALLOWED.split_once(':').unwrap().0, &bench.digests.target]);
    watch.says(&["watching containerd"]);
    bench.daemon.restart().unwrap();
    watch.says(&["containerd has ended; trying again"]);
    bench.import_evil("registry.test/team-a/evil:1").unwrap();
    watch.says(&["refused", "registry.test/team-a/evil", "image-digest"]);
    watch.end();
}

#[test]
fn a_registry_that_hangs_holds_up_nobody_else_and_is_named() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let daemon = &bench.daemon;
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let hung_name = format!("{}/team-a/hung:1", hung.local_addr().unwrap());
    let registry =
        Registry::start(RegistryKind::Docker, RegistryDoor::Open, &daemon.dir().join("registry")).unwrap();
    let good = format!("{}/team-a/good:1", registry.address());
    let image = push(daemon, ALLOWED, &good, &bench.digests.target);
    let ci = Cosign::new(3, &daemon.dir().join("ci"));
    ci.sign(&image);
    bench.import_evil(&hung_name).unwrap();
    daemon.ctr(&["images", "tag", ALLOWED, &good]).unwrap().success().unwrap();
    let hung_scope = format!("{}/team-a/*", hung.local_addr().unwrap());
    policy(daemon, &ci, &[&hung_scope, &format!("{}/team-a/*", registry.address())], "watch");
    let look = once(daemon, &["--timeout", "10"]);
    assert_eq!(look.code(), 1, "{look:?}");
    let line =
        |word: &str| look.stdout.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
    assert!(line("team-a/good").starts_with("admitted"), "{look:?}");
    assert!(line("team-a/hung").contains("signatures cannot be fetched"), "{look:?}");
}

/// As systemd starts it, but for what needs systemd.
#[test]
fn the_capabilities_of_its_unit_are_enough_and_fewer_are_not() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let daemon = &bench.daemon;
    let digest = &bench.digests.manifest;
    daemon
        .policy(&format!(
            "version = 1\n[image]\n\"registry.test/team-a/*\" = {{ digests = [\"{digest}\"], contents = \"receipt\" }}\n"
        ))
        .unwrap();
    let unit =
        fs::read_to_string(workspace().join("integration/deploy/systemd/bulkhead-watch.service")).unwrap();
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let names: Vec<String> =
        set.split(' ').map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase()).collect();
    let look = |kept: &[String]| {
        let kept: String = kept.iter().map(|name| format!(",+{name}")).collect();
        let watch = command(daemon, &["--once"]);
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-all{kept}")).arg("--").arg(watch.get_program());
        command.args(watch.get_args());
        bulkhead_integration::run(&mut command, SAID).unwrap()
    };
    let few: Vec<String> = names.iter().filter(|name| !name.starts_with("set")).cloned().collect();
    assert!(few.len() < names.len());
    let refused = look(&few);
    assert_eq!(refused.code(), 3, "{refused:?}");
    let enough = look(&names);
    assert_eq!(enough.code(), 0, "{enough:?}");
    assert!(enough.stdout.contains("its files are those of its layers"), "{enough:?}");
}
