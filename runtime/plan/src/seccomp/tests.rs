#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_model::{FileRules, GeneratedFiles};

use super::*;

fn profile(widened: Option<&str>) -> Arc<GeneratedProfile> {
    let calls = BTreeSet::from(["read".to_owned(), "write".to_owned()]);
    Arc::new(GeneratedProfile::new(calls, CallArguments::new(), widened.map(str::to_owned), whole_image()))
}

fn whole_image() -> GeneratedFiles {
    GeneratedFiles::new(FileRules::default(), Some("not told".to_owned()))
}

fn of(call: &str, argument: u8, value: u32) -> CallArguments {
    let values = BTreeMap::from([(argument, BTreeSet::from([value]))]);
    CallArguments::from([(call.to_owned(), values)])
}

fn pin(profile: &GeneratedProfile) -> ProfileRule {
    ProfileRule::Pinned(BTreeSet::from([profile.hash()]))
}

#[test]
fn pin_of_a_narrow_profile_takes_it_and_no_other() {
    let profile = profile(None);
    let chosen = chosen(&pin(&profile), Some(&profile), &mut Changes::default()).unwrap();
    assert_eq!(chosen, Some(&profile));

    let read = BTreeSet::from(["read".to_owned()]);
    let other = Arc::new(GeneratedProfile::new(read, CallArguments::new(), None, whole_image()));
    let refusal = super::chosen(&pin(&profile), Some(&other), &mut Changes::default()).unwrap_err();
    assert!(refusal.to_string().contains(&other.hash().to_string()), "{refusal}");
}

#[test]
fn pin_of_a_profile_widened_to_the_baseline_takes_no_more_than_generated_does() {
    let widened = profile(Some("the generator failed"));
    for rule in [pin(&widened), ProfileRule::Generated] {
        let refusal = chosen(&rule, Some(&widened), &mut Changes::default()).unwrap_err();
        assert!(refusal.to_string().contains("none narrower than the baseline"), "{rule:?}: {refusal}");
    }
    let when_ready = chosen(&ProfileRule::WhenReady, Some(&widened), &mut Changes::default());
    assert_eq!(when_ready.unwrap(), None, "the baseline holds, without the profile");
}

#[test]
fn small_init_adds_no_call_to_a_pinned_profile_and_runs_under_one_that_has_its_calls() {
    let narrow = profile(None);
    let refusal = keeps_pin(&pin(&narrow), Some(&narrow), InitRule::Small).unwrap_err();
    assert!(refusal.to_string().contains("init = true would add clone, execve"), "{refusal}");
    assert!(!refusal.to_string().contains("wait4, write"), "it has write: {refusal}");
    keeps_pin(&pin(&narrow), Some(&narrow), InitRule::Program).unwrap();
    keeps_pin(&ProfileRule::Generated, Some(&narrow), InitRule::Small).unwrap();

    let calls: BTreeSet<String> = bulkhead_init::CALLS.iter().map(|call| (*call).to_owned()).collect();
    let wide = GeneratedProfile::new(calls.clone(), CallArguments::new(), None, whole_image());
    keeps_pin(&pin(&wide), Some(&wide), InitRule::Small).unwrap();
    // Of prctl it has one option.
    let narrowed = GeneratedProfile::new(calls, of("prctl", 0, 15), None, whole_image());
    let refusal = keeps_pin(&pin(&narrowed), Some(&narrowed), InitRule::Small).unwrap_err();
    assert!(refusal.to_string().contains("init = true would add prctl to"), "{refusal}");
}

#[test]
fn small_init_has_any_argument_of_its_own_calls_and_no_exec_has() {
    let calls = ["prctl", "read", "socket"].map(str::to_owned).into();
    let mut arguments = of("prctl", 0, 15);
    arguments.extend(of("socket", 0, 1));
    let narrow = GeneratedProfile::new(calls, arguments.clone(), None, whole_image());
    assert_eq!(*with_init(&narrow, InitRule::Program).1, arguments);
    assert_eq!(*with_init(&narrow, InitRule::Small).1, of("socket", 0, 1));
}

#[test]
fn pin_of_the_names_alone_does_not_take_a_profile_with_values_of_arguments() {
    let names = profile(None);
    let calls = names.calls().iter().cloned().chain(["socket".to_owned()]).collect::<BTreeSet<_>>();
    let old = GeneratedProfile::new(calls.clone(), CallArguments::new(), None, whole_image());
    let new = Arc::new(GeneratedProfile::new(calls, of("socket", 0, 1), None, whole_image()));
    let refusal = chosen(&pin(&old), Some(&new), &mut Changes::default()).unwrap_err();
    assert!(refusal.to_string().contains(&new.hash().to_string()), "{refusal}");
    assert_eq!(chosen(&pin(&new), Some(&new), &mut Changes::default()).unwrap(), Some(&new));
}

#[test]
fn filter_of_an_exec_is_made_once_and_anew_where_policy_has_changed() {
    let (narrow, last) = (profile(None), LastFilter::default());
    let asked = |memfd, profile: Option<&GeneratedProfile>| {
        filter_of_exec(memfd, profile, None, &last, &mut Changes::default()).unwrap().programs
    };
    let made = |memfd, profile| compile(memfd, profile, InitRule::Program, None).unwrap().programs;
    let denied = MemfdRule::Denied;
    assert_eq!(asked(denied, Some(&narrow)), made(denied, Some(&narrow)));

    // What is kept is what is answered.
    let marked = Filter { programs: vec![vec![7]], denied_calls: DeniedCalls::Told };
    *last.0.lock().unwrap() = Some(((denied, Some(narrow.hash())), marked));
    assert_eq!(asked(denied, Some(&narrow)), [[7]]);
    assert_eq!(asked(denied, None), made(denied, None));
    assert_eq!(asked(MemfdRule::Allowed, Some(&narrow)), made(MemfdRule::Allowed, Some(&narrow)));
    assert_eq!(asked(denied, Some(&narrow)), made(denied, Some(&narrow)));
}
