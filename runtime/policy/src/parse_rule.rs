//! `[rule.NAME]` and `[trust]`.

use std::{ops::Range, time::Duration};

use bulkhead_model::SIGNERS_MAX;
use toml::de::{DeTable, DeValue};

use crate::{
    glob::Glob,
    keys::Table,
    parse::Role,
    read::{Value, number, path, refuse_key, refuse_value, word},
    rule::{DAY_SECONDS, FetchRule, FileName, Keyless, LogRule, Rules, SignerRule, Trust},
    source::Problems,
};

/// Oldest root that a limit may allow, in days.
const ROOT_AGE_DAYS_MAX: u64 = 3650;

/// The sections of `[rule]`.
pub(crate) fn rules(problems: &mut Problems<'_>, table: &DeTable<'_>) -> Rules {
    let mut rules = Rules::new();
    for (name, value) in table {
        let text = name.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || !text.chars().all(plain) {
            problems.add(
                &name.span(),
                format!("rule [rule.{text:?}] has a name with other than letters, digits, - and _"),
                "rename it",
            );
        }
        let line = problems.position(&name.span()).0;
        let rule = match value.get_ref().as_table() {
            Some(keys) => rule(problems, keys, &name.span(), line),
            None => {
                problems.add(
                    &value.span(),
                    format!("`rule.{text}` is no section"),
                    "write keys = [\"keys/NAME.pub\"] or keyless = […] below [rule.NAME]",
                );
                SignerRule { line, keys: Vec::new(), keyless: Vec::new(), log: None }
            }
        };
        rules.insert(text.to_string(), rule);
    }
    rules
}

fn rule(problems: &mut Problems<'_>, keys: &DeTable<'_>, at: &Range<usize>, line: usize) -> SignerRule {
    let mut rule = SignerRule { line, keys: Vec::new(), keyless: Vec::new(), log: None };
    for (key, value) in keys {
        match key.get_ref().as_ref() {
            "keys" => rule.keys = file_names(problems, value, Table::Rule, "keys"),
            "keyless" => rule.keyless = keyless(problems, value),
            "transparency_log" => {
                let words = [("required", LogRule::Required), ("optional", LogRule::Optional)];
                rule.log = word(problems, value, Table::Rule, "transparency_log", &words);
            }
            other => refuse_key(problems, &key.span(), Table::Rule, other),
        }
    }
    if !keys.contains_key("keys") && !keys.contains_key("keyless") {
        problems.add(
            at,
            "a rule without `keys` and `keyless` is passed by nobody",
            "write keys = [\"keys/NAME.pub\"] or keyless = [{ issuer = \"…\", identity = \"…\" }]",
        );
    }
    rule
}

fn keyless(problems: &mut Problems<'_>, value: &Value<'_>) -> Vec<Keyless> {
    let list = value.get_ref().as_array().filter(|list| !list.is_empty() && list.len() <= SIGNERS_MAX);
    let Some(list) = list else {
        refuse_value(problems, value, Table::Rule, "keyless");
        return Vec::new();
    };
    list.iter().filter_map(|item| entry(problems, item)).collect()
}

fn entry(problems: &mut Problems<'_>, item: &Value<'_>) -> Option<Keyless> {
    let Some(keys) = item.get_ref().as_table() else {
        refuse_value(problems, item, Table::Rule, "keyless");
        return None;
    };
    let (mut issuer, mut identity) = (None, None);
    for (key, value) in keys {
        match key.get_ref().as_ref() {
            "issuer" => issuer = issuer_glob(problems, value),
            "identity" => identity = identity_glob(problems, value),
            other => refuse_key(problems, &key.span(), Table::Keyless, other),
        }
    }
    for name in ["issuer", "identity"] {
        if !keys.contains_key(name) {
            problems.add(
                &item.span(),
                format!("an entry of `keyless` has no `{name}`"),
                "write both: an identity means something only from the issuer that vouches for it",
            );
        }
    }
    Some(Keyless { issuer: issuer?, identity: identity? })
}

/// Who is the issuer decides who may say anything of identities: its host is never a pattern.
fn issuer_glob(problems: &mut Problems<'_>, value: &Value<'_>) -> Option<Glob> {
    let glob = glob(problems, value, "issuer")?;
    let start = glob.literal_start();
    let host_is_literal =
        start.strip_prefix("https://").is_some_and(|rest| rest.find('/').is_some_and(|slash| slash > 0));
    if !glob.is_literal() && !host_is_literal {
        problems.add(
            &value.span(),
            format!("`issuer` is {:?}, a pattern of other hosts", glob.to_string()),
            "write the issuer out, such as \"https://token.actions.githubusercontent.com\"; a star may follow its host",
        );
        return None;
    }
    Some(glob)
}

fn identity_glob(problems: &mut Problems<'_>, value: &Value<'_>) -> Option<Glob> {
    let glob = glob(problems, value, "identity")?;
    if glob.to_string().chars().all(|c| matches!(c, '*' | '/' | '@' | '.' | ':')) {
        problems.add(
            &value.span(),
            format!("`identity` is {:?}: anybody whom the issuer knows", glob.to_string()),
            "say whom you mean, such as \"https://github.com/team/*/.github/workflows/*@refs/tags/*\"",
        );
        return None;
    }
    Some(glob)
}

fn glob(problems: &mut Problems<'_>, value: &Value<'_>, name: &str) -> Option<Glob> {
    let glob = value.get_ref().as_str().and_then(Glob::parse);
    if glob.is_none() {
        refuse_value(problems, value, Table::Keyless, name);
    }
    glob
}

/// Most directories that registries are looked up in.
const HOSTS_DIRS_MAX: usize = 16;

/// `[trust]`.
pub(crate) fn trust(
    problems: &mut Problems<'_>,
    table: &DeTable<'_>,
    at: &Range<usize>,
    role: Role,
) -> Trust {
    let mut trust = Trust::default();
    if role == Role::Tenant {
        problems.add(
            at,
            "`[trust]` stands in a tenant's file: whom the node trusts is the node's to say",
            "move it to the node's file",
        );
        return trust;
    }
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "roots" => trust.roots = file_names(problems, value, Table::Trust, "roots"),
            "root_age_days_max" => {
                let days = number(problems, value, Table::Trust, "root_age_days_max", 1..=ROOT_AGE_DAYS_MAX);
                trust.root_age_max = days.map(|days| Duration::from_secs(days * DAY_SECONDS));
            }
            "fetch" => {
                let words =
                    [("never", FetchRule::Never), ("watch", FetchRule::Watch), ("launch", FetchRule::Launch)];
                trust.fetch = word(problems, value, Table::Trust, "fetch", &words).unwrap_or_default();
            }
            "hosts_dirs" => match value.get_ref().as_array().filter(|list| list.len() <= HOSTS_DIRS_MAX) {
                Some(list) => {
                    trust.hosts_dirs =
                        list.iter().filter_map(|item| path(problems, item, "hosts_dirs", &[])).collect();
                }
                None => refuse_value(problems, value, Table::Trust, "hosts_dirs"),
            },
            "docker_config" => trust.docker_config = path(problems, value, "docker_config", &[]),
            other => refuse_key(problems, &key.span(), Table::Trust, other),
        }
    }
    trust
}

/// Files beside the node's policy, each named once.
fn file_names(problems: &mut Problems<'_>, value: &Value<'_>, table: Table, name: &str) -> Vec<FileName> {
    let list = value.get_ref().as_array().filter(|list| !list.is_empty() && list.len() <= SIGNERS_MAX);
    let Some(list) = list else {
        refuse_value(problems, value, table, name);
        return Vec::new();
    };
    let mut names: Vec<FileName> = Vec::new();
    for item in list.iter() {
        let DeValue::String(text) = item.get_ref() else {
            refuse_value(problems, item, table, name);
            continue;
        };
        let plain = text.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && text.len() <= 255
            && !text.chars().any(char::is_control);
        if !plain || names.iter().any(|other| other.name == *text) {
            problems.add(
                &item.span(),
                format!("`{name}` has the file {text:?}"),
                "name each file once, by its path below the policy's directory, without `.`, `..` and a leading slash",
            );
            continue;
        }
        let (line, column) = problems.position(&item.span());
        names.push(FileName { name: text.to_string(), line, column });
    }
    names
}
