//! Layers for who has no zygote: `PROGRAM judge layers` opens what a job names, and locks itself down to it.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::StartLayers;

/// Starts workers as processes of `program`, which is `bulkhead`. For a process that is root and not confined.
#[must_use]
pub fn start_layers_alone(program: PathBuf) -> StartLayers {
    Arc::new(move |job| {
        let mut question = File::from(memfd_create("bulkhead-job", MemfdFlags::CLOEXEC)?);
        question.write_all(&serde_json::to_vec(job)?)?;
        question.rewind()?;
        let mut child = Command::new(&program)
            .args(["judge", "layers"])
            .env_clear()
            .current_dir("/")
            .stdin(question)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok((output.into(), Box::new(Running(child))))
    })
}

/// A worker that is ended when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended by itself, or does now.
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            tracing::warn!(%error, "kill(2) of a judge of layers");
        }
    }
}
