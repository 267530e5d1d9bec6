#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use bulkhead_model::{FileRules, GeneratedFiles};

use super::*;

fn profile(widened: Option<&str>) -> Arc<GeneratedProfile> {
    let calls = BTreeSet::from(["read".to_owned(), "write".to_owned()]);
    Arc::new(GeneratedProfile::new(calls, widened.map(str::to_owned), whole_image()))
}

fn whole_image() -> GeneratedFiles {
    GeneratedFiles::new(FileRules::default(), Some("not told".to_owned()))
}

fn pin(profile: &GeneratedProfile) -> ProfileRule {
    ProfileRule::Pinned(BTreeSet::from([profile.hash()]))
}

#[test]
fn pin_of_a_narrow_profile_takes_it_and_no_other() {
    let profile = profile(None);
    let chosen = chosen(&pin(&profile), Some(&profile), &mut Changes::default()).unwrap();
    assert_eq!(chosen, Some(&profile));

    let other = Arc::new(GeneratedProfile::new(BTreeSet::from(["read".to_owned()]), None, whole_image()));
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

    let calls = bulkhead_init::CALLS.iter().map(|call| (*call).to_owned()).collect();
    let wide = GeneratedProfile::new(calls, None, whole_image());
    keeps_pin(&pin(&wide), Some(&wide), InitRule::Small).unwrap();
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
