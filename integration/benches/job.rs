//! What the bench asks of itself inside the daemon's mount namespace, and what comes back: JSON on standard input and
//! output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything to be done there, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// containerd's API.
    pub(crate) containerd: PathBuf,
    /// Where shims are told that it is: between them the waits are counted.
    pub(crate) proxy: PathBuf,
    /// The steps.
    pub(crate) steps: Vec<Step>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    /// A shim from the exec of its `start` to the end of its delete.
    Launch(Turn),
    /// A create that the last gate refuses.
    Refused(Turn),
    /// A container that writes zeros to its standard output.
    Throughput(Turn),
    /// The kernel floor's program on its script.
    Floor {
        /// The program.
        program: PathBuf,
        /// What it does.
        script: PathBuf,
    },
}

/// One container under one shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// The shim's file name.
    pub(crate) shim: String,
    /// The runtime that runc's shim calls, where it is another than runc.
    pub(crate) binary: Option<PathBuf>,
    /// The container.
    pub(crate) id: String,
    /// Its bundle, as containerd would have made it.
    pub(crate) bundle: PathBuf,
    /// Its root file system, lowest first.
    pub(crate) rootfs: Vec<RootMount>,
}

/// One mount of a root file system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RootMount {
    /// File system type.
    pub(crate) kind: String,
    /// What is mounted.
    pub(crate) source: String,
    /// Options.
    pub(crate) options: Vec<String>,
}

/// What a step took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// From the exec of `start` to the end of the delete.
    pub(crate) wall_ms: f64,
    /// Of that: a request to containerd's API was unanswered.
    pub(crate) waited_ms: f64,
    /// Processor time of the shim and of all that it started, ended by then.
    pub(crate) cpu_ms: f64,
    /// The Create call.
    pub(crate) create_ms: f64,
    /// What came through standard output, in MB a second.
    pub(crate) megabytes_per_second: f64,
}
