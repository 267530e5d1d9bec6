//! `linux.seccomp`: the baseline holds, or the image's profile on top of it; a request's own section makes it stricter.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use bulkhead_model::{
    CallArguments, DeniedCalls, Digest, GeneratedProfile, InitRule, MemfdRule, ProfileRule, Refusal, Rule,
};
use oci_spec::runtime::LinuxSeccomp;

use crate::change::{Changes, Section};

/// What is loaded.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) programs: Vec<Vec<u64>>,
    pub(crate) denied_calls: DeniedCalls,
}

/// The profile that holds on top of the baseline, if policy wants one. A launch is refused rather than wider than that.
pub(crate) fn chosen<'p>(
    rule: &ProfileRule,
    profile: Option<&'p Arc<GeneratedProfile>>,
    changes: &mut Changes,
) -> Result<Option<&'p Arc<GeneratedProfile>>, Refusal> {
    match (rule, profile) {
        (ProfileRule::Baseline, _) => Ok(None),
        (ProfileRule::WhenReady, None) => {
            changes.record(Section::Seccomp, "baseline", "the image's own profile is still being worked out");
            Ok(None)
        }
        (ProfileRule::WhenReady | ProfileRule::Generated, Some(profile)) if profile.widened().is_none() => {
            Ok(Some(profile))
        }
        (ProfileRule::WhenReady, Some(_)) => {
            changes.record(Section::Seccomp, "baseline", "no narrower profile can be told from the image");
            Ok(None)
        }
        (ProfileRule::Generated, Some(profile)) => Err(too_wide(profile)),
        // Every image's widened profile has the same hash: a tenant's pin of it would undo the node's `generated`.
        (ProfileRule::Pinned(_), Some(profile)) if profile.widened().is_some() => Err(too_wide(profile)),
        (ProfileRule::Pinned(pins), Some(profile)) if pins.contains(&profile.hash()) => Ok(Some(profile)),
        (ProfileRule::Pinned(pins), Some(profile)) => Err(Refusal::new(
            Rule::Seccomp,
            format!("the profile of this command is {}", profile.hash()),
            match pins.is_empty() {
                true => "the node's and the tenant's file pin different profiles".to_owned(),
                false => {
                    let pins: Vec<String> = pins.iter().map(Digest::to_string).collect();
                    format!("policy pins {}", pins.join(", "))
                }
            },
            "look at what has changed (bulkhead profile diff), then pin this hash in seccomp, or correct the image",
        )),
        (ProfileRule::Generated | ProfileRule::Pinned(_), None) => Err(Refusal::new(
            Rule::Seccomp,
            "policy wants a generated profile, and there is none of this command",
            "it is worked out from the image's layers, and has not been",
            "try again in some seconds: the work goes on",
        )),
    }
}

/// Refuses the small init under a pinned profile that lacks its calls: both run under one filter, and a pin is of exactly
/// what it names. A tenant's file can ask for the init, and the node's have the pin.
pub(crate) fn keeps_pin(
    rule: &ProfileRule,
    profile: Option<&GeneratedProfile>,
    init: InitRule,
) -> Result<(), Refusal> {
    let (ProfileRule::Pinned(_), Some(profile), InitRule::Small) = (rule, profile, init) else {
        return Ok(());
    };
    let calls = bulkhead_init::CALLS.iter().copied();
    let has = |call: &str| profile.calls().contains(call) && !profile.arguments().contains_key(call);
    let lacking: Vec<&str> = calls.filter(|call| !has(call)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        Rule::Seccomp,
        "policy pins a profile, and wants a small init that calls more than it allows",
        format!("init = true would add {} to {}", lacking.join(", "), profile.hash()),
        "init = false, or seccomp = \"generated\", under which the small init's calls are added",
    ))
}

fn too_wide(profile: &GeneratedProfile) -> Refusal {
    Refusal::new(
        Rule::Seccomp,
        "policy wants a generated profile, and none narrower than the baseline can be told from the image",
        profile.widened().unwrap_or_default(),
        "seccomp = \"generated-when-ready\" takes the baseline then; \"baseline\" always does",
    )
}

/// The programs to load.
pub(crate) fn filter(
    memfd: MemfdRule,
    profile: Option<&GeneratedProfile>,
    init: InitRule,
    section: Option<&LinuxSeccomp>,
    changes: &mut Changes,
) -> Result<Filter, Refusal> {
    record(profile, section, changes);
    compile(memfd, profile, init, section)
}

/// The same for an exec, which has no small init: made once for all that are alike, since probes are many.
pub(crate) fn filter_of_exec(
    memfd: MemfdRule,
    profile: Option<&GeneratedProfile>,
    section: Option<&LinuxSeccomp>,
    last: &LastFilter,
    changes: &mut Changes,
) -> Result<Filter, Refusal> {
    record(profile, section, changes);
    let key = (memfd, profile.map(GeneratedProfile::hash));
    let mut last = last.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, filter)) = last.as_ref()
        && *of == key
    {
        return Ok(filter.clone());
    }
    let filter = compile(memfd, profile, InitRule::Program, section)?;
    *last = Some((key, filter.clone()));
    Ok(filter)
}

/// The filter of a container's last exec that did not run under that of its init, and what it was made of beside the
/// container's own section.
#[derive(Debug, Default)]
pub(crate) struct LastFilter(Mutex<Option<(FilterOf, Filter)>>);

type FilterOf = (MemfdRule, Option<Digest>);

fn record(profile: Option<&GeneratedProfile>, section: Option<&LinuxSeccomp>, changes: &mut Changes) {
    let (what, reason) = match (profile, section) {
        (None, None) => ("baseline", "an unconfined process does not exist here"),
        (None, Some(_)) => {
            ("baseline and the request's own profile", "the stricter of the two holds for every call")
        }
        (Some(_), None) => {
            ("baseline and the image's profile", "what the image's files do not call is denied")
        }
        (Some(_), Some(_)) => (
            "baseline, the image's profile and the request's own",
            "the strictest of the three holds for every call",
        ),
    };
    changes.record(Section::Seccomp, what, reason);
}

fn compile(
    memfd: MemfdRule,
    profile: Option<&GeneratedProfile>,
    init: InitRule,
    section: Option<&LinuxSeccomp>,
) -> Result<Filter, Refusal> {
    let made = match profile {
        None => bulkhead_profiles::program(memfd, section).map(|program| vec![program]),
        Some(profile) => {
            let (calls, arguments) = with_init(profile, init);
            bulkhead_profiles::generated_programs(memfd, &calls, &arguments, section)
        }
    };
    let programs = made.map_err(|error| {
        Refusal::new(
            Rule::Seccomp,
            "linux.seccomp cannot be enforced exactly",
            error.to_string(),
            "correct the profile, or leave it out: the baseline holds (pod: seccompProfile RuntimeDefault)",
        )
    })?;
    let denied_calls = match profile {
        None => DeniedCalls::Unseen,
        Some(_) => DeniedCalls::Told,
    };
    Ok(Filter { programs, denied_calls })
}

/// The small init lives under the container's filter: of what a profile lacks it needs some calls more, and of those any
/// arguments.
fn with_init(
    profile: &GeneratedProfile,
    init: InitRule,
) -> (Cow<'_, BTreeSet<String>>, Cow<'_, CallArguments>) {
    match init {
        InitRule::Program => (Cow::Borrowed(profile.calls()), Cow::Borrowed(profile.arguments())),
        InitRule::Small => {
            let more = bulkhead_init::CALLS.iter().map(|call| (*call).to_owned());
            let mut arguments = profile.arguments().clone();
            arguments.retain(|call, _| !bulkhead_init::CALLS.contains(&call.as_str()));
            (Cow::Owned(profile.calls().iter().cloned().chain(more).collect()), Cow::Owned(arguments))
        }
    }
}

#[cfg(test)]
mod tests;
