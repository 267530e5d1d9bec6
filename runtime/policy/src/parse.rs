//! Policy text to the meaning of one file.
//!
//! Invariant: strict. What is not understood in full, to the last key, is an error; every error of the file is
//! found in one pass, with its line, its column and a fix.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use bulkhead_model::{ContentsRule, Digest, Level, Namespace};
use toml::de::{DeTable, DeValue};

use crate::{
    Mode, PolicyError, Source,
    confine::{Namespaces, Section},
    keys::Table,
    parse_confine, parse_rule,
    read::{Value, path, refuse_key, refuse_value, table, word},
    rule::{Rules, Trust},
    scope::{Repository, Scope},
    source::Problems,
};

/// What is the kernel's on the node.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The section that holds for every image.
pub(crate) const DEFAULT: &str = "default";

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Node,
    /// Narrows the node's; its scopes may leave the digests to the node.
    Tenant,
}

/// One line of `[image]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeRow {
    pub(crate) scope: Scope,
    pub(crate) line: usize,
    /// `None`: `require` decides, or, in a tenant's file, the node's.
    pub(crate) digests: Option<BTreeSet<Digest>>,
    /// Names of rules, each of which must be passed.
    pub(crate) require: BTreeSet<String>,
    /// Name of a section.
    pub(crate) confine: String,
    /// `None` where it is not written.
    pub(crate) contents: Option<ContentsRule>,
}

impl ScopeRow {
    /// How the files are to be proven. Who asks for a signature wants what was signed: there a name is not enough.
    pub(crate) fn contents(&self) -> ContentsRule {
        let default = if self.require.is_empty() { ContentsRule::Chain } else { ContentsRule::Receipt };
        self.contents.unwrap_or(default)
    }
}

/// What one policy file means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// `None` when it is not written.
    pub(crate) mode: Option<Mode>,
    /// The most specific first.
    scopes: Vec<ScopeRow>,
    /// Each named one over the default.
    sections: BTreeMap<String, Section>,
    pub(crate) rules: Rules,
    pub(crate) trust: Trust,
    /// `None` when it is not written.
    pub(crate) kubelet_root: Option<PathBuf>,
}

impl File {
    pub(crate) fn parse(source: &Source, role: Role) -> Result<Self, PolicyError> {
        let mut problems = Problems::new(source);
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        for error in errors {
            let what: Vec<&str> = error.message().lines().collect();
            problems.add(&error.span().unwrap_or(0..0), what.join(", "), "correct the TOML");
        }
        if let Some(error) = problems.take() {
            return Err(error);
        }
        let file = read_file(&mut problems, root.get_ref(), role, source.path.clone());
        problems.take().map_or(Ok(file), Err)
    }

    /// The most specific scope that matches.
    pub(crate) fn scope_of(&self, repository: &Repository) -> Option<&ScopeRow> {
        self.scopes.iter().find(|row| row.scope.matches(repository))
    }

    /// Names of sections that grant the compatible level, with their namespaces in words.
    pub(crate) fn compatible_sections(&self) -> impl Iterator<Item = (&str, String)> {
        self.sections.iter().filter(|(_, section)| section.level == Some(Level::Compatible)).map(
            |(name, section)| {
                let to = match &section.namespaces {
                    Some(Namespaces::All) => "every tenant".to_owned(),
                    Some(Namespaces::Some(names)) => {
                        names.iter().map(Namespace::to_string).collect::<Vec<_>>().join(", ")
                    }
                    None => "nobody".to_owned(),
                };
                (name.as_str(), to)
            },
        )
    }

    /// A section that a scope names, or the default.
    pub(crate) fn section(&self, name: &str) -> Section {
        // The parser saw to it that every named section is there; `[confine.default]` may be left out.
        self.sections.get(name).or_else(|| self.sections.get(DEFAULT)).cloned().unwrap_or_default()
    }
}

fn read_file(problems: &mut Problems<'_>, root: &DeTable<'_>, role: Role, at: PathBuf) -> File {
    let mut file = File {
        path: at,
        mode: None,
        scopes: Vec::new(),
        sections: BTreeMap::new(),
        rules: Rules::new(),
        trust: Trust::default(),
        kubelet_root: None,
    };
    let mut version = false;
    let mut scopes = None;
    for (key, value) in root {
        match key.get_ref().as_ref() {
            "version" => {
                version = true;
                if !matches!(value.get_ref(), DeValue::Integer(number) if number.to_string() == "1") {
                    refuse_value(problems, value, Table::File, "version");
                }
            }
            "mode" => {
                let words = [("enforce", Mode::Enforce), ("audit", Mode::Audit)];
                file.mode = word(problems, value, Table::File, "mode", &words);
            }
            "image" => scopes = table(problems, value, Table::File, "image"),
            "confine" => {
                if let Some(sections) = table(problems, value, Table::File, "confine") {
                    file.sections = read_sections(problems, sections, role);
                }
            }
            "rule" => {
                if let Some(rules) = table(problems, value, Table::File, "rule") {
                    file.rules = parse_rule::rules(problems, rules);
                }
            }
            "trust" => {
                if let Some(keys) = table(problems, value, Table::File, "trust") {
                    file.trust = parse_rule::trust(problems, keys, &value.span(), role);
                }
            }
            "kubelet_root" if role == Role::Tenant => problems.add(
                &key.span(),
                "`kubelet_root` is in a tenant's file",
                "remove it: where the kubelet keeps pods is said by the node's file",
            ),
            name @ "kubelet_root" => file.kubelet_root = path(problems, value, name, &RESERVED),
            other => refuse_key(problems, &key.span(), Table::File, other),
        }
    }
    if !version {
        problems.add(&(0..0), "`version` is missing", "begin the file with: version = 1");
    }
    if let Some(scopes) = scopes {
        let known: BTreeSet<&str> = file.sections.keys().map(String::as_str).chain([DEFAULT]).collect();
        file.scopes = read_scopes(problems, scopes, role, &Known { sections: &known, rules: &file.rules });
    }
    file
}

fn read_sections(
    problems: &mut Problems<'_>,
    sections: &DeTable<'_>,
    role: Role,
) -> BTreeMap<String, Section> {
    let mut read = BTreeMap::new();
    for (name, value) in sections {
        let text = name.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || !text.chars().all(plain) {
            problems.add(
                &name.span(),
                format!("section [confine.{text:?}] has a name with other than letters, digits, - and _"),
                "rename it",
            );
        }
        match value.get_ref().as_table() {
            Some(keys) => {
                read.insert(text.to_string(), parse_confine::section(problems, keys, text, role));
            }
            None => {
                // Said so that the scopes that name it are not reported as well.
                read.insert(text.to_string(), Section::default());
                problems.add(
                    &value.span(),
                    format!("`confine.{text}` is no section"),
                    "write keys of a confinement below [confine.NAME], such as [confine.default]",
                );
            }
        }
    }
    let default = read.get(DEFAULT).cloned().unwrap_or_default();
    read.into_iter().map(|(name, section)| (name, section.over(&default))).collect()
}

fn read_scopes(
    problems: &mut Problems<'_>,
    scopes: &DeTable<'_>,
    role: Role,
    known: &Known<'_>,
) -> Vec<ScopeRow> {
    let mut rows: Vec<ScopeRow> = Vec::new();
    for (name, value) in scopes {
        let scope = match Scope::parse(name.get_ref()) {
            Ok(scope) => Some(scope),
            Err(error) => {
                problems.add(&name.span(), error.what, error.fix);
                None
            }
        };
        let Some(keys) = value.get_ref().as_table() else {
            problems.add(
                &value.span(),
                format!("scope {:?} is no table", name.get_ref()),
                "write \"registry/repository\" = { digests = [\"sha256:…\"] }",
            );
            continue;
        };
        let said = read_scope(problems, keys, known);
        if role == Role::Node && !keys.contains_key("digests") && !keys.contains_key("require") {
            problems.add(
                &name.span(),
                format!(
                    "scope {:?} has neither `digests` nor `require`, so it would admit anything of that name",
                    name.get_ref()
                ),
                "write \"registry/repository\" = { digests = [\"sha256:…\"] } or { require = [\"RULE\"] }",
            );
        }
        let Some(scope) = scope else { continue };
        let line = problems.position(&name.span()).0;
        let Said { digests, require, confine, contents } = said;
        rows.push(ScopeRow { scope, line, digests, require, confine, contents });
    }
    // No two of them have the same rank for one name: a scope has one spelling, and TOML knows no key twice.
    rows.sort_by_key(|row| row.scope.specificity());
    rows
}

/// What scopes may refer to.
struct Known<'k> {
    sections: &'k BTreeSet<&'k str>,
    rules: &'k Rules,
}

/// What one scope says.
struct Said {
    digests: Option<BTreeSet<Digest>>,
    require: BTreeSet<String>,
    confine: String,
    contents: Option<ContentsRule>,
}

fn read_scope(problems: &mut Problems<'_>, keys: &DeTable<'_>, known: &Known<'_>) -> Said {
    let Known { sections, rules } = known;
    let mut digests = None;
    let mut require = BTreeSet::new();
    let mut contents = None;
    let mut confine = DEFAULT.to_owned();
    for (key, value) in keys {
        match key.get_ref().as_ref() {
            "digests" => digests = read_digests(problems, value),
            "require" => require = read_require(problems, value, rules),
            "confine" => match value.get_ref().as_str() {
                None => refuse_value(problems, value, Table::Image, "confine"),
                Some(name) if !sections.contains(name) => problems.add(
                    &value.span(),
                    format!("there is no section [confine.{name}] in this file"),
                    format!(
                        "write it, or one of: {}",
                        sections.iter().copied().collect::<Vec<_>>().join(", ")
                    ),
                ),
                Some(name) => confine = name.to_owned(),
            },
            "contents" => {
                let words = [
                    ("chain", ContentsRule::Chain),
                    ("receipt", ContentsRule::Receipt),
                    ("rehash", ContentsRule::Rehash),
                ];
                contents = word(problems, value, Table::Image, "contents", &words);
            }
            other => refuse_key(problems, &key.span(), Table::Image, other),
        }
    }
    Said { digests, require, confine, contents }
}

fn read_require(problems: &mut Problems<'_>, value: &Value<'_>, rules: &Rules) -> BTreeSet<String> {
    let Some(list) = value.get_ref().as_array().filter(|list| !list.is_empty()) else {
        refuse_value(problems, value, Table::Image, "require");
        return BTreeSet::new();
    };
    let mut require = BTreeSet::new();
    for item in list.iter() {
        match item.get_ref().as_str() {
            None => refuse_value(problems, item, Table::Image, "require"),
            Some(name) if !rules.contains_key(name) => problems.add(
                &item.span(),
                format!("there is no rule [rule.{name}] in this file"),
                format!("write it: [rule.{name}] with keys or keyless"),
            ),
            Some(name) => {
                require.insert(name.to_owned());
            }
        }
    }
    require
}

fn read_digests(problems: &mut Problems<'_>, value: &Value<'_>) -> Option<BTreeSet<Digest>> {
    let Some(list) = value.get_ref().as_array() else {
        refuse_value(problems, value, Table::Image, "digests");
        return None;
    };
    if list.is_empty() {
        problems.add(
            &value.span(),
            "`digests` is empty: the scope admits nothing",
            "remove the scope, or list the digests that may run",
        );
        return None;
    }
    let mut digests = BTreeSet::new();
    for item in list.iter() {
        match item.get_ref().as_str().map(str::parse::<Digest>) {
            Some(Ok(digest)) => {
                digests.insert(digest);
            }
            Some(Err(error)) => {
                problems.add(
                    &item.span(),
                    error.to_string(),
                    "write \"sha256:\" and 64 lower-case hex digits",
                );
            }
            None => refuse_value(problems, item, Table::Image, "digests"),
        }
    }
    (digests.len() == list.len() || !digests.is_empty()).then_some(digests)
}

#[cfg(test)]
mod tests;
