//! Starts the real components, tests Bulkhead against them, and counts what is left behind.
//!
//! ```text
//! deps.sh ─► tools ─► daemon: a private containerd ─► import an image made on the spot ─► ctr | CRI pods | task API
//!                        └─ drop, also after a panic: every process, mount, cgroup and file with its tag is gone
//! ```
//! Invariant: what a daemon starts carries its tag and ends with it; the system's own containerd is not touched;
//! sockets are unix sockets in the daemon's directory or on loopback.
//! Never here: a mock. What cannot be had is an error with its fix, never a silent skip.

#![forbid(unsafe_code)]

mod attacker;
mod compatible;
mod config;
mod containers;
mod daemon;
mod each;
mod error;
mod events;
mod faults;
mod fixture;
mod image;
mod leftovers;
mod pods;
mod probe;
mod process;
mod ratio;
mod registry;
mod report;
mod run;
mod stdio;
mod tag;
mod tasks;
mod tools;

pub use attacker::attacker;
pub use compatible::{COMPATIBLE, HARDENED, Infra, ROOT, bind, push, same};
pub use config::Cri;
pub use daemon::{Containerd, Hierarchies, PAUSE, RunDir, Surroundings, copy_program, program};
pub use error::{HarnessError, Result};
pub use events::{Event, Events};
pub use faults::{Fault, Tracer, Victim, child_named, children_named, parent_of};
pub use fixture::{ALLOWED, Bench, EVIL, Refused};
pub use image::{Digests, Entry, Image, Layer, Platforms, UID, digest_of};
pub use leftovers::Leftovers;
pub use pods::{ContainerOptions, Executed, Pod, Pods, namespaces};
pub use probe::Answers;
pub use process::{Seen, StreamPaths};
pub use ratio::{Compared, median};
pub use registry::{REGISTRY_USER, Registry, RegistryDoor, RegistryKind};
pub use report::{machine, merge_report, write_report, write_report_of};
pub use run::{Output, answered, heard, run, run_on, runcs, until, wait};
pub use stdio::{Stdio, open_fifo};
pub use tag::{clean, directory, fresh, need_root, sweep};
pub use tasks::{RootMount, Tasks};
pub use tools::{BULKHEAD, RUNC, Release, bulkhead_dir, workspace};
