//! Profiles worked out from images, enforced by the shim: each yes beside its no.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use bulkhead_integration::{
    BULKHEAD, Bench, ContainerOptions, Cri, Digests, Entry, Image, Layer, Output, Refused, Release,
    on_each_containerd, until,
};
use serde_json::Value;

const NAME: &str = "registry.test/team-a/debian:1";

const NGINX: &str = "daemon off; pid /tmp/nginx.pid; error_log stderr; worker_processes 2;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen unix:/tmp/http.sock; location / { return 200 \"served\\n\"; } }
}
";

fn import(bench: &Bench) -> Digests {
    // A header that promises what does not follow.
    let mut lies = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    lies.resize(64, 0xff);
    let files = Layer::of(&[
        Entry::Dir("etc/nginx", 0o755),
        Entry::File("etc/nginx/nginx.conf", 0o644, NGINX.as_bytes()),
        Entry::Dir("opt", 0o755),
        Entry::File("opt/lies", 0o755, &lies),
    ]);
    bench.daemon.import(&Image::userland(NAME).unwrap().with(files.unwrap())).unwrap()
}

fn policy(bench: &Bench, digests: &Digests, mode: &str, keys: &str) {
    let text = format!(
        "version = 1\nmode = {mode:?}\n[image]\n\"registry.test/team-a/*\" = {{ digests = [{:?}] }}\n[confine.default]\n{keys}\n",
        digests.manifest
    );
    bench.daemon.policy(&text).unwrap();
}

fn run(bench: &Bench, name: &str, command: &[&str]) -> Output {
    let id = bench.daemon.id(name);
    let mut args = vec!["run", "--rm", "--runtime", BULKHEAD, NAME, &id];
    args.extend(command);
    bench.daemon.ctr(&args).unwrap()
}

/// Runs it again and again while its profile is being worked out.
fn run_when_ready(bench: &Bench, name: &str, command: &[&str]) -> Output {
    let mut last = None;
    until("its profile is ready", Duration::from_secs(180), || {
        let output = run(bench, name, command);
        let busy = output.stderr.contains("is being worked out");
        last = Some(output);
        Ok(!busy)
    })
    .unwrap();
    last.unwrap()
}

fn kept(bench: &Bench) -> Vec<PathBuf> {
    let dir = bench.daemon.bulkhead_root().join("var/lib/bulkhead/profiles/enforced");
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn program_waits_for_its_profile_and_runs_under_it_and_another_hash_is_refused() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let digests = import(&bench);
    policy(&bench, &digests, "enforce", "seccomp = \"generated\"");
    let first = run(&bench, "first", &["/bin/cat", "/proc/self/status"]);
    assert_ne!(first.code(), 0);
    assert!(first.stderr.contains("is being worked out"), "{}", first.stderr);
    let ready = run_when_ready(&bench, "ready", &["/bin/cat", "/proc/self/status"]).success().unwrap();
    assert!(ready.stdout.contains("Seccomp:\t2"), "{}", ready.stdout);
    // The profile, and what takes sendmsg and seccomp away after the listener was handed over.
    assert!(ready.stdout.contains("Seccomp_filters:\t2"), "{}", ready.stdout);
    assert_eq!(kept(&bench).len(), 1);
    let text = fs::read_to_string(&kept(&bench)[0]).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(profile["widened"], serde_json::Value::Null, "{text}");
    assert!(profile["calls"].as_array().unwrap().len() < 120, "{text}");
    assert!(
        profile["arguments"]["madvise"]["2"].as_array().is_some_and(|values| !values.is_empty()),
        "{text}"
    );

    let other = format!("seccomp = \"sha256:{}\"", "0".repeat(64));
    policy(&bench, &digests, "enforce", &other);
    let refused = Refused::of(run(&bench, "pin", &["/bin/cat", "/proc/self/status"])).unwrap();
    assert_eq!(refused.rule(), "seccomp", "{}", refused.line());
    let line = refused.line();
    let hash = line.split("this command is ").nth(1).and_then(|rest| rest.get(..71)).unwrap();
    policy(&bench, &digests, "enforce", &format!("seccomp = {hash:?}"));
    run(&bench, "pinned", &["/bin/cat", "/proc/self/status"]).success().unwrap();
    bench.assert_nothing_left();
}

#[test]
fn program_that_nobody_can_tell_is_refused_and_runs_under_the_baseline_where_policy_says_so() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let digests = import(&bench);
    policy(&bench, &digests, "enforce", "seccomp = \"generated\"");
    for command in [&["/opt/lies"][..], &["/no/such"]] {
        let refused = Refused::of(run_when_ready(&bench, "lies", command)).unwrap();
        assert_eq!(refused.rule(), "seccomp", "{}", refused.line());
    }
    policy(&bench, &digests, "enforce", "seccomp = \"generated-when-ready\"");
    let status = run(&bench, "soon", &["/bin/cat", "/proc/self/status"]).success().unwrap();
    assert!(status.stdout.contains("Seccomp_filters:\t1"), "the baseline: {}", status.stdout);
    until("its profile is kept", Duration::from_secs(180), || Ok(kept(&bench).len() == 3)).unwrap();
    let locks = bench.daemon.bulkhead_root().join("run/bulkhead/judge");
    let none = || Ok(fs::read_dir(&locks).into_iter().flatten().count() == 0);
    until("its locks are gone", Duration::from_secs(30), none).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn server_and_its_exec_run_under_their_profile_and_a_call_outside_of_it_is_denied_and_told() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let digests = import(&bench);
    let exec = "exec = [\"/usr/bin/curl -sf --unix-socket /tmp/http.sock http://x/\", \"/usr/sbin/nginx -s reload\"]";
    // What policy would not let be exec'd runs in audit mode: its calls are not in the profile.
    policy(&bench, &digests, "audit", &format!("seccomp = \"generated\"\n{exec}"));
    run_when_ready(&bench, "warm", &["/usr/sbin/nginx", "-t"]);
    let mut id = None;
    until("the profile of nginx is ready", Duration::from_secs(180), || {
        let made = bench.daemon.id("nginx");
        let output =
            bench.daemon.ctr(&["run", "-d", "--runtime", BULKHEAD, NAME, &made, "/usr/sbin/nginx"]).unwrap();
        if output.code() == 0 {
            id = Some(made);
            return Ok(true);
        }
        assert!(output.stderr.contains("is being worked out"), "{}", output.stderr);
        bench.daemon.ctr(&["container", "delete", &made]).unwrap();
        Ok(false)
    })
    .unwrap();
    let id = id.unwrap();
    let get = || {
        let command = ["/usr/bin/curl", "-sf", "--unix-socket", "/tmp/http.sock", "http://x/"];
        bench.exec(&id, &command).unwrap()
    };
    until("nginx serves", Duration::from_secs(30), || Ok(get().stdout == "served\n")).unwrap();
    bench.exec(&id, &["/usr/sbin/nginx", "-s", "reload"]).unwrap().success().unwrap();
    until("nginx serves", Duration::from_secs(30), || Ok(get().stdout == "served\n")).unwrap();
    let file = bench.daemon.bulkhead_root().join("run/bulkhead/denied").join(bench.daemon.tag());
    let denied = || fs::read_to_string(file.join(format!("{id}.json"))).unwrap_or_default();

    let python = "import os; os.mkfifo('/tmp/fifo')";
    let other = bench.exec(&id, &["/usr/bin/python3", "-c", python]).unwrap();
    assert_ne!(other.code(), 0, "{other:?}");
    until("a denied call is told", Duration::from_secs(30), || Ok(!denied().is_empty())).unwrap();
    let told: serde_json::Value = serde_json::from_str(&denied()).unwrap();
    let calls = told["calls"].as_array().unwrap();
    assert!(calls.iter().any(|call| call["program"] == "python3" && call["errno"] == 38), "{told}");
    assert!(!calls.iter().any(|call| call["program"] == "nginx" || call["program"] == "curl"), "{told}");
    // A value that nginx has, and one that neither it nor curl has: SOCK_STREAM and SOCK_DGRAM of a pair.
    let pair = |kind: &str| {
        let python = format!("import _socket; _socket.socketpair(1, {kind})");
        bench.exec(&id, &["/usr/bin/python3", "-c", &python]).unwrap()
    };
    pair("1").success().unwrap();
    let other = pair("2");
    assert!(other.stderr.contains("[Errno 94]"), "{other:?}");
    let told_values = || {
        let told: Value = serde_json::from_str(&denied()).unwrap_or_default();
        let calls = told["calls"].as_array().cloned().unwrap_or_default();
        let of = |row: &Value| (row["program"].clone(), row["syscall"].clone(), row["errno"].clone());
        let wanted = ("python3".into(), "socketpair".into(), 94.into());
        let row = calls.iter().find(|row| of(row) == wanted).cloned();
        row.map(|row| (row["args"][0].as_u64().unwrap(), row["args"][1].as_u64().unwrap() & 0xf))
    };
    until("the value is told", Duration::from_secs(30), || Ok(told_values() == Some((1, 2)))).unwrap();
    let root = bench.daemon.bulkhead_root();
    let mut explain = Command::new(bulkhead_integration::bulkhead_dir().unwrap().join("bulkhead"));
    explain.arg("--root").arg(root).args(["explain", "-n", bench.daemon.tag(), &id]);
    let said = bulkhead_integration::run(&mut explain, Duration::from_secs(20)).unwrap().success().unwrap();
    assert!(said.stdout.contains("python3") && said.stdout.contains("ENOSYS"), "{}", said.stdout);
    let values =
        "ESOCKTNOSUPPORT of socketpair: the image's profile allows that call with other values of argument 1";
    assert!(said.stdout.contains(values), "{}", said.stdout);
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

/// Calls chroot(2), which the baseline denies with EPERM, again and again, each time from a process of its own.
const FLOOD: &str =
    "#!/bin/bash\nfor n in 1 2 3 4 5 6 7 8; do /usr/sbin/chroot / /bin/true 2>/dev/null; done\nexit 0\n";

/// `ctr events`, which prints what it can decode.
struct Watched {
    ctr: Child,
    out: PathBuf,
}

impl Watched {
    fn start(bench: &Bench) -> Self {
        let out = bench.daemon.dir().join("events");
        let mut command = bench.daemon.ctr_command(bench.daemon.tag(), &["events"]);
        let file = fs::File::create(&out).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self { ctr: command.spawn().unwrap(), out }
    }

    /// Lines so far with both words.
    fn lines(&self, one: &str, other: &str) -> Vec<String> {
        let text = fs::read_to_string(&self.out).unwrap();
        text.lines().filter(|line| line.contains(one) && line.contains(other)).map(str::to_owned).collect()
    }

    fn wait_for(&self, one: &str, other: &str) {
        let what = format!("an event {one} of {other}");
        until(&what, Duration::from_secs(60), || Ok(!self.lines(one, other).is_empty())).unwrap();
    }

    /// What was told of a container, once the event of its end has come: events are in order.
    fn denied(&self, id: &str) -> Vec<Value> {
        self.wait_for("/tasks/exit", id);
        let lines = self.lines("/bulkhead/denied", id);
        lines.iter().map(|line| serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()).collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.ctr.kill().unwrap();
        self.ctr.wait().unwrap();
    }
}

on_each_containerd! {
    fn denied_call_is_one_event_however_often_it_is_made_and_a_container_that_is_denied_none_has_none(release) {
        // The system's CRI plugin is too old for pods here.
        let pods = release != Release::System;
        let bench = Bench::start(release, if pods { Cri::On } else { Cri::Off }).unwrap();
        let files = Layer::of(&[Entry::Dir("opt", 0o755), Entry::File("opt/flood", 0o755, FLOOD.as_bytes())]);
        let image = Image::userland(NAME).unwrap().with(files.unwrap());
        let digests = bench.daemon.import(&image).unwrap();
        bench.allow_digests(&[&digests.manifest], "seccomp = \"generated\"").unwrap();
        run_when_ready(&bench, "warm1", &["/bin/true"]).success().unwrap();
        run_when_ready(&bench, "warm2", &["/opt/flood"]).success().unwrap();

        let watched = Watched::start(&bench);
        // Once it is subscribed, which it does not say.
        until("ctr events prints", Duration::from_secs(60), || {
            run(&bench, "first", &["/bin/true"]).success()?;
            Ok(!watched.lines("/tasks/exit", "-first").is_empty())
        })
        .unwrap();
        run(&bench, "flood", &["/opt/flood"]).success().unwrap();
        let told = watched.denied(&bench.daemon.id("flood"));
        assert_eq!(told.len(), 1, "{told:?}");
        let labels = &told[0]["labels"];
        assert_eq!(told[0]["id"], bench.daemon.id("flood").as_str());
        assert_eq!((&labels["program"], &labels["syscall"], &labels["errno"]), (&"chroot".into(), &"chroot".into(), &"1".into()));
        assert!(labels["pid"].as_str().unwrap().parse::<u32>().unwrap() > 1, "{labels}");
        assert_eq!(labels["args"].as_str().unwrap().split(' ').count(), 6, "{labels}");
        run(&bench, "true", &["/bin/true"]).success().unwrap();
        assert_eq!(watched.denied(&bench.daemon.id("true")), Vec::<Value>::new());

        if pods {
            // The CRI plugin hears the ends of its containers as before.
            bench.daemon.import_in("k8s.io", &image).unwrap();
            let cri = bench.daemon.pods().unwrap();
            let pod = cri.run("bulkhead", "team-a", "denied").unwrap();
            let (mut attempts, mut id) = (0, String::new());
            until("its profile is ready", Duration::from_secs(180), || {
                attempts += 1;
                let options = ContainerOptions::restricted(&format!("c{attempts}"), NAME, &["/opt/flood"]);
                match cri.launch(&pod, &options) {
                    Ok(made) => id = made,
                    Err(error) => assert!(error.to_string().contains("is being worked out"), "{error}"),
                }
                Ok(!id.is_empty())
            })
            .unwrap();
            assert_eq!(cri.wait(&id).unwrap(), 0);
            assert_eq!(watched.denied(&id).len(), 1);
            cri.remove_pod(&pod).unwrap();
        }
        drop(watched);
        bench.assert_nothing_left();
    }
}
