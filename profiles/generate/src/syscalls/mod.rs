//! Which system calls a program can make.

mod address;
mod branch;
mod data;
mod dead;
mod escape;
mod flow;
mod function;
mod leads;
pub(crate) mod link;
pub(crate) mod models;
mod names;
mod noreturn;
mod object;
mod outline;
mod plt;
mod prune;
mod set_id;
mod state;
mod step;
pub(crate) mod stored;
pub(crate) mod summarise;
pub(crate) mod summary;
mod sweep;
mod twice;
