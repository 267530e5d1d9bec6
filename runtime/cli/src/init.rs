//! `bulkhead init`: a first policy, which admits the node's own pause image and nothing else.
//!
//! Invariant: a file that is there is never overwritten, and one that is not is there wholly or not at all.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use bulkhead_model::{Digest, Layout, Namespace, UserNamespaceRule};
use bulkhead_node::{KernelFacts, load_policy, tenants_dir};
use serde_json::json;

use crate::{
    answer::{Answer, Trouble, full},
    args::Daemon,
    settings::Settings,
    verify,
};

/// containerd's namespace for pods.
///
/// Source: `K8sContainerdNamespace`, containerd internal/cri/constants/constants.go.
pub(crate) const PODS: &str = "k8s.io";

/// What is known of the pause image.
pub(crate) enum Pause {
    /// Its name and digest.
    Known(String, Digest),
    /// Why there is no line for it.
    Unknown(String),
}

pub(crate) fn init(layout: &Layout, daemon: &Daemon) -> Result<Answer, Trouble> {
    let path = layout.policy_file();
    let exists = || {
        Answer::refused(
            format!(
                "{} exists: nothing was changed\n  fix: edit it, then: bulkhead policy check",
                path.display()
            ),
            json!({ "refused": "exists", "file": path }),
        )
    };
    if path.symlink_metadata().is_ok() {
        return Ok(exists());
    }
    let pause = pause(layout, daemon);
    make_dirs(&layout.config_dir())?;
    make_dirs(&tenants_dir(&path))?;
    let kernel = KernelFacts::read().map_err(|error| Trouble::Kernel("ask the kernel", error))?;
    if !write_new(&path, &text(&pause, kernel.user_namespace()))? {
        return Ok(exists());
    }
    let (image, digest, note) = match &pause {
        Pause::Known(name, digest) => {
            (Some(name), Some(digest.to_string()), format!("it admits the pause image {name}@{digest}"))
        }
        Pause::Unknown(why) => (None, None, format!("it admits no image, not even a pod's pause: {why}")),
    };
    let json = json!({ "wrote": path, "pause_image": image, "pause_digest": digest, "note": note });
    // By the shim's own eyes: a parent that others can write is told now, not at the first launch.
    let any: Result<Namespace, _> = PODS.parse();
    if let Ok(Err(refusal)) = any.map(|namespace| load_policy(layout, None, &namespace)) {
        return Ok(Answer::refused(format!("wrote {}, but:\n{refusal}", path.display()), json));
    }
    Ok(Answer::yes(format!("wrote {}: {note}\nnext: bulkhead doctor", path.display()), json))
}

/// The image that containerd's configuration names, by the digest that its bytes have.
pub(crate) fn pause(layout: &Layout, daemon: &Daemon) -> Pause {
    let settings = match Settings::read(daemon) {
        Ok(settings) => settings,
        Err(trouble) => return Pause::Unknown(full(&trouble)),
    };
    let Some(name) = settings.sandbox_image.clone() else {
        return Pause::Unknown(format!(
            "containerd's configuration names none (read from {})",
            settings.from
        ));
    };
    let Ok(namespace) = PODS.parse::<Namespace>() else {
        return Pause::Unknown(format!("{PODS} is no namespace"));
    };
    match verify::facts(layout, &settings.socket(daemon), &namespace, &name) {
        Ok(Ok(facts)) => Pause::Known(name, facts.target),
        Ok(Err(refusal)) => Pause::Unknown(format!(
            "{}: {}; pull it (ctr -n {PODS} images pull {name}), then: bulkhead verify -n {PODS} {name}",
            refusal.what, refusal.why
        )),
        Err(trouble) => Pause::Unknown(format!("{name}: {}", full(&trouble))),
    }
}

/// What is written of user namespaces, and why no more.
fn user_namespace(strongest: UserNamespaceRule) -> &'static str {
    match strongest {
        UserNamespaceRule::Shifted => {
            "# Ids of its own for each pod, which nobody on the node has (docs/user-namespaces.md).\n\
             user_namespace = \"shifted\""
        }
        UserNamespaceRule::RootOnly => {
            "# Root of a pod is nobody on the node. \"shifted\" is stronger, and needs id-mapped mounts of every file system,\n\
             # which this kernel lacks (bulkhead doctor).\nuser_namespace = \"root-only\""
        }
        UserNamespaceRule::Request => {
            "# This kernel makes no user namespaces (bulkhead doctor); else: user_namespace = \"shifted\" or \"root-only\""
        }
    }
}

fn text(pause: &Pause, strongest: UserNamespaceRule) -> String {
    let users = user_namespace(strongest);
    let line = match pause {
        Pause::Known(name, digest) => {
            format!(
                "# A pod's own container: {name}\n\"{}\" = {{ digests = [\"{digest}\"] }}",
                repository(name)
            )
        }
        Pause::Unknown(why) => {
            let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            format!("# A pod's own container needs a line here; bulkhead init found none: {why}")
        }
    };
    format!(
        r#"# What may run on this node, and how. Language: bulkhead policy explain. After a change: bulkhead policy check.
# One tenant's file, tenants/NAMESPACE.toml beside this one, narrows it further.
version = 1
mode = "enforce"

# Which images may run, by digest. A refusal names the line that would admit what was refused.
[image]
{line}
# "registry.example/team-a/**" = {{ digests = ["sha256:…"] }}

# How they are confined: non-root, read-only root, small tmpfs on /tmp, /var/tmp and /run, no exec.
[confine.default]
{users}
# exec = ["/bin/health *"]
"#
    )
}

/// The name as a scope: without tag and digest.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

fn make_dirs(dir: &Path) -> Result<(), Trouble> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|source| Trouble::File {
        call: "mkdir(2)",
        path: dir.to_owned(),
        source,
    })
}

/// Writes a file that is not there; `false` if it is there.
fn write_new(path: &Path, text: &str) -> Result<bool, Trouble> {
    let failed =
        |call: &'static str| move |source: io::Error| Trouble::File { call, path: path.to_owned(), source };
    let dir = path.parent().unwrap_or(Path::new("/"));
    let temporary = dir.join(format!(".policy.toml.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed("open(2)"))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // link(2) refuses a name that is taken, rename(2) would replace it.
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    fs::remove_file(&temporary).map_err(failed("unlink(2)"))?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(failed("link(2)")(error)),
    }
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("fsync(2)"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bulkhead_policy::{Policy, Source};

    use super::*;

    #[test]
    fn first_policy_is_understood_with_and_without_a_pause_image() {
        let known = Pause::Known("localhost:5000/pause:3.9".to_owned(), Digest::of(b"pause"));
        let unknown = Pause::Unknown("no\nsocket".to_owned());
        for (pause, scopes, strongest) in [
            (&known, 1, UserNamespaceRule::Shifted),
            (&known, 1, UserNamespaceRule::RootOnly),
            (&unknown, 0, UserNamespaceRule::Request),
        ] {
            let text = text(pause, strongest);
            let source = Source { path: "policy.toml".into(), text: text.clone() };
            Policy::parse(&source, None).unwrap_or_else(|error| panic!("{text}\n{error}"));
            assert_eq!(text.matches("\n\"localhost:5000/pause\" = ").count(), scopes);
        }
    }

    #[test]
    fn repository_of_a_name_has_neither_tag_nor_digest() {
        for (name, wanted) in [
            ("registry.k8s.io/pause:3.6", "registry.k8s.io/pause"),
            ("localhost:5000/pause", "localhost:5000/pause"),
            ("localhost:5000/pause:1@sha256:00", "localhost:5000/pause"),
        ] {
            assert_eq!(repository(name), wanted);
        }
    }

    #[test]
    fn file_that_is_there_is_never_overwritten_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        assert!(write_new(&path, "one").unwrap());
        assert!(!write_new(&path, "two").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
