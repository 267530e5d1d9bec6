//! Attacks from inside of a container, and says of each technique whether it bit and what stopped it.
//!
//! ```text
//! attacker list             a JSON line per technique: name, source, tries, alone
//! attacker run [NAME…]      a JSON line per technique: name, outcome (succeeded | stopped), by
//! attacker connect ADDRESS  connects to a unix socket; `@name` is an abstract one
//! attacker await-runtime, attacker runtime-written: see `runtime`
//! attacker await-exec, attacker exec-caught: see `on_the_way`
//! attacker whoami           the effective uid
//! attacker pause            sleeps until SIGTERM: something to exec into
//! ```
//! Each technique is tried in a child of its own, under a deadline. It is static: it has to run in an image that holds
//! nothing else. A file in `techniques/` is a technique; its name says what it tries.

mod attempt;
mod json;
mod netlink;
mod on_the_way;
mod runtime;
mod sys;

use std::process::ExitCode;

use attempt::{Outcome, try_in_child};

include!(concat!(env!("OUT_DIR"), "/techniques.rs"));

/// One thing that a hostile tenant tries.
struct Technique {
    /// The CVE, advisory or page that it is from.
    source: &'static str,
    /// One line for people.
    tries: &'static str,
    /// Does it. `Ok` holds the evidence that it bit.
    attempt: fn() -> Result<String, Stop>,
    /// Whether it wants a container of its own: what it leaves behind would disturb others.
    alone: bool,
}

/// What stopped a technique: a call with its errno, or what was found instead.
#[derive(Debug)]
struct Stop(String);

impl Stop {
    /// Stopped by what was found.
    fn because(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The answer of a kernel that has no such thing; or of a filter that pretends so.
    fn absent(what: &str, error: &std::io::Error) -> Self {
        Self(format!("{} (no {what})", sys::errno_name(error)))
    }

    /// For `map_err`: the call or path, and its errno.
    fn at(what: &str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self(format!("{what}: {}", sys::errno_name(&error)))
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            for (name, technique) in ALL {
                let Technique { source, tries, alone, attempt: _ } = technique;
                println!(
                    "{}",
                    json::object(&[
                        ("name", name),
                        ("source", source),
                        ("tries", tries),
                        ("alone", if *alone { "yes" } else { "no" })
                    ])
                );
            }
        }
        ["run", names @ ..] => {
            for (name, technique) in ALL.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
                let (outcome, by) = match try_in_child(technique.attempt) {
                    Outcome::Succeeded(evidence) => ("succeeded", evidence),
                    Outcome::Stopped(by) => ("stopped", by),
                };
                println!("{}", json::object(&[("name", name), ("outcome", outcome), ("by", &by)]));
            }
        }
        ["pause"] => sys::pause(),
        ["await-runtime"] => runtime::wait(),
        ["await-exec"] => on_the_way::wait(),
        ["runtime-written"] => return told(runtime::report()),
        ["exec-caught"] => return told(on_the_way::report()),
        ["connect", address] => match sys::connect(address) {
            Ok(_) => println!("connected to {address}"),
            Err(error) => {
                eprintln!("connect {address}: {}", sys::errno_name(&error));
                return ExitCode::FAILURE;
            }
        },
        ["whoami"] => println!("{}", sys::effective_user()),
        // What a dropped copy of this program does: proof that it ran.
        ["dropped"] => println!("{}", attempt::RAN),
        _ => {
            eprintln!("usage: attacker list | run [NAME…] | pause");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Prints what one who watched has to say.
fn told(report: std::io::Result<String>) -> ExitCode {
    match report {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("no report: {}", sys::errno_name(&error));
            ExitCode::FAILURE
        }
    }
}
