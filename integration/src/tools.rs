//! Where the real components are, and what to do where one is not.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{HarnessError, Result, run::run};

/// A containerd to test with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The machine's own: 1.6 on Debian 12.
    System,
    /// 1.7, unpacked by deps.sh.
    V1_7,
    /// 2.1, unpacked by deps.sh.
    V2_1,
    /// 2.4, built from its Go module by integration/conformance/build.sh at first use: for the long tier.
    V2_4,
}

/// How long a containerd may take to be built.
const BUILD: Duration = Duration::from_secs(3000);

impl Release {
    /// All that are there without building one.
    pub const ALL: [Release; 3] = [Release::System, Release::V1_7, Release::V2_1];

    /// The directory of its `containerd`, `ctr` and shim; `None` where PATH finds them.
    fn dir(self) -> Option<PathBuf> {
        let dir = match self {
            Release::System => return None,
            Release::V1_7 => "deps/containerd-1.7/usr/bin",
            Release::V2_1 => "deps/containerd-2.1/usr/bin",
            Release::V2_4 => "conformance/2.4/bin",
        };
        Some(workspace().join("target").join(dir))
    }

    /// Builds what is not there, once for all tests that wait for it.
    fn build(self) -> Result<()> {
        match self {
            Release::System | Release::V1_7 | Release::V2_1 => Ok(()),
            Release::V2_4 => {
                let mut command = Command::new("flock");
                command.arg(workspace().join("target/conformance-2.4.lock"));
                command.arg(workspace().join("integration/conformance/build.sh")).arg("2.4");
                run(&mut command, BUILD)?.success().map(drop)
            }
        }
    }
}

/// The programs of one containerd, with the runtimes it finds.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// `containerd`.
    pub(crate) containerd: PathBuf,
    /// `ctr` of the same version.
    pub(crate) ctr: PathBuf,
    /// What `containerd` looks for shims and runc in.
    pub(crate) path: String,
    /// Major and minor version.
    pub(crate) version: (u32, u32),
}

impl Tools {
    /// The programs of `release`.
    pub(crate) fn of(release: Release) -> Result<Self> {
        release.build()?;
        let bulkhead = bulkhead_dir()?;
        let mut dirs = vec![bulkhead];
        dirs.extend(
            ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into),
        );
        if let Some(own) = release.dir() {
            dirs.insert(0, own);
        }
        let containerd = find("containerd", &dirs)?;
        let output = run(Command::new(&containerd).arg("--version"), Duration::from_secs(60))?.success()?;
        let path = dirs.iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>().join(":");
        Ok(Self { ctr: find("ctr", &dirs)?, containerd, path, version: version_in(&output.stdout)? })
    }
}

/// The top of the source tree.
#[must_use]
pub fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Where the binaries under test are: `BULKHEAD_BIN_DIR`, or beside this program.
pub fn bulkhead_dir() -> Result<PathBuf> {
    let dir = match env::var_os("BULKHEAD_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let own = env::current_exe().map_err(HarnessError::at("readlink", "/proc/self/exe"))?;
            // target/debug/demo, or target/debug/deps/ctr-0123.
            let dirs = own.ancestors().skip(1);
            let found = dirs.take(2).find(|dir| dir.join(SHIM).exists()).map(Path::to_owned);
            found.unwrap_or_else(|| workspace().join("target/debug"))
        }
    };
    for name in [SHIM, "bulkhead"] {
        if !dir.join(name).exists() {
            let what = dir.join(name).display().to_string();
            return Err(HarnessError::Missing { what, fix: "cargo build --workspace --bins" });
        }
    }
    Ok(dir)
}

/// File name of the shim under test: what `io.containerd.bulkhead.v2` comes to.
const SHIM: &str = "containerd-shim-bulkhead-v2";

/// Bulkhead's runtime type.
pub const BULKHEAD: &str = "io.containerd.bulkhead.v2";

/// runc's runtime type.
pub const RUNC: &str = "io.containerd.runc.v2";

/// Where Debian, or else everybody, puts CNI plugins.
pub(crate) fn cni_dir() -> Result<&'static str> {
    ["/usr/lib/cni", "/opt/cni/bin"].into_iter().find(|dir| Path::new(dir).join("ptp").exists()).ok_or(
        HarnessError::Missing { what: "the CNI plugin ptp".to_owned(), fix: "integration/scripts/deps.sh" },
    )
}

fn find(name: &str, dirs: &[PathBuf]) -> Result<PathBuf> {
    dirs.iter()
        .map(|dir| dir.join(name))
        .find(|path| fs::metadata(path).is_ok_and(|data| data.is_file()))
        .ok_or(HarnessError::Missing { what: name.to_owned(), fix: "integration/scripts/deps.sh" })
}

/// `containerd github.com/containerd/containerd 1.6.20~ds1 …`, `containerd …/v2 2.1.9+unknown`.
fn version_in(text: &str) -> Result<(u32, u32)> {
    let numbers = text.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    numbers.ok_or_else(|| HarnessError::Format { what: "a version of containerd", found: text.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn version_is_read_from_what_each_containerd_prints() {
        let old = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3";
        assert_eq!(version_in(old).unwrap(), (1, 6));
        let new = "containerd github.com/containerd/containerd/v2 2.1.9+unknown ";
        assert_eq!(version_in(new).unwrap(), (2, 1));
        assert!(version_in("containerd").is_err());
    }
}
