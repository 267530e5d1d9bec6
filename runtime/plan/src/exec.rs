//! Exec: one more process in a container, confined as its init is.

use std::sync::Arc;

use bulkhead_model::{
    ConfineSpec, Confinement, ExecRequest, GeneratedProfile, HardenedSpec, InitRule, MemfdRule, Refusal,
    RootRule,
};
use oci_spec::runtime::Process;

use crate::{
    Plan,
    change::{Change, Changes},
    files, landlock, process,
    seccomp::{self, Filter},
    user_namespace,
};

/// How one more process runs. Made by [`plan_exec`](crate::plan_exec) alone.
#[derive(Debug)]
pub struct ExecPlan {
    pub(crate) process: Process,
    pub(crate) confine: ConfineSpec,
    pub(crate) changes: Vec<Change>,
}

impl ExecPlan {
    /// The process, hardened.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it does to itself before execve.
    #[must_use]
    pub fn confine(&self) -> &ConfineSpec {
        &self.confine
    }

    /// What differs from the request, each with its reason.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

/// `confinement` may be of a newer policy than `plan`: the stricter of the two holds.
pub(crate) fn plan(
    request: &ExecRequest,
    plan: &Plan,
    created: &HardenedSpec,
    confinement: &Confinement,
    profile: Option<&Arc<GeneratedProfile>>,
) -> Result<ExecPlan, Refusal> {
    let mut changes = Changes::default();
    let host = &plan.host;
    let mut hardened = process::harden(&request.process, confinement, host, &mut changes)?;
    user_namespace::judge_ids(created.user_namespace.as_ref(), &hardened.credentials)?;
    // What an exec leaves out it has from init, as under runc.
    let init = plan.spec().process().as_ref();
    if hardened.process.apparmor_profile().is_none() {
        hardened.process.set_apparmor_profile(init.and_then(|init| init.apparmor_profile().clone()));
    }
    let filter = filter(plan, created, confinement, profile, &mut changes)?;
    let root = if created.root_read_only { RootRule::ReadOnly } else { RootRule::Writable };
    let files = files::chosen(&confinement.landlock.files, root, profile, &mut changes)?;
    let landlock = landlock::narrow(
        created.landlock.clone(),
        &confinement.landlock,
        host.landlock_abi,
        files,
        &host.exposed,
    )?;
    let confine = ConfineSpec::Hardened(HardenedSpec {
        credentials: hardened.credentials,
        root_read_only: created.root_read_only,
        landlock,
        seccomp: filter.programs,
        denied_calls: filter.denied_calls,
        selinux_label: hardened.selinux_label.or_else(|| created.selinux_label.clone()),
        user_namespace: created.user_namespace.clone(),
    });
    Ok(ExecPlan { process: hardened.process, confine, changes: changes.into_vec() })
}

/// That of init where nothing has changed since. A newer policy's profile takes the place of init's, because it knows the
/// commands that may be exec'd now; where there is none any more, init's stays.
fn filter(
    plan: &Plan,
    created: &HardenedSpec,
    confinement: &Confinement,
    profile: Option<&Arc<GeneratedProfile>>,
    changes: &mut Changes,
) -> Result<Filter, Refusal> {
    let now = seccomp::chosen(&confinement.seccomp, profile, changes)?.map(Arc::as_ref);
    let before = plan.profile.as_deref();
    let hash = |profile: Option<&GeneratedProfile>| profile.map(GeneratedProfile::hash);
    // An exec has no small init, and none of its calls.
    let added = plan.init == InitRule::Small && before.is_some();
    if !added && plan.memfd == confinement.memfd && (now.is_none() || hash(now) == hash(before)) {
        return Ok(Filter { programs: created.seccomp.clone(), denied_calls: created.denied_calls });
    }
    let memfd = match (plan.memfd, confinement.memfd) {
        (MemfdRule::Allowed, MemfdRule::Allowed) => MemfdRule::Allowed,
        (MemfdRule::Denied, _) | (_, MemfdRule::Denied) => MemfdRule::Denied,
    };
    let section = plan.spec().linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    seccomp::filter_of_exec(memfd, now.or(before), section, &plan.exec_filter, changes)
}
