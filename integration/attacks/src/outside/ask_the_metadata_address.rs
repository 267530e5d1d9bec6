//! The cloud's metadata service, whose answers are credentials: reached where nothing stands in the network's way.
//!
//! Source: ATT&CK T1552.005.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bulkhead_integration::{HarnessError, Result, answered, run};

use crate::{
    arena::Arena,
    column::{Column, Phase},
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "ATT&CK T1552.005",
    tries: "read credentials from 169.254.169.254",
    phases: &[Phase::Exec],
    attempt,
};

const SECRET: &str = "the node's credentials\n";

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let page = arena.fresh_directory("metadata")?;
    fs::write(page.join("credentials"), SECRET).map_err(HarnessError::at("write", &page))?;
    let id = arena.start_task(column)?;
    // In the container's own network namespace: nothing is served to anybody else.
    let namespace = format!("--net=/proc/{}/ns/net", arena.pid_of(&id)?);
    let script = "ip link set lo up && ip addr add 169.254.169.254/32 dev lo";
    run(Command::new("nsenter").args([&namespace, "--", "sh", "-c", script]), Duration::from_secs(60))?
        .success()?;
    let mut command = Command::new("nsenter");
    command.args([&namespace, "--", "busybox", "httpd", "-f", "-p", "169.254.169.254:80", "-h"]).arg(&page);
    let failed = |source| HarnessError::Run { program: "busybox httpd".to_owned(), source };
    let service = Service(command.stdin(Stdio::null()).spawn().map_err(failed)?);
    // It may need a moment to listen.
    let script = "for i in $(seq 100); do wget -qO- http://169.254.169.254/credentials && exit; \
         sleep 0.2; done; exit 1";
    let output = answered(column.runtime(), || arena.bench.exec(&id, &["/bin/sh", "-c", script]));
    drop(service);
    arena.bench.remove(&id)?;
    let output = output?;
    Ok(Outcome::judged(output.stdout == SECRET, "credentials of the node were read", &output))
}

/// A server that ends with its attempt.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("attacks: end busybox httpd: {error}");
        }
    }
}
