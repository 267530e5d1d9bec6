//! Which calls the baseline has, and which the runtime itself needs.

use std::{collections::BTreeSet, path::PathBuf};

use bulkhead_profiles::{Row as BaselineRow, rows};

use super::Site;

/// Where a row without a site of the image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Runtime(&'static str),
    Kernel(&'static str),
}

impl Origin {
    pub(crate) fn site(self) -> Site {
        let (file, function) = match self {
            Self::Runtime(why) => ("(bulkhead)", why),
            Self::Kernel(why) => ("(the kernel)", why),
        };
        Site { function: function.to_owned(), file: PathBuf::from(file), at: 0, callers: Vec::new() }
    }
}

/// What happens between the filter and the program's first instruction, and what nobody's code says.
///
/// Source: `Confined::go` of bulkhead-launch; signal(7).
pub(crate) fn runtime_needs() -> Vec<(&'static str, Origin)> {
    vec![
        ("write", Origin::Runtime("tells the server that it is confined")),
        ("read", Origin::Runtime("waits until the server agrees")),
        ("execve", Origin::Runtime("starts the program")),
        ("sendmsg", Origin::Runtime("tells the server why the program does not start")),
        ("sendto", Origin::Runtime("tells the server why the program does not start")),
        ("exit", Origin::Runtime("ends when the program does not start")),
        ("exit_group", Origin::Runtime("ends when the program does not start")),
        ("restart_syscall", Origin::Kernel("puts it in after a stop signal")),
        ("rt_sigreturn", Origin::Kernel("has every signal handler end with it")),
    ]
}

/// Numbers of which the baseline allows some call.
pub(crate) fn baseline_numbers() -> BTreeSet<u32> {
    let allowed = |row: &&BaselineRow| row.then.runs() && !row.needs_memfd;
    rows().iter().filter(allowed).map(|row| row.number).collect()
}
