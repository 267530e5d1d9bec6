//! What differs between two profiles.

use std::collections::BTreeSet;

use bulkhead_profiles::narrowings;
use serde::Serialize;

use super::Profile;

/// What the second of two profiles has more and less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Calls that only the second allows.
    pub more: Vec<String>,
    /// Calls that only the first allows.
    pub less: Vec<String>,
    /// Values of arguments that only the second allows, of calls that both do: "any" where it narrows that argument not.
    pub values_more: Vec<String>,
    /// Values of arguments that only the first allows.
    pub values_less: Vec<String>,
    /// Programs and libraries that only the second has.
    pub members_more: Vec<String>,
    /// Programs and libraries that only the first has.
    pub members_less: Vec<String>,
    /// Rules for files that only the second has.
    pub rules_more: Vec<String>,
    /// Rules for files that only the first has.
    pub rules_less: Vec<String>,
}

impl Difference {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { more, less, values_more, values_less, members_more, members_less, rules_more, rules_less } =
            self;
        [more, less, values_more, values_less, members_more, members_less, rules_more, rules_less]
            .iter()
            .all(|list| list.is_empty())
    }
}

impl Profile {
    /// What `other` has more and less than this one.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Difference {
        let calls = |profile: &Self| profile.rows.keys().cloned().collect::<BTreeSet<_>>();
        let members = |profile: &Self| {
            profile.members.iter().map(|member| member.path.display().to_string()).collect::<BTreeSet<_>>()
        };
        let both = || self.rows.keys().filter(|call| other.rows.contains_key(*call));
        let values = |profile: &Self| {
            both().flat_map(|call| narrowings().iter().filter(move |known| known.syscall == call)).fold(
                BTreeSet::new(),
                |mut all, known| {
                    let of_call = profile.rows.get(known.syscall).and_then(|row| row.args.get(&known.arg));
                    let name = format!("{} argument {}", known.syscall, known.arg);
                    match of_call {
                        None => all.extend([format!("{name}: any")]),
                        Some(values) => all.extend(values.iter().map(|value| format!("{name}: {value:#x}"))),
                    }
                    all
                },
            )
        };
        let rules = |profile: &Self| {
            let landlock = &profile.landlock;
            let rules =
                landlock.rules.iter().map(|rule| format!("{} {}", rule.access.word(), rule.path.display()));
            rules.chain(landlock.widened.as_ref().map(|_| "execute all of the image".to_owned())).collect()
        };
        let only =
            |ours: BTreeSet<String>, theirs: &BTreeSet<String>| ours.difference(theirs).cloned().collect();
        Difference {
            more: only(calls(other), &calls(self)),
            less: only(calls(self), &calls(other)),
            values_more: only(values(other), &values(self)),
            values_less: only(values(self), &values(other)),
            members_more: only(members(other), &members(self)),
            members_less: only(members(self), &members(other)),
            rules_more: only(rules(other), &rules(self)),
            rules_less: only(rules(self), &rules(other)),
        }
    }
}
