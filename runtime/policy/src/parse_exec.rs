//! The list `exec` from TOML: commands, and what of a person each may have.

use bulkhead_model::{ExecPattern, Interaction};
use toml::de::{DeTable, DeValue};

use crate::{
    exec::{self, PatternError},
    keys::Table,
    read::{Value, flag, refuse_key, refuse_value},
    source::Problems,
};

pub(crate) fn patterns(problems: &mut Problems<'_>, value: &Value<'_>) -> Option<Vec<ExecPattern>> {
    let Some(list) = value.get_ref().as_array() else {
        refuse_value(problems, value, Table::Confine, "exec");
        return None;
    };
    let read = |item: &Value<'_>| match item.get_ref() {
        DeValue::Table(keys) => entry(problems, item, keys),
        _ => command(problems, item, Table::Confine, "exec"),
    };
    Some(list.iter().filter_map(read).collect())
}

/// `{ command, stdin, tty }`.
fn entry(problems: &mut Problems<'_>, item: &Value<'_>, keys: &DeTable<'_>) -> Option<ExecPattern> {
    const IN: Table = Table::Exec;
    let mut pattern = None;
    let mut interaction = Interaction::default();
    for (key, value) in keys {
        match key.get_ref().as_ref() {
            name @ "command" => pattern = command(problems, value, IN, name),
            name @ "stdin" => interaction.stdin = flag(problems, value, IN, name)?,
            name @ "tty" => interaction.tty = flag(problems, value, IN, name)?,
            other => refuse_key(problems, &key.span(), IN, other),
        }
    }
    if !keys.contains_key("command") {
        let fix = "write { command = \"/bin/sh\", stdin = true, tty = true }";
        problems.add(&item.span(), "an entry of `exec` has no `command`", fix);
    }
    Some(ExecPattern { interaction, ..pattern? })
}

fn command(problems: &mut Problems<'_>, item: &Value<'_>, table: Table, name: &str) -> Option<ExecPattern> {
    let pattern = match item.get_ref() {
        DeValue::String(text) => exec::from_text(text),
        DeValue::Array(words) => {
            let words: Option<Vec<String>> =
                words.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect();
            match words {
                Some(words) => exec::from_words(words),
                None => {
                    refuse_value(problems, item, table, name);
                    return None;
                }
            }
        }
        _ => {
            refuse_value(problems, item, table, name);
            return None;
        }
    };
    match pattern {
        Ok(pattern) => Some(pattern),
        Err(PatternError { what, fix }) => {
            problems.add(&item.span(), what, fix);
            None
        }
    }
}
