//! OCI hooks: that each runs at its moment, is told the container's state, and that one which fails fails what it belongs to;
//! beside runc, and at both levels.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path, time::Duration};

use bulkhead_integration::{
    BULKHEAD, COMPATIBLE, HARDENED, Infra, RUNC, Refused, Release, bind, on_each_containerd, parent_of, until,
};
use serde_json::{Value, json};

const NAMED: &str = "hooks = [\"/bin/sh\"]";

/// In the order of a container's life. runc runs `poststart` at Create, before its process is started.
const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn hook(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["WORD=word"], "timeout": 30 })
}

/// Each kind appends to a file that is a volume of the container, too: its name, a word of its environment and its state.
fn tell_all(spec: &mut Value, dir: &Path) {
    for kind in KINDS {
        let file = if kind == "startContainer" { "/told/all".into() } else { dir.join("all") };
        let script = format!("echo \"{kind} $WORD $(cat)\" >> {}", file.display());
        spec["hooks"][kind] = json!([hook(&script)]);
    }
    bind(spec, dir, "/told", &["rbind", "rw"]);
}

/// Kind, word and state of each line.
fn told(dir: &Path) -> Vec<(String, String, Value)> {
    let text = fs::read_to_string(dir.join("all")).unwrap_or_default();
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ').map(str::to_owned);
        let mut next = || parts.next().unwrap();
        (next(), next(), serde_json::from_str(&next()).unwrap())
    };
    text.lines().map(line).collect()
}

fn directory(infra: &Infra, name: &str) -> std::path::PathBuf {
    let dir = infra.bench.daemon.dir().join(name);
    fs::create_dir(&dir).unwrap();
    dir
}

on_each_containerd! {
    fn hooks_of_every_kind_run_in_their_order_and_are_told_the_state_as_by_runc(release) {
        let infra = Infra::start(release);
        infra.allow(&format!("{COMPATIBLE}\n{NAMED}"));
        let told_by = |runtime: &str| {
            let dir = directory(&infra, &format!("told-{}", runtime.len()));
            let output = infra.script(runtime, "echo \"program word {}\" >> /told/all; echo ran", |spec| {
                spec["annotations"]["test.bulkhead/key"] = json!("value");
                tell_all(spec, &dir);
            });
            // That the program ran stands in the file as well: runc's shim may lose what so short a run prints.
            let output = output.success().unwrap();
            assert!(runtime == RUNC || output.stdout.contains("ran"), "{output:?}");
            told(&dir)
        };
        let (runc, ours) = (told_by(RUNC), told_by(BULKHEAD));
        let order: Vec<&str> = ours.iter().map(|(kind, ..)| kind.as_str()).filter(|kind| *kind != "poststart").collect();
        assert_eq!(order, ["prestart", "createRuntime", "createContainer", "startContainer", "program", "poststop"]);
        assert_eq!(ours.iter().filter(|(kind, ..)| kind == "poststart").count(), 1);
        for kind in KINDS {
            let of = |list: &[(String, String, Value)]| {
                let (_, word, state) = list.iter().find(|(known, ..)| known == kind).unwrap_or_else(|| panic!("{kind}")).clone();
                (word, state["id"].is_string(), state["annotations"]["test.bulkhead/key"].clone(), state["status"].clone(), state["pid"].as_u64().is_some_and(|pid| pid > 0))
            };
            let (wanted, found) = (of(&runc), of(&ours));
            assert_eq!((&found.0, found.1, &found.2), (&wanted.0, wanted.1, &wanted.2), "{kind}");
            match kind {
                // It has run, says the specification.
                "poststart" => assert_eq!((found.3, found.4), (json!("running"), true)),
                "poststop" => assert_eq!(found.3, wanted.3),
                _ => assert_eq!((found.3, found.4), (wanted.3, wanted.4), "{kind}"),
            }
        }
        infra.bench.assert_nothing_left();
    }
}

#[test]
fn hook_that_fails_fails_what_it_belongs_to_with_what_it_said_and_the_last_ones_run_all_the_same() {
    let infra = Infra::start(Release::V2_1);
    infra.allow(&format!("{COMPATIBLE}\n{NAMED}"));
    for kind in &KINDS[..5] {
        let dir = directory(&infra, kind);
        let output = infra.script(BULKHEAD, "sleep 600", |spec| {
            spec["hooks"] = json!({
                *kind: [hook("echo because of this >&2; exit 3"), hook("sleep 600")],
                "poststop": [hook("exit 1"), hook(&format!("cat > {}", dir.join("stopped").display()))],
            });
        });
        assert!(!output.ok(), "{kind}");
        for word in [&format!("hooks.{kind}[0] /bin/sh"), "because of this", "exit status: 3"] {
            assert!(output.stderr.contains(word), "{kind}: {word}: {}", output.stderr);
        }
        // The shell makes the file before the hook has written it.
        let state = || serde_json::from_slice::<Value>(&fs::read(dir.join("stopped")).unwrap_or_default());
        until("the last hook", Duration::from_secs(60), || Ok(state().is_ok())).unwrap();
        let state = state().unwrap();
        assert_eq!(state["status"], "stopped", "{kind}");
    }
    infra.bench.assert_nothing_left();
}

#[test]
fn hook_that_outstays_its_time_is_ended_with_its_children_and_the_create_fails() {
    let infra = Infra::start(Release::V2_1);
    infra.allow(&format!("{COMPATIBLE}\n{NAMED}"));
    let dir = directory(&infra, "slow");
    let pids = dir.join("pids");
    let script = format!("sleep 600 & echo $$ $! > {}; wait", pids.display());
    let output = infra.script(BULKHEAD, "true", |spec| {
        let mut slow = hook(&script);
        slow["timeout"] = json!(5);
        spec["hooks"] = json!({ "createRuntime": [slow] });
    });
    assert!(!output.ok() && output.stderr.contains("still there after 5 s"), "{}", output.stderr);
    let pids = fs::read_to_string(pids).unwrap();
    assert_eq!(pids.split_whitespace().count(), 2);
    let gone = || Ok(pids.split_whitespace().all(|pid| !Path::new("/proc").join(pid).exists()));
    until("the hook's processes end", Duration::from_secs(60), gone).unwrap();
    infra.bench.assert_nothing_left();
}

#[test]
fn last_hooks_of_a_container_whose_server_was_killed_run_once() {
    let infra = Infra::start(Release::V2_1);
    infra.allow(&format!("{COMPATIBLE}\n{NAMED}"));
    let dir = directory(&infra, "crash");
    let id = infra.background(BULKHEAD, "crash", "sleep 600", |spec| {
        let script = format!("cat >/dev/null; echo stopped >> {}", dir.join("stopped").display());
        spec["hooks"] = json!({ "poststop": [hook(&script)] });
    });
    let list = infra.bench.daemon.ctr(&["task", "list"]).unwrap().success().unwrap().stdout;
    let line = list.lines().find(|line| line.starts_with(&id)).unwrap();
    let server = parent_of(line.split_whitespace().nth(1).unwrap().parse().unwrap()).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(server.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    until("the last hook", Duration::from_secs(60), || Ok(dir.join("stopped").exists())).unwrap();
    infra.bench.remove(&id).unwrap();
    infra.bench.assert_nothing_left();
    assert_eq!(fs::read_to_string(dir.join("stopped")).unwrap(), "stopped\n");
}

#[test]
fn hardened_container_has_the_hooks_that_policy_names_and_none_of_its_image() {
    let infra = Infra::start(Release::V2_1);
    let user = "user = { force = 65532 }";
    infra.allow(&format!("{HARDENED}\n{user}\n{NAMED}"));
    let dir = directory(&infra, "hardened");
    let tell =
        |kind: &'static str| hook(&format!("cat >/dev/null; echo {kind} >> {}", dir.join("all").display()));
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let all = |spec: &mut Value| {
        for kind in kinds {
            spec["hooks"][kind] = json!([tell(kind)]);
        }
    };
    infra.script(BULKHEAD, "true", all).success().unwrap();
    assert_eq!(fs::read_to_string(dir.join("all")).unwrap().lines().collect::<Vec<_>>(), kinds);
    let of_image = |spec: &mut Value| spec["hooks"] = json!({ "startContainer": [tell("startContainer")] });
    assert_eq!(Refused::of(infra.script(BULKHEAD, "true", of_image)).unwrap().rule(), "hooks");
    // At the compatible level it needs no name, those on the node do.
    infra.allow(COMPATIBLE);
    let of_image = |spec: &mut Value| {
        spec["hooks"] = json!({ "startContainer": [hook("echo hooked > /hooked")] });
    };
    assert_eq!(infra.script(BULKHEAD, "cat /hooked", of_image).success().unwrap().stdout, "hooked\n");
    assert_eq!(Refused::of(infra.script(BULKHEAD, "true", all)).unwrap().rule(), "hooks");
    infra.bench.assert_nothing_left();
}
