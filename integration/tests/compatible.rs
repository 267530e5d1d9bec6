//! The compatible level: what a request asks for is granted as runc would grant it, side by side with runc; and the
//! same request without that level is refused.

#![allow(clippy::unwrap_used, missing_docs)]

use bulkhead_integration::{
    Answers, BULKHEAD, Bench, Cri, Image, Output, RUNC, Refused, Release, on_each_containerd,
};

/// An image whose user is root.
const ROOT: &str = "registry.test/team-a/root:1";

/// A section that grants the level to every tenant.
const COMPATIBLE: &str = "level = \"compatible\"\nnamespaces = [\"*\"]\nexec = [\"*\"]";

/// A daemon with [`ROOT`], and the policy for it.
struct Infra {
    bench: Bench,
    digest: String,
}

impl Infra {
    fn start(release: Release) -> Self {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let digest = bench.daemon.import(&Image::busybox(ROOT, "0:0").unwrap()).unwrap().manifest;
        Self { bench, digest }
    }

    fn allow(&self, lines: &str) {
        self.bench.allow_digests(&[&self.digest], lines).unwrap();
    }

    fn run(&self, runtime: &str, options: &[&str], command: &[&str]) -> Output {
        let id = self.bench.daemon.id("run");
        let mut args = vec!["run", "--rm", "--runtime", runtime];
        args.extend(options);
        args.extend([ROOT, &id]);
        args.extend(command);
        self.bench.daemon.ctr(&args).unwrap()
    }

    /// What the probe says as the first process.
    fn facts(&self, runtime: &str, options: &[&str]) -> Answers {
        let output = self.run(runtime, options, &["/bin/probe", "facts"]).success().unwrap();
        Answers::read(&output.stdout).unwrap()
    }
}

on_each_containerd! {
    fn root_with_its_capabilities_runs_as_under_runc_and_is_refused_without_the_level(release) {
        let infra = Infra::start(release);
        infra.allow("exec = [\"*\"]");
        assert_eq!(Refused::of(infra.run(BULKHEAD, &[], &["/bin/true"])).unwrap().rule(), "user");
        infra.allow(COMPATIBLE);
        for options in [&[][..], &["--privileged"], &["--net-host"]] {
            let (runc, ours) = (infra.facts(RUNC, options), infra.facts(BULKHEAD, options));
            for name in [
                "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
                "Seccomp_filters", "Max core file size", "Max open files", "Max processes", "env HOME", "env PATH", "dev",
                "cwd", "fds",
            ] {
                assert_eq!(ours.get(name), runc.get(name), "{options:?}: {name}");
            }
            let mounts = |answers: &Answers| -> Vec<(String, String)> {
                let own = |(at, how): (&str, &str)| (at.to_owned(), how.split(' ').next().unwrap().to_owned());
                answers.all("mount ").map(own).collect()
            };
            assert_eq!(mounts(&ours), mounts(&runc), "{options:?}");
        }
        infra.bench.assert_nothing_left();
    }
}
