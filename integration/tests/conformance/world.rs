//! Runs a suite under a runtime, in worlds of `integration/conformance/world.sh`, and reads what became of each test.
//!
//! ```text
//! tests ─► directory per world ─► world.sh: namespaces, registry, containerd, test by test ─► logs ─► outcomes
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bulkhead_integration::{
    HarnessError, Result, clean, directory, fresh, need_root, run, sweep, wait, workspace,
};

use super::{
    images::Registry,
    outcome::{self, Outcome},
};

/// A runtime that a suite is run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Runc,
    Bulkhead,
    /// A shim that is `exit 1`: what passes under it says nothing of a runtime.
    Broken,
}

impl Runtime {
    pub(crate) fn handler(self) -> &'static str {
        match self {
            Runtime::Runc => "runc",
            Runtime::Bulkhead => "bulkhead",
            Runtime::Broken => "broken",
        }
    }
}

/// A suite of containerd's, as build.sh has built it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    /// A directory of `integration/conformance`.
    pub(crate) version: &'static str,
    /// `cri` or `client`.
    pub(crate) name: &'static str,
}

impl Suite {
    pub(crate) fn built(self) -> PathBuf {
        workspace().join("target/conformance").join(self.version)
    }

    /// Every test that it has.
    pub(crate) fn tests(self) -> Result<Vec<String>> {
        let path = self.built().join(format!("{}.tests", self.name));
        let Ok(text) = fs::read_to_string(&path) else {
            let what = path.display().to_string();
            return Err(HarnessError::Missing { what, fix: "integration/scripts/deps.sh" });
        };
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// Builds the suites of a version, and its containerd where no package has it.
pub(crate) fn build(version: &str) -> Result<()> {
    let mut command = Command::new(workspace().join("integration/conformance/build.sh"));
    run(command.arg(version), Duration::from_secs(20 * 60))?.success().map(drop)
}

/// The same tests of a suite under one runtime, shared by a number of worlds.
pub(crate) struct Run {
    worlds: Vec<World>,
    claims: PathBuf,
    tests: Vec<String>,
}

/// One world; dropped, it is gone with all in it.
struct World {
    tag: String,
    dir: PathBuf,
    child: Child,
}

/// How long a test may take, in seconds.
const TEST_SECONDS: u32 = 150;

/// How long all tests of a suite may take.
const SUITE: Duration = Duration::from_secs(30 * 60);

impl Run {
    /// Starts `tests` in `worlds` worlds.
    pub(crate) fn start(
        suite: Suite,
        runtime: Runtime,
        tests: &[String],
        worlds: u32,
        registry: &Registry,
    ) -> Result<Self> {
        need_root()?;
        sweep()?;
        let claims = directory(&fresh());
        make(&claims)?;
        let mut run = Self { worlds: Vec::new(), claims, tests: tests.to_vec() };
        for _ in 0..worlds {
            run.worlds.push(World::start(suite, runtime, &run, registry)?);
        }
        Ok(run)
    }

    /// Waits for the end of all tests; what became of each, and of its parts.
    pub(crate) fn outcomes(mut self) -> Result<BTreeMap<String, Outcome>> {
        let mut outcomes = BTreeMap::new();
        for world in &mut self.worlds {
            let ended = wait(&mut world.child, SUITE).map_err(HarnessError::at("wait for", &world.dir))?;
            if !ended.is_some_and(|status| status.success()) {
                let said =
                    ["world.log", "containerd.log"].map(|name| fs::read_to_string(world.dir.join(name)));
                let said = said.into_iter().flatten().map(|text| text.chars().take(4000).collect::<String>());
                let outcome = format!("{ended:?}\n{}", said.collect::<String>());
                return Err(HarnessError::Command { line: "world.sh".to_owned(), outcome });
            }
            for test in &self.tests {
                if let Ok(log) = fs::read(world.dir.join("logs").join(format!("{test}.log"))) {
                    outcomes.extend(outcome::read(test, &String::from_utf8_lossy(&log)));
                }
            }
            world.keep_logs()?;
        }
        Ok(outcomes)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.claims) {
            eprintln!("harness: remove {}: {error}", self.claims.display());
        }
    }
}

impl World {
    fn start(suite: Suite, runtime: Runtime, run: &Run, registry: &Registry) -> Result<Self> {
        let tag = fresh();
        let dir = directory(&tag);
        make(&dir.join("bulkhead/etc/bulkhead"))?;
        make(&dir.join("bin"))?;
        // A hook of a test's: policy takes it only from where root alone can write, as here.
        let containerd = dir.join("bin/containerd");
        fs::copy(containerd_dir(suite).join("containerd"), &containerd)
            .map_err(HarnessError::at("copy", &containerd))?;
        let handler = runtime.handler();
        let built = suite.built();
        let own = workspace().join("integration/conformance");
        let path = [
            dir.join("bin"),
            containerd_dir(suite),
            bulkhead_dir(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        ];
        let path = path.map(|part| part.display().to_string()).join(":");
        let settings = [
            ("tag", tag.clone()),
            ("handler", handler.to_owned()),
            ("type", format!("io.containerd.{handler}.v2")),
            ("path", path),
            ("registry", registry.dir.display().to_string()),
            ("hosts", registry.hosts.iter().cloned().collect::<Vec<_>>().join(" ")),
            ("busybox", registry.busybox.clone()),
            ("suite", suite.name.to_owned()),
            ("package", built.join(suite.name).display().to_string()),
            ("binary", built.join(format!("{}.test", suite.name)).display().to_string()),
            ("claims", run.claims.display().to_string()),
            ("seconds", TEST_SECONDS.to_string()),
        ];
        let settings: String = settings.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
        write(&dir.join("settings"), &settings)?;
        write(&dir.join("tests"), &run.tests.iter().map(|test| format!("{test}\n")).collect::<String>())?;
        write(&dir.join("bulkhead/etc/bulkhead/policy.toml"), &policy(&containerd, registry)?)?;
        let broken = dir.join("bin/containerd-shim-broken-v2");
        write(&broken, "#!/bin/sh\nexit 1\n")?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&broken, mode).map_err(HarnessError::at("chmod", &broken))?;
        let log = dir.join("world.log");
        let log = fs::File::create(&log).map_err(HarnessError::at("create", log))?;
        let copy = log.try_clone().map_err(HarnessError::at("dup", &dir))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "sh"]).arg(own.join("world.sh")).arg(&dir);
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        let failed = |source| HarnessError::Run { program: "world.sh".to_owned(), source };
        Ok(Self { child: command.spawn().map_err(failed)?, tag, dir })
    }

    /// Logs of the tests and of containerd outlive the world: `target/conformance/logs`.
    fn keep_logs(&self) -> Result<()> {
        let settings = fs::read_to_string(self.dir.join("settings")).unwrap_or_default();
        let value = |name: &str| {
            let line = settings.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='"));
            line.unwrap_or("").trim_end_matches('\'').to_owned()
        };
        let to = workspace().join("target/conformance/logs").join(value("suite")).join(value("handler"));
        make(&to)?;
        let logs =
            fs::read_dir(self.dir.join("logs")).into_iter().flatten().flatten().map(|entry| entry.path());
        for from in
            logs.chain(["containerd.log", "registry.log", "world.log"].map(|name| self.dir.join(name)))
        {
            let mut name = from.file_name().unwrap_or_default().to_os_string();
            if from.parent() == Some(self.dir.as_path()) {
                name.push(format!(".{}", self.tag));
            }
            if from.exists() {
                fs::copy(&from, to.join(name)).map_err(HarnessError::at("copy", &from))?;
            }
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended.map_err(HarnessError::at("kill", "world.sh")).and(clean(&self.tag)) {
            eprintln!("harness: {error}");
        }
    }
}

/// The images of the suites, at the compatible level: what a request asks is granted as runc would.
fn policy(containerd: &Path, registry: &Registry) -> Result<String> {
    let path = workspace().join("integration/conformance/policy.toml");
    let text = fs::read_to_string(&path).map_err(HarnessError::at("read", &path))?;
    let hosts = registry.hosts.iter().map(String::as_str).chain(["127.0.0.1:5000"]);
    let scope =
        |host| format!("\"{host}/**\" = {{ digests = {:?}, confine = \"conformance\" }}\n", registry.digests);
    let hook = format!("{containerd:?}");
    Ok(text.replace("@CONTAINERD@", &hook).replace("@SCOPES@", &hosts.map(scope).collect::<String>()))
}

fn containerd_dir(suite: Suite) -> PathBuf {
    match suite.version {
        "2.1" => workspace().join("target/deps/containerd-2.1/usr/bin"),
        _ => suite.built().join("bin"),
    }
}

fn bulkhead_dir() -> PathBuf {
    let own = std::env::var_os("BULKHEAD_BIN_DIR").map(PathBuf::from);
    own.unwrap_or_else(|| workspace().join("target/debug"))
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(HarnessError::at("create", path))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(HarnessError::at("write", path))
}
