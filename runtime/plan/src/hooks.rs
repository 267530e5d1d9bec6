//! `hooks`: only programs that the node's policy names; from inside the container only at the compatible level, where they
//! run as the container's own program does.

use std::{collections::BTreeSet, path::PathBuf};

use bulkhead_model::{Level, Refusal, Rule};
use oci_spec::runtime::{Hook, Hooks};

use crate::{
    limits::{COMMAND_BYTES_MAX, STRINGS_MAX, at_most, no_nul},
    refuse::{nothing_left, refuse, short},
};

/// Most hooks of one kind.
const HOOKS_MAX: usize = 16;

/// Most that a hook may ask for, in seconds.
const TIMEOUT_SECONDS_MAX: i64 = 600;

/// Judges the hooks; what is left may run as it is.
#[allow(deprecated)] // `prestart` is what the NVIDIA toolkit and others still send.
pub(crate) fn judge(
    hooks: Option<&Hooks>,
    allowed: &BTreeSet<PathBuf>,
    level: Level,
) -> Result<Option<Hooks>, Refusal> {
    let Some(hooks) = hooks else { return Ok(None) };
    let mut rest = hooks.clone();
    let kinds = [
        ("prestart", rest.prestart_mut().take()),
        ("createRuntime", rest.create_runtime_mut().take()),
        ("createContainer", rest.create_container_mut().take()),
        ("startContainer", rest.start_container_mut().take()),
        ("poststart", rest.poststart_mut().take()),
        ("poststop", rest.poststop_mut().take()),
    ];
    nothing_left("hooks", &rest, "{}")?;
    for (kind, list) in &kinds {
        let list = list.as_deref().unwrap_or_default();
        at_most(&format!("hooks.{kind}"), list.len(), HOOKS_MAX, "hooks")?;
        for hook in list {
            judge_one(kind, hook, allowed, level)?;
        }
    }
    let any = kinds.iter().any(|(_, list)| list.as_ref().is_some_and(|list| !list.is_empty()));
    Ok(any.then(|| hooks.clone()))
}

fn judge_one(kind: &str, hook: &Hook, allowed: &BTreeSet<PathBuf>, level: Level) -> Result<(), Refusal> {
    let field = format!("hooks.{kind}");
    let mut rest = hook.clone();
    std::mem::take(rest.path_mut());
    rest.set_args(None).set_env(None).set_timeout(None);
    nothing_left(&field, &rest, r#"{"path":""}"#)?;
    let path = hook.path().to_string_lossy();
    no_nul(&field, &path)?;
    if hook.timeout().is_some_and(|seconds| seconds <= 0) {
        let why = "a hook without time can only fail";
        return Err(refuse(
            Rule::Hooks,
            &format!("{field}.timeout"),
            "0 s or less",
            why,
            "give it a second or more",
        ));
    }
    if let Some(seconds) = hook.timeout().filter(|seconds| *seconds > TIMEOUT_SECONDS_MAX) {
        let why = format!("whoever waits for the container waits for it: {TIMEOUT_SECONDS_MAX} s at most");
        let fix = "have it do its work in the background, or give it less time";
        return Err(refuse(Rule::Hooks, &format!("{field}.timeout"), format!("{seconds} s"), &why, fix));
    }
    let of_image = kind == "startContainer";
    if of_image && level == Level::Hardened {
        return Err(refuse(
            Rule::Hooks,
            &field,
            short(&path),
            "it is a program of the image that no profile of the container's command knows",
            "have the command do it, or use another kind of hook",
        ));
    }
    let named = of_image || allowed.contains(hook.path());
    if !hook.path().is_absolute() || !named {
        return Err(refuse(
            Rule::Hooks,
            &field,
            short(&path),
            "a hook runs as root on the host, and policy does not name this one",
            "drop the hook, or add its absolute path to hooks of the image's [confine.*] in the node's policy",
        ));
    }
    let args = hook.args().as_deref().unwrap_or_default();
    let env = hook.env().as_deref().unwrap_or_default();
    at_most(&field, args.len() + env.len(), STRINGS_MAX, "arguments and environment entries")?;
    at_most(&field, args.iter().chain(env).map(String::len).sum(), COMMAND_BYTES_MAX, "bytes")?;
    args.iter().chain(env).try_for_each(|text| no_nul(&field, text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, deprecated)]

    use oci_spec::runtime::HookBuilder;

    use super::*;

    type Set = fn(&mut Hooks, Option<Vec<Hook>>) -> &mut Hooks;

    const KINDS: [(&str, Set); 6] = [
        ("prestart", Hooks::set_prestart),
        ("createRuntime", Hooks::set_create_runtime),
        ("createContainer", Hooks::set_create_container),
        ("startContainer", Hooks::set_start_container),
        ("poststart", Hooks::set_poststart),
        ("poststop", Hooks::set_poststop),
    ];

    fn run_at(level: Level, set: Set, path: &str, allowed: &[&str]) -> Result<Option<Hooks>, Refusal> {
        let mut hooks = Hooks::default();
        set(&mut hooks, Some(vec![HookBuilder::default().path(path).build().unwrap()]));
        judge(Some(&hooks), &allowed.iter().map(PathBuf::from).collect(), level)
    }

    fn run(set: Set, path: &str, allowed: &[&str]) -> Result<Option<Hooks>, Refusal> {
        run_at(Level::Hardened, set, path, allowed)
    }

    #[test]
    fn hook_that_policy_names_is_kept_and_no_other() {
        for (kind, set) in KINDS.into_iter().filter(|(kind, _)| *kind != "startContainer") {
            assert!(run(set, "/usr/bin/hook", &["/usr/bin/hook"]).unwrap().is_some(), "{kind}");
            for path in ["/usr/bin/other", "usr/bin/hook", "/usr/bin/../bin/hook"] {
                let refusal = run(set, path, &["/usr/bin/hook", "usr/bin/hook"]).unwrap_err();
                assert!(refusal.what.contains(kind), "{refusal}");
            }
        }
    }

    #[test]
    fn hook_inside_the_container_is_refused_even_if_named_but_at_the_compatible_level() {
        assert!(run(Hooks::set_start_container, "/usr/bin/hook", &["/usr/bin/hook"]).is_err());
        for (path, granted) in [("/bin/hook", true), ("bin/hook", false)] {
            let judged = run_at(Level::Compatible, Hooks::set_start_container, path, &[]);
            assert_eq!(judged.is_ok(), granted, "{path}");
        }
        // On the node policy names what runs, whatever the level.
        assert!(run_at(Level::Compatible, Hooks::set_poststop, "/bin/hook", &[]).is_err());
        assert!(run_at(Level::Compatible, Hooks::set_poststop, "/bin/hook", &["/bin/hook"]).is_ok());
    }

    #[test]
    fn time_of_a_hook_is_a_second_or_more() {
        for (timeout, granted) in
            [(0, false), (-1, false), (1, true), (600, true), (601, false), (i64::MAX, false)]
        {
            let hook = HookBuilder::default().path("/h").timeout(timeout).build().unwrap();
            let mut hooks = Hooks::default();
            hooks.set_poststart(Some(vec![hook]));
            let judged = judge(Some(&hooks), &["/h".into()].into(), Level::Hardened);
            assert_eq!(judged.is_ok(), granted, "{timeout}");
        }
    }

    #[test]
    fn section_without_hooks_is_left_out() {
        assert_eq!(judge(Some(&Hooks::default()), &BTreeSet::new(), Level::Hardened).unwrap(), None);
        assert_eq!(judge(None, &BTreeSet::new(), Level::Hardened).unwrap(), None);
    }
}
