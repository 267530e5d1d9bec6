//! The Landlock ruleset that is worked out from an image, enforced by the shim: each yes beside its no.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "landlock_enforced/world.rs"]
mod world;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, time::Duration};

use bulkhead_integration::{
    ALLOWED, Answers, Bench, ContainerOptions, Cri, Entry, Image, Layer, Output, RUNC, Refused, Release,
    heard, until,
};
use serde_json::json;
use world::World;

const NAME: &str = "registry.test/team-a/debian:1";
const TRICKS: &[u8] = include_bytes!("landlock_enforced/tricks.py");
const PYTHON: [&str; 2] = ["/usr/bin/python3", "/opt/tricks.py"];

/// Serves files of /etc/nginx, which a mount may hide, on a port that the image EXPOSEs and one that it does not.
const NGINX: &str = "daemon off; pid /tmp/nginx.pid; error_log stderr; worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen PORT; location / { return 200 \"served\\n\"; } location /files/ { alias /usr/share/; } }
}
";

fn nginx(port: u16) -> String {
    NGINX.replace("PORT", &port.to_string())
}

fn image() -> Image {
    let files = Layer::of(&[
        Entry::Dir("etc/nginx", 0o755),
        Entry::File("etc/nginx/nginx.conf", 0o644, nginx(8080).as_bytes()),
        Entry::File("etc/nginx/other.conf", 0o644, nginx(9090).as_bytes()),
        Entry::Dir("opt", 0o755),
        Entry::File("opt/tricks.py", 0o644, TRICKS),
    ]);
    let mut image = Image::userland(NAME).unwrap().with(files.unwrap());
    image.more.insert("ExposedPorts".to_owned(), json!({ "8080/tcp": {} }));
    image
}

#[derive(Debug)]
struct Said {
    tricks: BTreeMap<String, String>,
    needed: BTreeMap<String, String>,
}

fn said(output: Output) -> Said {
    said_of(&output.success().unwrap().stdout)
}

fn said_of(stdout: &str) -> Said {
    let rows = |kind: &str| -> BTreeMap<String, String> {
        let rows = stdout.lines().filter_map(|line| line.strip_prefix(kind)?.trim().split_once(' '));
        rows.map(|(name, answer)| (name.to_owned(), answer.to_owned())).collect()
    };
    let (tricks, needed) = (rows("trick "), rows("needed "));
    assert!(tricks.len() > 12 && needed.len() > 8, "{stdout}");
    Said { tricks, needed }
}

impl Said {
    /// Tricks that got there.
    fn reached(&self) -> Vec<&str> {
        self.tricks.iter().filter(|(_, answer)| *answer == "ok").map(|(name, _)| name.as_str()).collect()
    }

    fn all_that_is_needed_works(&self) {
        assert!(self.needed.values().all(|answer| answer == "ok"), "{:?}", self.needed);
    }
}

#[test]
fn program_that_a_command_does_not_need_is_reached_by_no_trick_and_by_all_of_them_without_the_ruleset() {
    let world = World::of(&image());
    let runc = || Ok(world.run_under(RUNC, "runc", &["--user", "0:0"], &PYTHON).success()?.stdout);
    let runc = said_of(&heard(RUNC, runc).unwrap());
    assert_eq!(runc.reached().len(), runc.tricks.len(), "{runc:?}");

    // /tmp on purpose: noexec is not what is tried here.
    let open = "executable = [\"/tmp\"]\nmemfd = \"allowed\"";
    world.policy("enforce", open);
    let whole = said(world.run("whole", &PYTHON));
    let missed: Vec<_> = whole.tricks.iter().filter(|(_, answer)| *answer != "ok").collect();
    // /tmp is a mount of its own.
    assert!(missed.iter().all(|(name, _)| *name == "through_a_hard_link"), "{missed:?}");

    world.policy("enforce", "executable = [\"/tmp\"]\nlandlock = { files = \"generated\" }");
    let told = said(world.run_when_ready("told", &PYTHON));
    assert_eq!(told.reached(), Vec::<&str>::new(), "{told:?}");
    told.all_that_is_needed_works();
    whole.all_that_is_needed_works();

    // What docs/threat-model.md says: memory that can be executed goes round Landlock, with what the process can read.
    world.policy("enforce", &format!("{open}\nlandlock = {{ files = \"generated\" }}"));
    let memory = said(world.run_when_ready("memory", &PYTHON));
    assert_eq!(memory.reached(), ["own_program_in_memory"], "{memory:?}");
    world.bench.assert_nothing_left();
}

#[test]
fn exec_has_the_ruleset_too_and_a_pattern_of_policy_lets_its_program_in() {
    let world = World::of(&image());
    let generated = "executable = [\"/tmp\"]\nlandlock = { files = \"generated\" }\n";
    let python = "exec = [{ command = \"/usr/bin/python3 /opt/tricks.py exec\", stdin = true }]";
    // What policy does not let be exec'd is tried in audit mode.
    world.policy("audit", &format!("{generated}{python}"));
    let id = world.start_when_ready("python", &["/usr/bin/python3", "-c", "import time; time.sleep(900)"]);
    let exec = |command: &[&str]| world.bench.exec(&id, command).unwrap();
    let tricks = said(exec(&["/usr/bin/python3", "/opt/tricks.py", "exec"]));
    assert_eq!(tricks.reached(), Vec::<&str>::new(), "{tricks:?}");
    tricks.all_that_is_needed_works();
    let factor = ["/usr/bin/factor", "6"];
    let denied = exec(&factor);
    assert_ne!(denied.code(), 0);
    assert!(
        denied.stderr.contains("permission denied") && denied.stderr.contains("landlock.files"),
        "{}",
        denied.stderr
    );

    // The programs of init stay what they were; those of execs are what policy says now.
    world.policy(
        "enforce",
        &format!("{generated}exec = [{{ command = \"/usr/bin/factor *\", stdin = true }}]"),
    );
    let busy = |output: &Output| output.stderr.contains("is being worked out");
    let mut last = None;
    until("the files of factor are known", Duration::from_secs(180), || {
        let output = exec(&factor);
        let ready = !busy(&output);
        last = Some(output);
        Ok(ready)
    })
    .unwrap();
    assert_eq!(last.unwrap().success().unwrap().stdout, "6: 2 3\n");
    world.policy("enforce", "exec = [\"/usr/bin/factor *\", { command = \"/usr/bin/id\", stdin = true }]");
    assert_ne!(
        exec(&["/usr/bin/id"]).code(),
        0,
        "what init was started with stays where policy takes the baseline now"
    );
    world.bench.remove(&id).unwrap();
    world.bench.assert_nothing_left();
}

#[test]
fn files_that_cannot_be_told_are_refused_or_taken_whole_as_policy_says_and_a_hash_takes_only_its_own() {
    let world = World::of(&image());
    let cat = ["/bin/cat", "/etc/passwd"];
    world.policy("enforce", "landlock = { files = \"generated\" }");
    let first = world.run("first", &cat);
    assert!(first.code() != 0 && first.stderr.contains("is being worked out"), "{}", first.stderr);
    world.run_when_ready("ready", &cat).success().unwrap();
    let refused = Refused::of(world.run_when_ready("none", &["/no/such"])).unwrap();
    assert_eq!(refused.rule(), "landlock", "{}", refused.line());
    // Which program a pattern with an open end runs, nobody can tell.
    world.policy("enforce", "landlock = { files = \"generated\" }\nexec = [\"sh *\"]");
    let refused = Refused::of(world.run_when_ready("any", &cat)).unwrap();
    assert_eq!(refused.rule(), "landlock", "{}", refused.line());
    world.policy("enforce", "landlock = { files = \"generated-when-ready\" }\nexec = [\"sh *\"]");
    world.run("whole", &cat).success().unwrap();
    world.policy("enforce", "landlock = { files = \"generated\" }\nroot = \"writable\"");
    let refused = Refused::of(world.run_when_ready("writable", &cat)).unwrap();
    assert!(refused.line().contains("writable"), "{}", refused.line());

    world.policy("enforce", &format!("landlock = {{ files = \"sha256:{}\" }}", "0".repeat(64)));
    let refused = Refused::of(world.run_when_ready("other", &cat)).unwrap();
    let hash = refused.line().split("this command are ").nth(1).and_then(|rest| rest.get(..71)).unwrap();
    world.policy("enforce", &format!("landlock = {{ files = {hash:?} }}"));
    world.run("pinned", &cat).success().unwrap();
    world.bench.assert_nothing_left();
}

/// A rule is for an inode, and overlay has none to keep for a file with two names that nobody holds open: without the pins of
/// `bulkhead_confine` the first of these fails.
#[test]
fn program_with_two_names_still_runs_after_the_kernel_forgot_both_and_another_stays_out() {
    let program = fs::read("/usr/bin/true").unwrap();
    let links = Layer::of(&[
        Entry::Dir("srv", 0o755),
        Entry::File("srv/own", 0o755, &program),
        Entry::Link("srv/own2", "srv/own"),
        Entry::File("srv/other", 0o755, &program),
    ]);
    let world = World::of(&image().with(links.unwrap()));
    let script = "import os, time\nwhile not os.path.exists('/tmp/go'): time.sleep(0.05)\nsaid = []\n\
        for name in ('/srv/own', '/srv/other'):\n    said.append(str(os.spawnv(os.P_WAIT, name, [name])))\n\
        open('/tmp/part', 'w').write(' '.join(said)); os.rename('/tmp/part', '/tmp/said'); time.sleep(900)\n";
    let exec = "exec = [\"/srv/own\", { command = \"/usr/bin/touch /tmp/go\", stdin = true }, \
        { command = \"/bin/cat /tmp/said\", stdin = true }]";
    world.policy("enforce", &format!("landlock = {{ files = \"generated\" }}\n{exec}"));
    let id = world.start_when_ready("names", &["/usr/bin/python3", "-c", script]);
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    world.bench.exec(&id, &["/usr/bin/touch", "/tmp/go"]).unwrap().success().unwrap();
    let mut said = String::new();
    until("both were tried", Duration::from_secs(60), || {
        let read = world.bench.exec(&id, &["/bin/cat", "/tmp/said"]).unwrap();
        said = read.stdout.clone();
        Ok(read.code() == 0)
    })
    .unwrap();
    // What spawnv says of an execve(2) that failed.
    assert_eq!(said, "0 127");
    world.bench.remove(&id).unwrap();
    world.bench.assert_nothing_left();
}

#[test]
fn server_serves_under_both_halves_from_its_image_and_from_a_mount_on_the_ports_that_it_exposes() {
    let world = World::of(&image());
    let data = world.bench.daemon.dir().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("nginx.conf"), nginx(8080)).unwrap();
    let both = format!(
        "seccomp = \"generated\"\nlandlock = {{ files = \"generated\", tcp_bind = \"exposed\", tcp_connect = \"none\" }}\n\
         host_paths = [{{ path = {data:?} }}]\nexec = [{{ command = \"/usr/sbin/nginx -s *\", stdin = true }}]"
    );
    world.policy("enforce", &both);
    let bind = format!("type=bind,src={},dst=/etc/nginx,options=rbind:ro", data.display());
    for (name, options) in [("image", vec![]), ("mount", vec!["--mount", bind.as_str()])] {
        let id = world.start_with_when_ready(name, &options, &["/usr/sbin/nginx"]);
        let served = || world.get(&id, 8080, "/");
        until("nginx serves", Duration::from_secs(60), || Ok(served().contains("served"))).unwrap();
        assert!(world.get(&id, 8080, "/files/base-files/dot.bashrc").contains("200 OK"));
        assert!(world.get(&id, 8080, "/files/none").contains("404"));
        world.bench.exec(&id, &["/usr/sbin/nginx", "-s", "reload"]).unwrap().success().unwrap();
        until("nginx serves", Duration::from_secs(60), || Ok(served().contains("served"))).unwrap();
        world.bench.remove(&id).unwrap();
    }
    let other = ["/usr/sbin/nginx", "-c", "/etc/nginx/other.conf"];
    let denied = world.run_when_ready("other", &other);
    assert!(
        denied.stderr.contains("bind() to 0.0.0.0:9090 failed (13: Permission denied)"),
        "{}",
        denied.stderr
    );
    signals_reach_init_unless_they_are_scoped(&world);
    world.bench.assert_nothing_left();
}

/// Token, ConfigMap, emptyDir, hosts and the termination log as the kubelet brings them, /proc and /dev: as under the baseline.
#[test]
fn pod_has_its_volumes_and_files_and_its_image_no_program_that_it_does_not_need() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let attempts = [
        ("write:/work/f", "done", "done"),
        ("run-dropped:/work/d", "EACCES", "EACCES"),
        ("read:/token/token", "done", "done"),
        ("create:/token/x", "EROFS", "EROFS"),
        ("write:/dev/termination-log", "done", "done"),
        ("write:/dev/null", "done", "done"),
        ("write:/tmp/f", "done", "done"),
        ("read:/etc/hosts", "done", "done"),
        ("read:/etc/passwd", "done", "done"),
        ("read:/proc/self/status", "done", "done"),
        ("read:/bin/probe", "done", "done"),
        ("read:/bin/busybox", "done", "EACCES"),
    ];
    let mut command = vec!["/bin/probe", "try"];
    command.extend(attempts.map(|(attempt, _, _)| attempt));
    for (name, lines) in
        [("whole", ""), ("told", "seccomp = \"generated-when-ready\"\nlandlock = { files = \"generated\" }")]
    {
        bench.allow(lines).unwrap();
        let pod = pods.run("bulkhead", "team-a", name).unwrap();
        let dir = |below: &str| bench.daemon.kubelet_dir(&pod, below).unwrap();
        let (empty_here, empty) = dir("volumes/kubernetes.io~empty-dir/work");
        let (token_here, token) = dir("volumes/kubernetes.io~projected/token");
        let (log_here, log) = dir("containers/app");
        fs::set_permissions(&empty_here, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(token_here.join("token"), "t").unwrap();
        fs::write(log_here.join("0a1b2c3d"), "").unwrap();
        fs::set_permissions(log_here.join("0a1b2c3d"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut app = ContainerOptions::restricted("app", ALLOWED, &command);
        app.mounts.push((empty, "/work".to_owned(), false));
        app.mounts.push((token, "/token".to_owned(), true));
        app.mounts.push((log.join("0a1b2c3d"), "/dev/termination-log".to_owned(), false));
        let mut id = String::new();
        until("its profile is ready", Duration::from_secs(180), || {
            id = pods.create(&pod, &app)?;
            match pods.start(&id) {
                Ok(()) => Ok(true),
                Err(error) if error.to_string().contains("is being worked out") => {
                    pods.remove(&id).map(|()| false)
                }
                Err(error) => Err(error),
            }
        })
        .unwrap();
        assert_eq!(pods.wait(&id).unwrap(), 0);
        let answers = Answers::read(&pods.output(&pod, "app").unwrap()).unwrap();
        for (attempt, whole, told) in attempts {
            let expected = if name == "whole" { whole } else { told };
            assert_eq!(answers.get(attempt), expected, "{name}: {attempt}");
        }
        pods.remove_pod(&pod).unwrap();
    }
    bench.assert_nothing_left();
}

/// A preStop hook is an exec.
fn signals_reach_init_unless_they_are_scoped(world: &World) {
    let exec = "exec = [{ command = \"/usr/sbin/nginx -s *\", stdin = true }]";
    for (scope, reaches) in [("", true), ("landlock = { scope = [\"signals\"] }", false)] {
        world.policy("enforce", &format!("{exec}\n{scope}"));
        let id = world.start_when_ready("scoped", &["/usr/sbin/nginx"]);
        until("nginx serves", Duration::from_secs(60), || Ok(world.get(&id, 8080, "/").contains("served")))
            .unwrap();
        let reload = world.bench.exec(&id, &["/usr/sbin/nginx", "-s", "reload"]).unwrap();
        assert_eq!(reload.code() == 0, reaches, "{}", reload.stderr);
        world.bench.remove(&id).unwrap();
    }
}
