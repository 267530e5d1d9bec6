//! `process.user`: who the process runs as.
//!
//! Invariant: what leaves here is neither uid 0 nor gid 0 nor in group 0, and its additional groups are
//! never empty: libcontainer calls setgroups(2) only for a list that is not, and would keep its own groups.

use bulkhead_model::{Credentials, Refusal, Rule, UserRule};
use oci_spec::runtime::User;

use crate::{
    change::{Changes, Section},
    limits::{GROUPS_MAX, at_most},
    refuse::{nothing_left, refuse, refuse_unsupported},
};

/// What the umask is at least: nobody but the owner may write.
const UMASK: u32 = 0o022;

/// The id that the kernel takes for "none".
///
/// Source: setresuid(2): -1 leaves an id unchanged.
const NO_ID: u32 = u32::MAX;

/// Groups that Debian's and Alpine's root is in, which containerd passes on for an image without USER.
///
/// Source: /etc/group of both: root, bin, daemon, sys, adm, tty, disk, lp, mail, wheel, floppy, dialout, tape, video.
const ROOT_GROUPS: [u32; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 20, 26, 27];

/// Judges `user` and returns it as it may run, with its ids.
pub(crate) fn harden(
    user: &User,
    rule: UserRule,
    changes: &mut Changes,
) -> Result<(User, Credentials), Refusal> {
    let mut rest = user.clone();
    let (uid, gid) = (std::mem::take(rest.uid_mut()), std::mem::take(rest.gid_mut()));
    let umask = rest.umask_mut().take();
    let groups = rest.additional_gids_mut().take().unwrap_or_default();
    let username = rest.username_mut().take();
    nothing_left("process.user", &rest, "{}")?;

    if username.is_some_and(|name| !name.is_empty()) {
        return Err(refuse_unsupported("process.user.username (Windows)"));
    }
    at_most("process.user.additionalGids", groups.len(), GROUPS_MAX, "groups")?;
    if uid == NO_ID || gid == NO_ID || groups.contains(&NO_ID) {
        return Err(refuse(
            Rule::User,
            "process.user",
            "an id of 4294967295",
            "the kernel takes it for \"no change\"",
            "use another id",
        ));
    }
    let credentials = match rule {
        UserRule::NonRoot => non_root(uid, gid, groups, changes)?,
        UserRule::Force(forced) => force(forced, uid, gid, groups, changes)?,
    };
    let mut hardened = user.clone();
    hardened
        .set_uid(credentials.uid)
        .set_gid(credentials.gid)
        .set_additional_gids(Some(credentials.groups.clone()))
        .set_umask(Some(judge_umask(umask, changes)?))
        .set_username(None);
    Ok((hardened, credentials))
}

fn non_root(uid: u32, gid: u32, groups: Vec<u32>, changes: &mut Changes) -> Result<Credentials, Refusal> {
    const WHY: &str = "policy says user = \"non-root\"";
    if uid == 0 {
        let fix = "give the image a numeric USER, or set runAsUser (ctr: --user 65532:65532), \
                   or policy: user = { force = 65532 }";
        return Err(refuse(Rule::User, "process.user.uid", "uid 0 (root)", WHY, fix));
    }
    if gid == 0 {
        let fix = "set runAsGroup (ctr: --user 65532:65532), or USER uid:gid in the image, \
                   or policy: user = { force = 65532 }";
        return Err(refuse(Rule::User, "process.user.gid", "gid 0 (root's group)", WHY, fix));
    }
    if groups.contains(&0) {
        let fix = "set fsGroup and supplementalGroups to other groups, or take the user out of group root in the \
                   image's /etc/group, or policy: user = { force = 65532 }";
        let found = "group 0 (root's group)";
        return Err(refuse(Rule::User, "process.user.additionalGids", found, WHY, fix));
    }
    Ok(Credentials { uid, gid, groups: settle(gid, groups, changes) })
}

fn force(
    forced: u32,
    uid: u32,
    gid: u32,
    mut groups: Vec<u32>,
    changes: &mut Changes,
) -> Result<Credentials, Refusal> {
    const REASON: &str = "policy forces a user that is not root";
    if forced == 0 || forced == NO_ID {
        // Policy's parser says no to it; this crate does not rely on that.
        return Err(refuse(
            Rule::User,
            "policy",
            format!("user = {{ force = {forced} }}"),
            "that is root or no user",
            "force another uid, such as 65532",
        ));
    }
    let was_root = uid == 0;
    let new_uid = if was_root { forced } else { uid };
    let new_gid = if gid == 0 { forced } else { gid };
    if was_root {
        changes.record(Section::User, format!("uid 0 becomes {forced}"), REASON);
    }
    if gid == 0 {
        changes.record(Section::User, format!("gid 0 becomes {forced}"), REASON);
    }
    let before = groups.len();
    // Root's groups come with root; whoever is not root keeps every group but 0.
    groups.retain(|group| *group != 0 && !(was_root && ROOT_GROUPS.contains(group)));
    if groups.len() < before {
        let dropped = before - groups.len();
        changes.record(Section::User, format!("{dropped} of root's additional groups dropped"), REASON);
    }
    Ok(Credentials { uid: new_uid, gid: new_gid, groups: settle(new_gid, groups, changes) })
}

/// Sorts the groups, each once, and puts the primary one in where there is none.
fn settle(gid: u32, mut groups: Vec<u32>, changes: &mut Changes) -> Vec<u32> {
    groups.sort_unstable();
    groups.dedup();
    if groups.is_empty() {
        let reason = "an empty list would keep the runtime's own groups";
        changes.record(Section::User, format!("additional groups: [{gid}]"), reason);
        groups.push(gid);
    }
    groups
}

/// A umask as open(2) has it.
pub(crate) fn within_nine_bits(umask: u32) -> Result<(), Refusal> {
    if umask <= 0o777 {
        return Ok(());
    }
    let found = format!("{umask:#o}");
    Err(refuse(Rule::Spec, "process.user.umask", found, "it has more than nine bits", "use 0022"))
}

fn judge_umask(umask: Option<u32>, changes: &mut Changes) -> Result<u32, Refusal> {
    let asked = umask.unwrap_or(UMASK);
    within_nine_bits(asked)?;
    if umask != Some(asked | UMASK) {
        let reason = "files that others can write are not made by default";
        changes.record(Section::User, format!("umask {:#05o}", asked | UMASK), reason);
    }
    Ok(asked | UMASK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use oci_spec::runtime::UserBuilder;

    use super::*;

    fn judge(uid: u32, gid: u32, groups: &[u32], rule: UserRule) -> Result<Credentials, Refusal> {
        let user = UserBuilder::default().uid(uid).gid(gid).additional_gids(groups).build().unwrap();
        harden(&user, rule, &mut Changes::default()).map(|(_, credentials)| credentials)
    }

    #[test]
    fn user_that_is_not_root_stays_as_it_is() {
        for rule in [UserRule::NonRoot, UserRule::Force(65532)] {
            let credentials = judge(1000, 100, &[4, 2000, 20], rule).unwrap();
            assert_eq!(credentials, Credentials { uid: 1000, gid: 100, groups: vec![4, 20, 2000] });
        }
    }

    #[test]
    fn root_group_root_and_additional_group_root_are_refused_under_non_root() {
        for (uid, gid, groups, field) in [
            (0, 0, vec![], "uid"),
            (0, 1000, vec![], "uid"),
            (1000, 0, vec![], "gid"),
            (1000, 1000, vec![1000, 0], "additionalGids"),
        ] {
            let refusal = judge(uid, gid, &groups, UserRule::NonRoot).unwrap_err();
            assert_eq!(refusal.rule, Rule::User);
            assert!(refusal.what.contains(field), "{refusal}");
            assert!(refusal.fix.contains("force"), "{refusal}");
        }
    }

    #[test]
    fn root_and_its_groups_are_replaced_under_force() {
        let credentials = judge(0, 0, &[0, 1, 2, 3, 4, 6, 10, 3000], UserRule::Force(65532)).unwrap();
        assert_eq!(credentials, Credentials { uid: 65532, gid: 65532, groups: vec![3000] });
    }

    #[test]
    fn group_root_of_another_user_is_replaced_under_force_and_its_other_groups_stay() {
        let credentials = judge(1000, 0, &[0, 4], UserRule::Force(65532)).unwrap();
        assert_eq!(credentials, Credentials { uid: 1000, gid: 65532, groups: vec![4] });
    }

    #[test]
    fn forcing_root_is_refused_whatever_policy_let_through() {
        assert!(judge(0, 0, &[], UserRule::Force(0)).is_err());
        assert!(judge(0, 0, &[], UserRule::Force(1)).is_ok());
    }

    #[test]
    fn groups_are_never_empty_so_that_setgroups_is_called() {
        assert_eq!(judge(1000, 1000, &[], UserRule::NonRoot).unwrap().groups, [1000]);
        assert_eq!(judge(0, 0, &[0], UserRule::Force(7)).unwrap().groups, [7]);
    }

    #[test]
    fn umask_is_kept_if_stricter_and_tightened_if_not() {
        for (asked, settled) in [(None, 0o022), (Some(0), 0o022), (Some(0o002), 0o022), (Some(0o077), 0o077)]
        {
            assert_eq!(judge_umask(asked, &mut Changes::default()), Ok(settled));
        }
        assert!(judge_umask(Some(0o1022), &mut Changes::default()).is_err());
    }

    #[test]
    fn id_that_means_no_change_is_refused() {
        assert!(judge(u32::MAX, 1, &[], UserRule::NonRoot).is_err());
        assert!(judge(1, u32::MAX, &[], UserRule::NonRoot).is_err());
        assert!(judge(1, 1, &[u32::MAX], UserRule::NonRoot).is_err());
        assert!(judge(u32::MAX - 1, 1, &[], UserRule::NonRoot).is_ok());
    }
}
