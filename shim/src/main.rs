//! containerd-shim-bulkhead-v2: speaks containerd's shim v2 and calls the stages in order.
//!
//! ```text
//! containerd ─exec─► front: start · delete · -info · -v
//!                      │ fork
//!                      ▼
//!                    server: ttrpc task service ─► stages: verify ─► admit ─► plan ─► launch
//!                      │                                                             │
//!                      ├── reaper: exits of all children                             ▼
//!                      └── publisher: events, in order            zygote ─► worker ─► init, exec
//! ```
//!
//! Invariant: a container exists only where [`stages`] let it through; nothing else calls `bulkhead_launch`.
//! Never here: what an image, a request or a policy means; those are other crates, and this one only orders them.

#![deny(unsafe_code)]

mod front;
mod ranges;
mod server;
mod stages;
#[allow(unsafe_code)]
mod sys;
mod task;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == bulkhead_launch::WORKER_ARGUMENT
    {
        return bulkhead_launch::run_sealed_worker(rest);
    }
    let flags = match containerd_shim::parse(&arguments) {
        Ok(flags) => flags,
        Err(error) => return fail(&error.to_string()),
    };
    let done = match flags.action.as_str() {
        _ if flags.version => {
            println!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ if flags.info => front::info(),
        "start" => match front::start(&flags) {
            Ok(front::Started::Replied) => Ok(()),
            Ok(front::Started::Server(config)) => return server::run(*config),
            Err(error) => Err(error),
        },
        "delete" => front::delete(&flags),
        _ => {
            return fail("usage: containerd-shim-bulkhead-v2 [-v] [-info] -namespace NS -id ID start|delete");
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.chain()),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("containerd-shim-bulkhead-v2: {text}");
    ExitCode::FAILURE
}
