//! The written rows: `data/baseline.toml` and `data/server.toml` as tables, made by build.rs.

use bulkhead_model::MemfdRule;

use crate::{
    Action, Condition, Test, Width,
    names::numbers_end,
    rules::{Answer, Rule, Table},
};

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

/// `ENOSYS`: no such call. Source: include/uapi/asm-generic/errno.h.
pub(crate) const ENOSYS: u16 = 38;

/// One row of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The syscall.
    pub syscall: &'static str,
    /// Its number on this architecture.
    pub number: u32,
    /// What becomes of it.
    pub then: Action,
    /// What its arguments must be; any when empty.
    pub args: &'static [Condition],
    /// Whether the row counts only with [`MemfdRule::Allowed`].
    pub needs_memfd: bool,
    /// Why.
    pub reason: &'static str,
    /// Where that can be read up.
    pub source: &'static str,
}

/// All rows of the baseline that exist on this architecture, in the order of the file.
#[must_use]
pub fn rows() -> &'static [Row] {
    ROWS
}

/// All rows of the server's own profile that exist on this architecture, in the order of the file.
#[must_use]
pub fn server_rows() -> &'static [Row] {
    SERVER_ROWS
}

/// The baseline with or without memfd_create(2).
pub(crate) fn table(memfd: MemfdRule) -> Table {
    table_of(ROWS, memfd)
}

/// The server's own profile.
pub(crate) fn server_table() -> Table {
    table_of(SERVER_ROWS, MemfdRule::Denied)
}

fn table_of(rows: &[Row], memfd: MemfdRule) -> Table {
    let unknown = Action::Errno(ENOSYS);
    let mut numbers = vec![Answer::always(unknown); numbers_end() as usize];
    for row in rows {
        match (row.needs_memfd, memfd) {
            (true, MemfdRule::Denied) => continue,
            (true, MemfdRule::Allowed) | (false, MemfdRule::Denied | MemfdRule::Allowed) => {}
        }
        // build.rs took the numbers from the same list as numbers_end.
        let answer = &mut numbers[row.number as usize];
        answer.rules.push(Rule { when: row.args.to_vec(), then: row.then });
    }
    for answer in &mut numbers {
        // The first rule without conditions ends the list.
        if let Some(end) = answer.rules.iter().position(|rule| rule.when.is_empty()) {
            answer.otherwise = answer.rules[end].then;
            answer.rules.truncate(end);
        }
    }
    Table { numbers, beyond: unknown }
}
