//! Profiles that are worked out from an image's files, of system calls and of the files themselves: what is asked, what is
//! kept, what policy says.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Version of a kept profile's file.
pub const PROFILE_VERSION: u32 = 3;

/// Longest file of a kept profile, in bytes: 500 names of at most 40 bytes, some hundred values, the paths, and some air.
pub const PROFILE_BYTES_MAX: u64 = 256 << 10;

/// Most rules for an image's files. Each costs every start of a process an open and an add; an image that takes more has
/// none.
pub const FILE_RULES_MAX: usize = 1024;

/// Longest paths of these rules together, in bytes.
pub const FILE_RULES_BYTES_MAX: usize = 96 << 10;

/// Values of arguments that a profile allows, by call and by the argument's number. Of what is not here all are.
///
/// Which bits of an argument are meant is the table's of bulkhead-profiles: where that changes, so does [`ARGUMENTS_VERSION`].
pub type CallArguments = BTreeMap<String, BTreeMap<u8, BTreeSet<u32>>>;

/// Version of what values of arguments mean: a hash that has some holds for one meaning.
pub const ARGUMENTS_VERSION: u32 = 1;

/// Which profile holds, of system calls or of the image's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileRule {
    /// The written one; of files: all of the image may be executed and read.
    Baseline,
    /// The image's where it has been worked out and is narrower, else the written one.
    WhenReady,
    /// The image's, or nothing runs.
    Generated,
    /// The image's, if it is one of these; none where two files name different ones.
    Pinned(BTreeSet<Digest>),
}

/// What decides a profile: the same question, the same profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileQuestion {
    /// The image's config.
    pub config: Digest,
    /// Chain ID of its top layer.
    pub chain: Digest,
    /// Directories of its layers, the lowest first: those that the container mounts.
    pub layers: Vec<PathBuf>,
    /// Entrypoint and arguments.
    pub argv: Vec<String>,
    /// PATH.
    pub path: String,
    /// Working directory.
    pub cwd: String,
    /// What loaders and interpreters read of the environment.
    pub environment: BTreeMap<String, String>,
    /// What policy lets be exec'd.
    pub exec: Vec<ProfileExec>,
    /// Where something else than the image is mounted.
    pub volumes: BTreeSet<PathBuf>,
    /// Version of the analysis.
    pub generator: String,
    /// Hash of the baseline's rows.
    pub baseline: Digest,
}

/// A pattern of commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileExec {
    /// Words that must be there.
    pub words: Vec<String>,
    /// Whether more may follow.
    pub open_end: bool,
}

/// Variables that decide what is loaded.
pub const LOADER_VARIABLES: &[&str] = &[
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PERL5LIB",
    "RUBYLIB",
    "NODE_PATH",
    "NODE_OPTIONS",
    "JAVA_HOME",
    "PHP_INI_SCAN_DIR",
];

impl ProfileQuestion {
    /// The question's hash. `None`: it cannot be written down.
    #[must_use]
    pub fn key(&self) -> Option<Digest> {
        serde_json::to_vec(self).ok().map(|text| Digest::of(&text))
    }
}

/// What the generator is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileTask {
    /// Its executable.
    pub program: PathBuf,
    /// Below what the node's files are, as [`crate::Layout`] has it.
    pub root: PathBuf,
    /// What is asked.
    pub question: ProfileQuestion,
}

/// What a command of an image may do: its calls, and the image's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedProfile {
    hash: Digest,
    calls: BTreeSet<String>,
    arguments: CallArguments,
    widened: Option<String>,
    files: GeneratedFiles,
}

impl GeneratedProfile {
    /// Allows these calls, with these values of arguments. `widened`: why these are all of the baseline.
    #[must_use]
    pub fn new(
        calls: BTreeSet<String>,
        arguments: CallArguments,
        widened: Option<String>,
        files: GeneratedFiles,
    ) -> Self {
        let mut text: Vec<String> = calls.iter().cloned().collect();
        if !arguments.is_empty() {
            text.push(format!("arguments {ARGUMENTS_VERSION}"));
        }
        for (call, arguments) in &arguments {
            for (argument, values) in arguments {
                let values: Vec<String> = values.iter().map(u32::to_string).collect();
                text.push(format!("{call} {argument} {}", values.join(",")));
            }
        }
        Self { hash: Digest::of(text.join("\n").as_bytes()), calls, arguments, widened, files }
    }

    /// What of the image's files it needs.
    #[must_use]
    pub fn files(&self) -> &GeneratedFiles {
        &self.files
    }

    /// Hash of the names, in order, one a line, and of the values of arguments, where there are any: what a policy can pin.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Names of the calls that it allows.
    #[must_use]
    pub fn calls(&self) -> &BTreeSet<String> {
        &self.calls
    }

    /// Values of arguments that it allows of these.
    #[must_use]
    pub fn arguments(&self) -> &CallArguments {
        &self.arguments
    }

    /// Why it is no narrower than the baseline, if it is not.
    #[must_use]
    pub fn widened(&self) -> Option<&str> {
        self.widened.as_deref()
    }
}

/// Which of the image's files a command executes and reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedFiles {
    hash: Digest,
    rules: FileRules,
    widened: Option<String>,
}

impl GeneratedFiles {
    /// Allows these files. `widened`: why all of the image may be executed and read; there are no rules then.
    #[must_use]
    pub fn new(rules: FileRules, widened: Option<String>) -> Self {
        let mut text = Vec::new();
        for (word, paths) in [("execute", &rules.execute), ("read", &rules.read)] {
            for path in paths {
                text.extend(
                    word.bytes().chain([0]).chain(path.as_os_str().as_encoded_bytes().iter().copied()),
                );
                text.push(0);
            }
        }
        Self { hash: Digest::of(&text), rules, widened }
    }

    /// Hash of the rules: what a policy can pin.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &FileRules {
        &self.rules
    }

    /// Why they are none, if they are none.
    #[must_use]
    pub fn widened(&self) -> Option<&str> {
        self.widened.as_deref()
    }
}

/// Rules for an image's own files: each path a file, or a directory with all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRules {
    /// What may be executed, and read.
    pub execute: BTreeSet<PathBuf>,
    /// What may be read.
    pub read: BTreeSet<PathBuf>,
}

impl FileRules {
    /// What is wrong with rules that somebody else wrote: a path that is not absolute, is the root or has `..`, or too many.
    #[must_use]
    pub fn flaw(&self) -> Option<&'static str> {
        let Self { execute, read } = self;
        let paths = || execute.iter().chain(read);
        if paths().count() > FILE_RULES_MAX {
            return Some("there are too many rules");
        }
        if paths().map(|path| path.as_os_str().len()).sum::<usize>() > FILE_RULES_BYTES_MAX {
            return Some("the paths of the rules are too long");
        }
        let plain = |path: &PathBuf| {
            let mut parts = path.components();
            parts.next() == Some(Component::RootDir)
                && path.parent().is_some()
                && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        (!paths().all(plain)).then_some("a path of a rule is none of a file")
    }
}

/// A kept profile: a file of root's alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredProfile {
    /// [`PROFILE_VERSION`].
    pub version: u32,
    /// The question's hash.
    pub key: Digest,
    /// Names of the allowed calls.
    pub calls: BTreeSet<String>,
    /// Values of their arguments.
    pub arguments: CallArguments,
    /// Why they are the baseline's.
    pub widened: Option<String>,
    /// Rules for the image's files.
    pub files: FileRules,
    /// Why there are none.
    pub files_widened: Option<String>,
    /// Whether that is a failure that may pass: then it counts for ten minutes.
    pub passing: bool,
}

/// Most rows of one container's denied calls.
pub const DENIED_ROWS_MAX: usize = 64;

/// Longest file of denied calls, in bytes.
pub const DENIED_BYTES_MAX: u64 = 64 << 10;

/// Most mounts that are written down of a container that ended.
pub const PLACES_MAX: usize = 64;

/// What a container was denied, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedFile {
    /// A row for each program, call and errno.
    pub calls: Vec<DeniedCall>,
    /// Denials that had no room.
    pub more: u64,
    /// How it ended, where it said that it failed.
    #[serde(default)]
    pub ended: Option<EndedBadly>,
}

/// The end of a container whose first process exited with something else than 0, and what could be done where in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedBadly {
    /// Exit status.
    pub status: u32,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its mounts, `/` first, but for the kernel's own.
    pub places: Vec<MountedPlace>,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountedPlace {
    /// Where.
    pub path: PathBuf,
    /// Whether it can be written to, by whom the files' modes let.
    pub writable: bool,
    /// Whether programs and libraries on it can be executed.
    pub executable: bool,
    /// Whether it is memory.
    pub tmpfs: bool,
}

/// A call that was denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedCall {
    /// Name of the program, as it calls itself.
    pub program: String,
    /// Name of the call.
    pub syscall: String,
    /// Arguments of the last.
    pub args: [u64; 6],
    /// What it was answered.
    pub errno: u16,
    /// Process id of the last, as the node counts.
    pub pid: u32,
    /// How often.
    pub count: u64,
    /// When first, in seconds since 1970.
    pub first_unix: u64,
    /// And last.
    pub last_unix: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(execute: &[&str], read: &[&str]) -> FileRules {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        FileRules { execute: paths(execute), read: paths(read) }
    }

    #[test]
    fn rules_of_others_are_paths_of_files_and_nothing_above_them() {
        assert_eq!(rules(&["/usr/bin/a"], &["/etc"]).flaw(), None);
        for bad in ["/", "", "etc", "/etc/..", "/a/../b"] {
            assert!(rules(&[], &[bad]).flaw().is_some(), "{bad:?}");
            assert!(rules(&[bad], &[]).flaw().is_some(), "{bad:?}");
        }
        let many = (0..=FILE_RULES_MAX).map(|at| PathBuf::from(format!("/{at}"))).collect();
        assert!(FileRules { execute: BTreeSet::new(), read: many }.flaw().is_some());
        assert!(rules(&[&format!("/{}", "a".repeat(FILE_RULES_BYTES_MAX))], &[]).flaw().is_some());
    }

    #[test]
    fn hash_tells_values_of_arguments_and_is_that_of_the_names_where_there_are_none() {
        let hash = |arguments: &[(u8, &[u32])]| {
            let of_call: BTreeMap<_, _> =
                arguments.iter().map(|(at, values)| (*at, values.iter().copied().collect())).collect();
            let all = if of_call.is_empty() {
                CallArguments::new()
            } else {
                CallArguments::from([("socket".to_owned(), of_call)])
            };
            let calls = ["read", "socket"].map(str::to_owned).into();
            let files = GeneratedFiles::new(FileRules::default(), None);
            GeneratedProfile::new(calls, all, None, files).hash()
        };
        assert_eq!(hash(&[]), Digest::of(b"read\nsocket"));
        let different = [hash(&[]), hash(&[(0, &[1])]), hash(&[(0, &[1, 2])]), hash(&[(1, &[1])])];
        assert_eq!(different.iter().collect::<BTreeSet<_>>().len(), different.len());
        assert_eq!(hash(&[(0, &[1])]), hash(&[(0, &[1])]));
    }

    #[test]
    fn hash_tells_what_is_executed_from_what_is_read() {
        let hash = |rules| GeneratedFiles::new(rules, None).hash();
        assert_ne!(hash(rules(&["/a"], &[])), hash(rules(&[], &["/a"])));
        assert_ne!(hash(rules(&[], &["/a", "/b"])), hash(rules(&[], &["/a"])));
        assert_eq!(hash(rules(&["/a"], &["/b"])), hash(rules(&["/a"], &["/b"])));
    }
}
