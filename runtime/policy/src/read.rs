//! Values of TOML with their places: each reader takes one value, or says what is wrong with it.

use std::{collections::BTreeSet, ops::Range, path::PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    keys::{Built, Table, find, keys_of},
    source::Problems,
};

/// A value and where it stands.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

/// Longest path that policy may name, in bytes.
///
/// Source: `PATH_MAX`, include/uapi/linux/limits.h.
const PATH_BYTES_MAX: usize = 4095;

/// Says that `name` is no key of `table`, or one that is not built yet.
pub(crate) fn refuse_key(problems: &mut Problems<'_>, at: &Range<usize>, table: Table, name: &str) {
    match find(table, name) {
        Some(key) if key.built == Built::NotYet => problems.add(
            at,
            format!("key `{name}` of {} is not built yet ({})", table.title(), key.meaning),
            "remove it: a policy that asks for more than this version does refuses all",
        ),
        _ => {
            let known: Vec<_> =
                keys_of(table).filter(|key| key.built == Built::Yes).map(|key| key.name).collect();
            problems.add(
                at,
                format!("unknown key `{name}` in {}", table.title()),
                format!("remove it, or use one of: {}", known.join(", ")),
            );
        }
    }
}

/// Says that the value of `name` is not what the key accepts.
pub(crate) fn refuse_value(problems: &mut Problems<'_>, value: &Value<'_>, table: Table, name: &str) {
    let accepts = find(table, name).map_or("", |key| key.accepts);
    let found = match value.get_ref() {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        other => format!("a {}", other.type_str()),
    };
    let found: String = found.chars().take(80).collect();
    problems.add(&value.span(), format!("`{name}` is {found}"), format!("write {name} = {accepts}"));
}

pub(crate) fn table<'v, 'a>(
    problems: &mut Problems<'_>,
    value: &'v Value<'a>,
    of: Table,
    name: &str,
) -> Option<&'v DeTable<'a>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        refuse_value(problems, value, of, name);
    }
    table
}

/// One of several words.
pub(crate) fn word<T: Copy>(
    problems: &mut Problems<'_>,
    value: &Value<'_>,
    table: Table,
    name: &str,
    words: &[(&str, T)],
) -> Option<T> {
    let text = value.get_ref().as_str();
    let found = words.iter().find(|(word, _)| Some(*word) == text).map(|(_, meaning)| *meaning);
    if found.is_none() {
        refuse_value(problems, value, table, name);
    }
    found
}

/// true or false.
pub(crate) fn flag(problems: &mut Problems<'_>, value: &Value<'_>, table: Table, name: &str) -> Option<bool> {
    let found = value.get_ref().as_bool();
    if found.is_none() {
        refuse_value(problems, value, table, name);
    }
    found
}

/// A whole number within bounds.
pub(crate) fn number(
    problems: &mut Problems<'_>,
    value: &Value<'_>,
    table: Table,
    name: &str,
    bounds: std::ops::RangeInclusive<u64>,
) -> Option<u64> {
    let number = value
        .get_ref()
        .as_integer()
        .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
        .filter(|number| bounds.contains(number));
    if number.is_none() {
        refuse_value(problems, value, table, name);
    }
    number
}

/// A list of paths, each absolute and in its shortest spelling, none of them or below one of `reserved`.
pub(crate) fn paths(
    problems: &mut Problems<'_>,
    value: &Value<'_>,
    name: &str,
    reserved: &[&str],
) -> Option<BTreeSet<PathBuf>> {
    let Some(list) = value.get_ref().as_array() else {
        refuse_value(problems, value, Table::Confine, name);
        return None;
    };
    let paths = list.iter().filter_map(|item| path(problems, item, name, reserved)).collect::<Vec<_>>();
    (paths.len() == list.len()).then(|| paths.into_iter().collect())
}

/// One path.
pub(crate) fn path(
    problems: &mut Problems<'_>,
    value: &Value<'_>,
    name: &str,
    reserved: &[&str],
) -> Option<PathBuf> {
    let Some(text) = value.get_ref().as_str() else {
        problems.add(&value.span(), format!("`{name}` has an entry that is no text"), "write \"/a/path\"");
        return None;
    };
    let plain = text.strip_prefix('/').is_some_and(|rest| {
        !rest.is_empty()
            && text.len() <= PATH_BYTES_MAX
            && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !text.chars().any(char::is_control)
    });
    if !plain {
        problems.add(
            &value.span(),
            format!("`{name}` has the path {text:?}"),
            "write an absolute path other than / without `.`, `..`, `//` and a slash at its end",
        );
        return None;
    }
    let path = PathBuf::from(text);
    if let Some(reserved) = reserved.iter().find(|reserved| path.starts_with(reserved)) {
        problems.add(
            &value.span(),
            format!("`{name}` has the path {text:?}, and {reserved} is the runtime's own"),
            "name a directory of the image",
        );
        return None;
    }
    Some(path)
}
