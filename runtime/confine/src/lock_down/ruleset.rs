//! The Landlock ruleset of a helper: everything that the kernel's ABI has is denied, but for reading what it was handed.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::{ConfineError, landlock::abi};

/// A ruleset without any rule: no file, no TCP, no signal or abstract socket out of the domain.
pub(super) fn nothing() -> Result<RulesetCreated, ConfineError> {
    read_below(&[])
}

/// The same, but for reading below these directories.
pub(super) fn read_below(dirs: &[BorrowedFd<'_>]) -> Result<RulesetCreated, ConfineError> {
    let abi = abi(1)?;
    let failed =
        |source: RulesetError| ConfineError::Landlock { step: "denying all", source: Box::new(source) };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(failed)?;
    if abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(failed)?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi)).map_err(failed)?;
    }
    let mut created = ruleset.create().map_err(failed)?;
    for dir in dirs {
        let rule = PathBeneath::new(*dir, AccessFs::ReadFile | AccessFs::ReadDir)
            .set_compatibility(CompatLevel::HardRequirement);
        (&mut created).add_rule(rule).map_err(failed)?;
    }
    if abi >= ABI::V7 {
        created = created.log_same_exec(false).map_err(failed)?;
    }
    Ok(created)
}
