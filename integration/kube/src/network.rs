//! A network namespace of the node's own, held by a process: it ends with the harness, however that ends.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bulkhead_integration::{HarnessError, Result, run, until};

/// The node's address: on the loopback device, for a kubelet takes none of 127.0.0.0/8.
pub(crate) const ADDRESS: &str = "10.250.0.1";

/// A network namespace with nothing in it but the loopback device.
#[derive(Debug)]
pub(crate) struct Network {
    holder: Child,
}

impl Network {
    pub(crate) fn make() -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "unshare", "--net", "--", "sleep", "infinity"]);
        let started = command.stdin(Stdio::null()).spawn();
        let failed = |source| HarnessError::Run { program: "unshare".to_owned(), source };
        let network = Self { holder: started.map_err(failed)? };
        let own = std::fs::read_link("/proc/self/ns/net").map_err(HarnessError::at("readlink", "ns/net"))?;
        until("a network namespace", Duration::from_secs(10), || {
            Ok(std::fs::read_link(network.path()).is_ok_and(|made| made != own))
        })?;
        let address = format!("{ADDRESS}/32");
        for words in [&["link", "set", "lo", "up"][..], &["address", "add", &address, "dev", "lo"]] {
            run(network.command("ip").args(words), Duration::from_secs(10))?.success()?;
        }
        Ok(network)
    }

    /// Where it can be entered.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// A program in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = self.holder.kill().and_then(|()| self.holder.wait()) {
            eprintln!("harness: the network's holder: {error}");
        }
    }
}
