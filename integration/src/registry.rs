//! Real registries on loopback: docker-registry, and one with the referrers API.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{HarnessError, Result, run, until, workspace};

/// Who may read and write a registry that asks for a password.
pub const REGISTRY_USER: &str = "builder:hunter2";

/// The same for docker-registry, which takes bcrypt alone.
const HTPASSWD: &str = "builder:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";

/// How long a registry may take to answer.
const START: Duration = Duration::from_secs(60);

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryKind {
    /// Debian's docker-registry 2.8, which knows no referrers API: the fallback tag applies.
    Docker,
    /// go-containerregistry's, which has it.
    Referrers,
}

impl RegistryKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Docker, Self::Referrers];
}

/// How it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryDoor {
    /// HTTP, everybody.
    Open,
    /// HTTPS, and a password.
    Guarded,
}

/// A running registry. Ends with this.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: String,
    dir: PathBuf,
}

impl Registry {
    /// Starts one whose files are in `dir`.
    pub fn start(kind: RegistryKind, door: RegistryDoor, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(HarnessError::at("mkdir", dir))?;
        if door == RegistryDoor::Guarded {
            certificates(dir)?;
        }
        // Somebody may take the port meanwhile: then another.
        let mut last = None;
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.map_err(HarnessError::at("bind", dir))?.to_string();
            let mut command = command(kind, door, &address, dir)?;
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|source| HarnessError::Run { program: format!("{kind:?} registry"), source })?;
            let answers = until("a registry that listens", START, || {
                let ended = child.try_wait().is_ok_and(|status| status.is_some());
                Ok(ended || listens(child.id(), &address))
            });
            let alive = child.try_wait().is_ok_and(|status| status.is_none());
            let registry = Self { child, address, dir: dir.to_owned() };
            match answers {
                Ok(()) if alive => return Ok(registry),
                other => last = other.err(),
            }
        }
        Err(last.unwrap_or(HarnessError::Missing {
            what: "a registry that starts".to_owned(),
            fix: "integration/scripts/deps.sh",
        }))
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The authority of its certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It is gone already, or it is ended now: either way nothing is left to do about it.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        drop(ended);
    }
}

/// Whether this process, and no other, listens at an address. It is not asked by a connection: while nobody listens there, one
/// to a port that the kernel hands out itself may be given that very port to come from, and so meet itself.
fn listens(pid: u32, address: &str) -> bool {
    let Ok(SocketAddr::V4(address)) = address.parse() else { return false };
    // As the kernel writes them: the address in the processor's order of bytes, state 0A is LISTEN; the tenth word is the inode.
    // Source: proc_pid_net(5).
    let (ip, port) = (u32::from_ne_bytes(address.ip().octets()), address.port());
    let wanted = format!("{ip:08X}:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inode = table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&wanted.as_str()) && words.get(3) == Some(&"0A"))
            .then(|| words.get(9).copied())?
    });
    let Some(inode) = inode else { return false };
    let socket = PathBuf::from(format!("socket:[{inode}]"));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|file| file == socket)
}

fn command(kind: RegistryKind, door: RegistryDoor, address: &str, dir: &Path) -> Result<Command> {
    let guarded = door == RegistryDoor::Guarded;
    let (cert, key) = (dir.join("registry.crt"), dir.join("registry.key"));
    match kind {
        RegistryKind::Docker => {
            let tls = format!("  tls: {{ certificate: {}, key: {} }}\n", cert.display(), key.display());
            let htpasswd = dir.join("htpasswd");
            let auth = format!("auth: {{ htpasswd: {{ realm: r, path: {} }} }}\n", htpasswd.display());
            let config = format!(
                "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n{}http:\n  \
                 addr: {address}\n{}",
                dir.join("data").display(),
                if guarded { auth.as_str() } else { "" },
                if guarded { tls.as_str() } else { "" },
            );
            let path = dir.join("config.yml");
            fs::write(&htpasswd, HTPASSWD).map_err(HarnessError::at("write", &htpasswd))?;
            fs::write(&path, config).map_err(HarnessError::at("write", &path))?;
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(path);
            Ok(command)
        }
        RegistryKind::Referrers => {
            let program = workspace().join("target/deps/registry/registry");
            if !program.exists() {
                let what = program.display().to_string();
                return Err(HarnessError::Missing { what, fix: "integration/scripts/deps.sh" });
            }
            let mut command = Command::new(program);
            if guarded {
                command.arg("-cert").arg(cert).arg("-key").arg(key).args(["-user", REGISTRY_USER]);
            }
            command.arg(address);
            Ok(command)
        }
    }
}

/// An authority, and a certificate of its for 127.0.0.1.
fn certificates(dir: &Path) -> Result<()> {
    let extensions = dir.join("extensions");
    fs::write(&extensions, "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n")
        .map_err(HarnessError::at("write", &extensions))?;
    for words in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout registry.key -out registry.csr -subj /CN=r",
        "x509 -req -in registry.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out registry.crt -days 2 -extfile extensions",
    ] {
        run(Command::new("openssl").args(words.split(' ')).current_dir(dir), START)?.success()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_process_that_listens_is_told_from_another_and_from_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(listens(std::process::id(), &address));
        assert!(!listens(1, &address));
        drop(listener);
        assert!(!listens(std::process::id(), &address));
    }
}
