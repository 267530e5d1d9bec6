//! `landlock = { … }` of a section, from TOML.

use std::collections::BTreeSet;

use bulkhead_model::{BindRule, ScopeRule, TcpRule};

use crate::{
    confine::LandlockKeys,
    keys::Table,
    parse_confine::profile,
    read::{Value, number, refuse_key, refuse_value, table, word},
    source::Problems,
};

/// Newest Landlock ABI that this version knows: Linux 6.15.
///
/// Source: landlock(7).
const LANDLOCK_ABI_MAX: u64 = 7;

/// Most ports that one list may name.
const PORTS_MAX: usize = 256;

const IN: Table = Table::Landlock;

pub(crate) fn read(problems: &mut Problems<'_>, value: &Value<'_>) -> LandlockKeys {
    let mut read = LandlockKeys::default();
    let Some(keys) = table(problems, value, Table::Confine, "landlock") else { return read };
    for (key, value) in keys {
        match key.get_ref().as_ref() {
            name @ "floor_abi" => {
                let abi = number(problems, value, IN, name, 1..=LANDLOCK_ABI_MAX);
                read.floor_abi = abi.and_then(|abi| u8::try_from(abi).ok());
            }
            name @ "files" => read.files = profile(problems, value, IN, name),
            name @ "tcp_bind" => {
                read.tcp_bind = match value.get_ref().as_str() {
                    Some("exposed") => Some(BindRule { exposed: true, ports: TcpRule::Any }),
                    _ => tcp(problems, value, name, 0).map(|ports| BindRule { exposed: false, ports }),
                };
            }
            name @ "tcp_connect" => read.tcp_connect = tcp(problems, value, name, 1),
            name @ "scope" => read.scope = scope(problems, value, name),
            other => refuse_key(problems, &key.span(), IN, other),
        }
    }
    read
}

/// `any`, `none`, or ports from `least`: 0 is any free one, and nobody connects to it.
fn tcp(problems: &mut Problems<'_>, value: &Value<'_>, name: &str, least: u64) -> Option<TcpRule> {
    match (value.get_ref().as_str(), value.get_ref().as_array()) {
        (Some("any"), _) => return Some(TcpRule::Any),
        (Some("none"), _) => return Some(TcpRule::NONE),
        (_, Some(list)) if list.len() <= PORTS_MAX => {
            let ports = list.iter().map(|port| {
                let port = number(problems, port, IN, name, least..=u16::MAX.into());
                port.and_then(|port| u16::try_from(port).ok())
            });
            return ports.collect::<Option<BTreeSet<u16>>>().map(TcpRule::Ports);
        }
        (_, _) => {}
    }
    refuse_value(problems, value, IN, name);
    None
}

fn scope(problems: &mut Problems<'_>, value: &Value<'_>, name: &str) -> Option<BTreeSet<ScopeRule>> {
    const WORDS: [(&str, ScopeRule); 2] =
        [("signals", ScopeRule::Signals), ("abstract-sockets", ScopeRule::AbstractSockets)];
    let Some(list) = value.get_ref().as_array() else {
        refuse_value(problems, value, IN, name);
        return None;
    };
    list.iter().map(|item| word(problems, item, IN, name, &WORDS)).collect()
}
