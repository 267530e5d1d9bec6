//! Names of measurements, as the report's readers know them.

use bulkhead_integration::HarnessError;

use crate::wrong;

/// A measurement: what `ONLY` may name, and what rows are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// For `ONLY`.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) about: &'static str,
    /// How the names of its rows begin.
    rows: &'static [&'static str],
}

impl Part {
    /// Whether a row is one of its own.
    pub(crate) fn has(&self, row: &str) -> bool {
        let longest = PARTS.iter().flat_map(|part| part.rows).filter(|start| row.starts_with(**start));
        longest.max_by_key(|start| start.len()).is_some_and(|start| self.rows.contains(start))
    }
}

/// All of them, in the order of the table.
pub(crate) const PARTS: [Part; 14] = [
    Part { name: "start", about: "Start: `ctr run --rm … true`", rows: &["start"] },
    Part { name: "exec", about: "Exec: `ctr task exec … true`", rows: &["exec"] },
    Part { name: "task", about: "Kill and delete", rows: &["kill-to-event", "delete"] },
    Part {
        name: "own",
        about: "Own part: the shim and what it starts, without containerd",
        rows: &["own-", "create"],
    },
    Part { name: "gates", about: "Gates: policy, verdict and plan of a warm start", rows: &["gates-"] },
    Part {
        name: "contents",
        about: "Layers: the first look beside sha256sum, a later walk beside find",
        rows: &["contents-"],
    },
    Part { name: "policy", about: "A start with a line of policy beside one without", rows: &["policy-"] },
    Part { name: "rate", about: "Starts at once (more is better)", rows: &["starts-per-second-"] },
    Part {
        name: "memory",
        about: "Memory and idle processor time, one shim each",
        rows: &["pss-", "idle-cpu"],
    },
    Part { name: "pods", about: "Memory of one pod", rows: &["pss-pod-"] },
    Part { name: "stdio", about: "Standard output (more is better)", rows: &["stdio-"] },
    Part { name: "syscalls", about: "System calls inside the container", rows: &["syscall-"] },
    Part { name: "profiles", about: "Profiles worked out from the image", rows: &["profile-"] },
    Part { name: "served", about: "Servers under their profiles (more is better)", rows: &["served-"] },
];

/// The parts that a list names; all without one.
pub(crate) fn chosen(only: Option<&str>) -> Result<Vec<&'static str>, HarnessError> {
    let Some(only) = only.filter(|only| !only.is_empty()) else {
        return Ok(PARTS.iter().map(|part| part.name).collect());
    };
    only.split(',')
        .map(|name| {
            let part = PARTS.iter().find(|part| part.name == name);
            let known = || PARTS.map(|part| part.name).join(", ");
            part.map(|part| part.name)
                .ok_or_else(|| wrong("ONLY of known parts", format!("{name}; there are: {}", known())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_row_belongs_to_one_part() {
        let of =
            |row: &str| PARTS.iter().filter(|part| part.has(row)).map(|part| part.name).collect::<Vec<_>>();
        for (row, part) in [
            ("start", "start"),
            ("starts-per-second-8", "rate"),
            ("pss-20", "memory"),
            ("pss-pod-20", "pods"),
            ("own-part", "own"),
            ("create", "own"),
            ("profile-getppid", "profiles"),
            ("served-nginx", "served"),
        ] {
            assert_eq!(of(row), [part], "{row}");
        }
    }

    #[test]
    fn parts_are_chosen_by_name_and_a_wrong_name_is_an_error() {
        assert_eq!(chosen(None).unwrap().len(), PARTS.len());
        assert_eq!(chosen(Some("exec,start")).unwrap(), ["exec", "start"]);
        assert!(chosen(Some("exec,strat")).unwrap_err().to_string().contains("strat"));
    }
}
