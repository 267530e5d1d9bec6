//! Standard streams as containerd's clients name them, for processes whose streams the test holds itself.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

use containerd_client::services::v1::{CreateTaskRequest, ExecProcessRequest, ResizePtyRequest};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::json;

use crate::{Containerd, HarnessError, Result, RootMount, Tasks, process::typed};

/// Where the streams of a process lead; empty for none.
#[derive(Clone, Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Whether it gets a terminal.
    pub terminal: bool,
}

impl Containerd {
    /// Makes a FIFO of that name in the daemon's directory.
    pub fn fifo(&self, name: &str) -> Result<String> {
        let path = self.dir().join(name);
        mkfifo(&path, Mode::from_bits_truncate(0o700))
            .map_err(std::io::Error::from)
            .map_err(HarnessError::at("mkfifo", &path))?;
        Ok(path.display().to_string())
    }

    /// The socket of the server of a task in the daemon's own namespace, as it is reached from here, and as containerd
    /// names it.
    pub fn shim_socket(&self, id: &str) -> Result<(PathBuf, String)> {
        let bundle = self.dir().join("state/io.containerd.runtime.v2.task").join(self.tag()).join(id);
        let text = ["bootstrap.json", "address"].iter().find_map(|name| {
            std::fs::read_to_string(bundle.join(name)).ok().filter(|text| text.contains("unix://"))
        });
        let text = text.ok_or_else(|| HarnessError::Missing {
            what: format!("address in {}", bundle.display()),
            fix: "a task that runs",
        })?;
        let path = text.split("unix://").nth(1).unwrap_or_default();
        let path: String = path.chars().take_while(|c| !matches!(c, '"' | '\n')).collect();
        let here = Path::new("/proc").join(self.pid().to_string()).join("root");
        Ok((here.join(path.trim_start_matches('/')), path))
    }
}

/// Opens a FIFO for both directions: that neither waits for a peer nor sees the end.
pub fn open_fifo(path: &str) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path).map_err(HarnessError::at("open", path))
}

impl Tasks {
    /// Creates the task of a container with these streams; its pid.
    pub fn create_with(&self, id: &str, rootfs: Vec<RootMount>, stdio: &Stdio) -> Result<u32> {
        let Stdio { stdin, stdout, stderr, terminal } = stdio.clone();
        let request = self.request(CreateTaskRequest {
            container_id: id.to_owned(),
            rootfs,
            stdin,
            stdout,
            stderr,
            terminal,
            ..CreateTaskRequest::default()
        });
        let mut client = self.client();
        let answer = self.block_on(client.create(request));
        Ok(answer.map_err(HarnessError::rpc("tasks.Create"))?.into_inner().pid)
    }

    /// Adds an exec with these streams, run as [`crate::UID`] in `/`.
    pub fn add_exec_with(&self, id: &str, exec: &str, command: &[&str], stdio: &Stdio) -> Result<()> {
        let Stdio { stdin, stdout, stderr, terminal } = stdio.clone();
        let process = json!({
            "user": { "uid": crate::UID, "gid": crate::UID },
            "args": command,
            "env": ["PATH=/bin:/sbin:/usr/bin"],
            "cwd": "/",
            "terminal": terminal,
        });
        let request = self.request(ExecProcessRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            stdin,
            stdout,
            stderr,
            terminal,
            spec: Some(typed("types.containerd.io/opencontainers/runtime-spec/1/Process", &process)),
        });
        let mut client = self.client();
        self.block_on(client.exec(request)).map(drop).map_err(HarnessError::rpc("tasks.Exec"))
    }

    /// Sets the size of a terminal, in characters.
    pub fn resize_to(&self, id: &str, exec: &str, width: u32, height: u32) -> Result<()> {
        let request =
            ResizePtyRequest { container_id: id.to_owned(), exec_id: exec.to_owned(), width, height };
        let mut client = self.client();
        let answer = self.block_on(client.resize_pty(self.request(request)));
        answer.map(drop).map_err(HarnessError::rpc("tasks.ResizePty"))
    }
}
