//! Which system calls a program can make.

mod branch;
mod escape;
mod function;
pub(crate) mod link;
mod models;
mod names;
mod object;
mod state;
mod step;
pub(crate) mod summarise;
pub(crate) mod summary;
