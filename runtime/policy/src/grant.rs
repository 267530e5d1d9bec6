//! What policy granted: made here alone, read by everyone after.

use std::path::{Path, PathBuf};

use bulkhead_model::{Confinement, Digest, ExecPattern, ImageVolume, Interaction, Refusal, Rule, Signer};

use crate::{Mode, exec};

/// An image may run, confined so. Cannot be made but by [`crate::Policy::admit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant(Granted);

/// A command may run in a container, confined so. Cannot be made but by [`Grant::admit_exec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecGrant(Granted);

/// What a grant would be: for people. Nothing runs by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview(Granted);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) confinement: Confinement,
    pub(crate) scope: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) policy_hash: Digest,
    pub(crate) would_refuse: Option<Refusal>,
    pub(crate) image_volumes: Vec<ImageVolume>,
    pub(crate) accepted: Vec<Accepted>,
    /// Where: `container c1`.
    pub(crate) place: String,
    pub(crate) exec_lists: Vec<ExecList>,
}

/// A rule that was passed, and by whose signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Name of the rule.
    pub rule: String,
    /// Whose signature passed it.
    pub signer: Signer,
}

/// One `exec` list that went into the confinement: to say where a command is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExecList {
    file: PathBuf,
    section: String,
    patterns: Vec<ExecPattern>,
}

impl ExecList {
    pub(crate) fn new(file: &Path, section: &str, patterns: &[ExecPattern]) -> Self {
        Self { file: file.to_owned(), section: section.to_owned(), patterns: patterns.to_vec() }
    }
}

/// The getters that every kind of grant has.
macro_rules! getters {
    ($kind:ident) => {
        impl $kind {
            /// How the process is confined.
            #[must_use]
            pub fn confinement(&self) -> &Confinement {
                &self.0.confinement
            }

            /// The scope of the node's file that let the image in; none where only audit did.
            #[must_use]
            pub fn scope(&self) -> Option<&str> {
                self.0.scope.as_deref()
            }

            /// The rules that were passed, and by whom.
            #[must_use]
            pub fn accepted(&self) -> &[Accepted] {
                &self.0.accepted
            }

            /// Whether refusals refuse.
            #[must_use]
            pub fn mode(&self) -> Mode {
                self.0.mode
            }

            /// Hash of the policy that granted.
            #[must_use]
            pub fn policy_hash(&self) -> Digest {
                self.0.policy_hash
            }

            /// The refusal that there would have been, had the mode not been audit.
            #[must_use]
            pub fn would_refuse(&self) -> Option<&Refusal> {
                self.0.would_refuse.as_ref()
            }
        }
    };
}
getters!(Grant);
getters!(ExecGrant);
getters!(Preview);

impl Preview {
    pub(crate) fn new(granted: Granted) -> Self {
        Self(granted)
    }
}

impl Grant {
    pub(crate) fn new(granted: Granted) -> Self {
        Self(granted)
    }

    /// The images that the container may see as volumes.
    #[must_use]
    pub fn image_volumes(&self) -> &[ImageVolume] {
        &self.0.image_volumes
    }

    /// Whether `argv` may be exec'd in the container, with this of whoever asks.
    ///
    /// # Errors
    /// The refusal, unless the mode is audit: the grant carries it then.
    pub fn admit_exec(&self, argv: &[String], interaction: Interaction) -> Result<ExecGrant, Refusal> {
        let mut granted = self.0.clone();
        if !granted.confinement.exec.iter().any(|pattern| pattern.allows(argv, interaction)) {
            let refusal = refuse(&granted, argv, interaction);
            match granted.mode {
                Mode::Enforce => return Err(refusal),
                Mode::Audit => granted.would_refuse = Some(refusal),
            }
        }
        Ok(ExecGrant(granted))
    }
}

fn refuse(granted: &Granted, argv: &[String], interaction: Interaction) -> Refusal {
    let quoted = exec::quote(argv);
    let short: String = quoted.chars().take(120).collect();
    let short = if short.len() < quoted.len() { format!("{short}…") } else { short };
    let entry = exec::entry(&short, interaction);
    let missing = |list: &&ExecList| !list.patterns.iter().any(|pattern| pattern.allows(argv, interaction));
    let (why, fix) = match granted.exec_lists.iter().find(missing) {
        Some(ExecList { file, section, patterns }) => {
            let list = format!("exec of [confine.{section}] in {}", file.display());
            let without = || patterns.iter().any(|pattern| pattern.matches(argv));
            match lacking(interaction).filter(|_| without()) {
                Some(lacking) => (
                    format!("{list} allows it without {lacking}"),
                    format!(
                        "ask for it without (kubectl exec: no -i, no -t), or add {entry} to {list}, if it may have that"
                    ),
                ),
                None => (
                    format!("{list} has {} patterns and none is this command", patterns.len()),
                    format!("add {entry} to {list}, if it may run"),
                ),
            }
        }
        None => ("no exec list allows it".to_owned(), format!("add it to exec: {entry}")),
    };
    Refusal::new(Rule::Exec, format!("exec of {short:?} in {}", granted.place), why, fix)
}

/// What was asked for beside the command, in words.
fn lacking(asked: Interaction) -> Option<&'static str> {
    match asked {
        Interaction { stdin: false, tty: false } => None,
        Interaction { stdin: true, tty: false } => Some("standard input"),
        Interaction { stdin: false, tty: true } => Some("a terminal"),
        Interaction { stdin: true, tty: true } => Some("standard input and a terminal"),
    }
}
