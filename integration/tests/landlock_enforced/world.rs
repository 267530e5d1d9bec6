//! A daemon with one image, run under this and that policy.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use bulkhead_integration::{BULKHEAD, Bench, Cri, Digests, Image, Output, Release, until};

/// How long the files of a command may take to be told.
const READY: Duration = Duration::from_secs(180);

pub(crate) struct World {
    pub(crate) bench: Bench,
    name: String,
    digests: Digests,
}

impl World {
    pub(crate) fn of(image: &Image) -> Self {
        let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
        let digests = bench.daemon.import(image).unwrap();
        Self { bench, name: image.name.clone(), digests }
    }

    pub(crate) fn policy(&self, mode: &str, keys: &str) {
        let text = format!(
            "version = 1\nmode = {mode:?}\n[image]\n\"registry.test/team-a/*\" = {{ digests = [{:?}] }}\n[confine.default]\n{keys}\n",
            self.digests.manifest
        );
        self.bench.daemon.policy(&text).unwrap();
    }

    pub(crate) fn run_under(&self, runtime: &str, name: &str, options: &[&str], command: &[&str]) -> Output {
        let id = self.bench.daemon.id(name);
        let mut args = vec!["run", "--rm", "--runtime", runtime];
        args.extend(options);
        args.extend([self.name.as_str(), id.as_str()]);
        args.extend(command);
        self.bench.daemon.ctr(&args).unwrap()
    }

    pub(crate) fn run(&self, name: &str, command: &[&str]) -> Output {
        self.run_under(BULKHEAD, name, &[], command)
    }

    /// Runs it again and again while its profile is being worked out.
    pub(crate) fn run_when_ready(&self, name: &str, command: &[&str]) -> Output {
        let mut last = None;
        until("its profile is ready", READY, || {
            let output = self.run(name, command);
            let busy = output.stderr.contains("is being worked out");
            last = Some(output);
            Ok(!busy)
        })
        .unwrap();
        last.unwrap()
    }

    pub(crate) fn start_when_ready(&self, name: &str, command: &[&str]) -> String {
        self.start_with_when_ready(name, &[], command)
    }

    /// Starts it in the background, again and again while its profile is being worked out; its id.
    pub(crate) fn start_with_when_ready(&self, name: &str, options: &[&str], command: &[&str]) -> String {
        let mut id = None;
        until("its profile is ready", READY, || {
            let made = self.bench.daemon.id(name);
            let mut args = vec!["run", "-d", "--runtime", BULKHEAD];
            args.extend(options);
            args.extend([self.name.as_str(), made.as_str()]);
            args.extend(command);
            let output = self.bench.daemon.ctr(&args).unwrap();
            if output.code() == 0 {
                id = Some(made);
                return Ok(true);
            }
            assert!(output.stderr.contains("is being worked out"), "{}", output.stderr);
            self.bench.daemon.ctr(&["container", "delete", &made]).unwrap();
            Ok(false)
        })
        .unwrap();
        id.unwrap()
    }

    /// Process id of a task's first process.
    pub(crate) fn pid(&self, id: &str) -> u32 {
        self.bench.daemon.tasks().unwrap().state(id, "").unwrap().pid
    }

    /// What a server in the container answers over its own loopback; nothing where nobody listens.
    pub(crate) fn get(&self, id: &str, port: u16, path: &str) -> String {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid(id))).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        // A thread of its own: it stays in that namespace.
        let asked = thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let mut answer = String::new();
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return answer };
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            if stream.write_all(request.as_bytes()).is_ok() {
                // What came before it broke off is told as well.
                let mut bytes = Vec::new();
                let read = stream.read_to_end(&mut bytes);
                answer = format!(
                    "{}{}",
                    String::from_utf8_lossy(&bytes),
                    read.err().map_or_else(String::new, |e| e.to_string())
                );
            }
            answer
        });
        asked.join().unwrap()
    }
}
