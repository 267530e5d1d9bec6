//! Tasks: what containerd calls a container that has, or had, a process.
//!
//! ```text
//! Create ─ stages ─┬─► Created ─Start─► Running ◄─Resume─┐
//!                  │      │               │ │            │
//!                  │      │               │ └──Pause──► Paused
//!                  │      │  (process ends)  ─────────────┘
//!                  │      └──────► Stopped ◄┘ ─Delete─► gone
//!                  └─ refused or failed: nothing is left
//! ```
//! An exec goes the same way from `Added`, inside its container.
//!
//! Invariant: what is created and not handed over is taken back by the same call. A process is signalled through
//! its pidfd, never by number.
//! Never here: whether a request is admitted; that is [`crate::stages`].

mod container;
mod create;
mod denied;
mod error;
mod exec;
pub(crate) mod leftovers;
mod lifecycle;
mod oom;
mod pins;
mod places;
mod process;
mod service;
mod start;
mod stats;
mod stdio;
mod tasks;

pub(crate) use container::Container;
pub(crate) use error::{TaskError, chain};
pub(crate) use process::Process;
pub(crate) use service::Service;
pub(crate) use stdio::{Hub, streaming_services};
pub(crate) use tasks::Tasks;
