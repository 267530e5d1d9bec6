//! `landlock.files`: all of the image may be executed and read, or what its command needs.

use std::sync::Arc;

use bulkhead_model::{Digest, GeneratedFiles, GeneratedProfile, ProfileRule, Refusal, RootRule, Rule};

use crate::change::{Changes, Section};

/// What of the image's files may be executed and read, if policy wants that told one by one. A launch is refused rather
/// than wider than that.
pub(crate) fn chosen<'p>(
    rule: &ProfileRule,
    root: RootRule,
    profile: Option<&'p Arc<GeneratedProfile>>,
    changes: &mut Changes,
) -> Result<Option<&'p GeneratedFiles>, Refusal> {
    let must = match rule {
        ProfileRule::Baseline => return Ok(None),
        ProfileRule::WhenReady => false,
        ProfileRule::Generated | ProfileRule::Pinned(_) => true,
    };
    let files = profile.map(|profile| profile.files());
    let refusal = match (root, files) {
        // What may change the image's files could put a program in another's place.
        (RootRule::Writable, _) => Refusal::new(
            Rule::Landlock,
            "policy wants the image's files told one by one, and the root file system is writable",
            "a program of the image could be replaced there by any other",
            "root = \"read-only\" in the policy, or readOnlyRootFilesystem: true of the pod; or landlock.files = \"baseline\"",
        ),
        (RootRule::ReadOnly, None) => Refusal::new(
            Rule::Landlock,
            "policy wants the image's files told one by one, and those of this command are not known",
            "they are worked out from the image's layers, and have not been",
            "try again in some seconds: the work goes on",
        ),
        (RootRule::ReadOnly, Some(files)) => match files.widened() {
            Some(why) => Refusal::new(
                Rule::Landlock,
                "policy wants the image's files told one by one, and it cannot be told which of them this command needs",
                why,
                "landlock.files = \"generated-when-ready\" takes all of the image then; \"baseline\" always does",
            ),
            None => match rule {
                ProfileRule::Pinned(pins) if !pins.contains(&files.hash()) => pinned_others(pins, files),
                ProfileRule::Baseline
                | ProfileRule::WhenReady
                | ProfileRule::Generated
                | ProfileRule::Pinned(_) => {
                    let what = format!(
                        "{} rules for the image's files",
                        files.rules().execute.len() + files.rules().read.len()
                    );
                    changes.record(
                        Section::Landlock,
                        what,
                        "what the command does not need can be neither executed nor read",
                    );
                    return Ok(Some(files));
                }
            },
        },
    };
    if must {
        return Err(refusal);
    }
    changes.record(
        Section::Landlock,
        "all of the image may be executed and read",
        "it cannot be told yet, or not at all, what is needed",
    );
    Ok(None)
}

fn pinned_others(pins: &std::collections::BTreeSet<Digest>, files: &GeneratedFiles) -> Refusal {
    let why = match pins.is_empty() {
        true => "the node's and the tenant's file pin different rules".to_owned(),
        false => {
            let pins: Vec<String> = pins.iter().map(Digest::to_string).collect();
            format!("policy pins {}", pins.join(", "))
        }
    };
    Refusal::new(
        Rule::Landlock,
        format!("the rules for the image's files of this command are {}", files.hash()),
        why,
        "look at what has changed (bulkhead profile diff), then pin this hash in landlock.files, or correct the image",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use bulkhead_model::FileRules;

    use super::*;

    fn profile(path: &str, widened: Option<&str>) -> Arc<GeneratedProfile> {
        let rules = FileRules { execute: BTreeSet::from([path.into()]), read: BTreeSet::new() };
        let files = GeneratedFiles::new(rules, widened.map(str::to_owned));
        Arc::new(GeneratedProfile::new(BTreeSet::new(), Default::default(), None, files))
    }

    fn run(
        rule: &ProfileRule,
        root: RootRule,
        profile: Option<&Arc<GeneratedProfile>>,
    ) -> Result<Option<GeneratedFiles>, Refusal> {
        chosen(rule, root, profile, &mut Changes::default()).map(|files| files.cloned())
    }

    const READ_ONLY: RootRule = RootRule::ReadOnly;

    #[test]
    fn what_is_not_known_or_cannot_hold_is_refused_and_taken_whole_where_policy_says_so() {
        let (known, widened) = (profile("/a", None), profile("/a", Some("a lie")));
        let pin = ProfileRule::Pinned([known.files().hash(), widened.files().hash()].into());
        for (root, profile) in
            [(READ_ONLY, None), (READ_ONLY, Some(&widened)), (RootRule::Writable, Some(&known))]
        {
            for rule in [&ProfileRule::Generated, &pin] {
                assert_eq!(run(rule, root, profile).unwrap_err().rule, Rule::Landlock);
            }
            assert_eq!(run(&ProfileRule::WhenReady, root, profile), Ok(None));
            assert_eq!(run(&ProfileRule::Baseline, root, profile), Ok(None));
        }
        for rule in [&ProfileRule::Generated, &ProfileRule::WhenReady, &pin] {
            assert_eq!(run(rule, READ_ONLY, Some(&known)), Ok(Some(known.files().clone())));
        }
    }

    #[test]
    fn pin_takes_its_own_rules_and_no_others() {
        let (known, other) = (profile("/a", None), profile("/b", None));
        let pin = |pins: &[Digest]| ProfileRule::Pinned(pins.iter().copied().collect());
        assert!(run(&pin(&[known.files().hash()]), READ_ONLY, Some(&known)).unwrap().is_some());
        let refusal = run(&pin(&[known.files().hash()]), READ_ONLY, Some(&other)).unwrap_err();
        assert!(refusal.what.contains(&other.files().hash().to_string()), "{refusal}");
        assert!(run(&pin(&[]), READ_ONLY, Some(&known)).is_err());
    }
}
