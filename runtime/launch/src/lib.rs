//! Carries out a plan: the zygote, its workers, and the one use of libcontainer.
//!
//! ```text
//! server ──SEQPACKET: payload (memfd) + reply socket + stdio──► zygote ──clone(CLONE_PARENT)──► worker
//!    ▲                                                                                            │ clone, libcontainer
//!    └── reply socket: Prepared (pidfd) · Created · Confined ⇄ go · Failed · EOF ── init / exec ◄─┘
//! ```
//! The worker and the container's own processes are all children of the *server*: its reaper sees pids that it never
//! started, and must ignore those it does not know.
//!
//! Invariant: libcontainer runs only in a process without threads that exits after one job. A process of a
//! container reaches execve(2) only after the server has read its `/proc/<pid>/status` and agreed.
//! Never here: what a container may do; that was decided by `bulkhead_policy` and `bulkhead_plan`.

mod blind;
mod canary;
mod confinement;
mod derive;
mod error;
mod executor;
mod group_link;
mod hooks;
mod init_pid;
mod job;
mod keyring;
mod label;
mod layers;
mod limits;
mod line;
mod lookup;
mod loopback;
mod message;
mod mounts;
mod namespaces;
mod owner;
mod process;
mod root;
mod rootfs;
mod scarcity;
mod sealed;
mod shifted_layers;
mod small_init;
mod start;
mod stdio;
mod sys;
mod ticket;
mod user_namespace;
mod wire;
mod worker;
mod working_dir;
mod zygote;

pub use blind::cgroup_view;
pub use canary::prepare_canary;
pub use error::{LaunchError, StartError, fix};
pub use group_link::read as cgroup_of;
pub use hooks::{HookMoment, has_hooks, hooks_may_take, run_poststop};
pub use init_pid::read as init_pid_of;
pub use job::{CreateJob, ExecJob, Log, LogProgram, Ready, Stdio, Stream};
pub use sealed::{WORKER_ARGUMENT, run_sealed_worker};
pub use small_init::{init_name, prepare_init};
pub use stdio::{Ends, Kept, LogProcess};
pub use ticket::{CreateTicket, Created, Gate, GroupTicket, PendingStart, Running};
pub use worker::is_worker;
pub use zygote::Zygote;
