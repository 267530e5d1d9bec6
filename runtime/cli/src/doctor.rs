//! `bulkhead doctor`: what this node has, what Bulkhead needs, and what to do about the rest.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use bulkhead_model::{Layout, Namespace};
use bulkhead_node::{Finding, KernelFacts, Standing, load_policy};
use serde_json::json;

use crate::{
    answer::{Answer, Trouble},
    args::Daemon,
    init::PODS,
    settings::Settings,
    verify,
};

/// Name of the shim's executable, as containerd makes it from the runtime type.
///
/// Source: containerd docs/runtime-v2.md.
const SHIM: &str = "containerd-shim-bulkhead-v2";

/// The snapshotter that the tests run on.
const SNAPSHOTTER: &str = "overlayfs";

pub(crate) fn doctor(layout: &Layout, daemon: &Daemon) -> Result<Answer, Trouble> {
    let kernel = KernelFacts::read().map_err(|error| Trouble::Kernel("ask the kernel", error))?;
    let settings = Settings::read(daemon)?;
    let mut findings = kernel.findings();
    findings.push(version(&daemon.config.containerd));
    findings.push(socket(&settings.socket(daemon)));
    findings.push(shim());
    findings.extend(containerd(&settings));
    findings.push(policy(layout));
    findings.push(pause(layout, daemon, &settings));
    Ok(report(&findings))
}

fn report(findings: &[Finding]) -> Answer {
    let missing = findings.iter().filter(|finding| finding.standing == Standing::Missing).count();
    let width = |text: fn(&Finding) -> &str| {
        findings.iter().map(|finding| text(finding).chars().count()).max().unwrap_or(0).min(48)
    };
    let (names, found) = (width(|finding| &finding.name), width(|finding| &finding.found));
    let mut lines = Vec::new();
    for Finding { name, found: there, needed, standing, fix } in findings {
        let mark = match standing {
            Standing::Good => "good    ",
            Standing::Optional => "optional",
            Standing::Missing => "MISSING ",
        };
        lines.push(format!("{mark}  {name:names$}  {there:found$}  needed: {needed}"));
        if !fix.is_empty() {
            lines.push(format!("          {:names$}  fix: {fix}", ""));
        }
    }
    let json = json!({ "findings": findings, "missing": missing });
    match missing {
        0 => {
            lines.push("containers can run".to_owned());
            Answer::yes(lines.join("\n"), json)
        }
        count => {
            lines.push(format!("{count} missing: containers cannot run"));
            Answer::refused(lines.join("\n"), json)
        }
    }
}

fn version(containerd: &Path) -> Finding {
    const NEEDED: &str = "1.6 or newer";
    let output = Command::new(containerd).arg("--version").output();
    let text = match &output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => {
            let found = format!("{}: {error}", containerd.display());
            // The daemon may well run from elsewhere: the socket tells.
            let fix = "name its executable: --containerd PROGRAM";
            return Finding::new("containerd", found, NEEDED, Standing::Optional, fix);
        }
    };
    let standing = match numbers(&text) {
        Some(version) if version >= (1, 6) => Standing::Good,
        Some(_) => Standing::Missing,
        None => Standing::Optional,
    };
    let word = text.split_whitespace().nth(2).unwrap_or(&text).to_owned();
    Finding::new("containerd", word, NEEDED, standing, "install a newer containerd")
}

/// Major and minor number of `containerd --version`: program, import path, version, revision.
fn numbers(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().nth(2)?;
    let mut parts = word.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn socket(path: &Path) -> Finding {
    let (found, standing) = match UnixStream::connect(path) {
        Ok(_) => (format!("{} accepts", path.display()), Standing::Good),
        Err(error) => (format!("{}: {error}", path.display()), Standing::Missing),
    };
    let fix = "start containerd, or name its socket: --address SOCKET";
    Finding::new("containerd's socket", found, "accepts", standing, fix)
}

fn shim() -> Finding {
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(SHIM)).find(|file| file.is_file());
    let beside = beside.map(|dir| dir.join(SHIM)).filter(|file| file.is_file());
    let (text, standing) = match (&found, &beside) {
        (Some(file), _) => (file.display().to_string(), Standing::Good),
        (None, Some(file)) => (format!("{}, not on PATH", file.display()), Standing::Optional),
        (None, None) => ("not found".to_owned(), Standing::Missing),
    };
    let fix = "install it where containerd's PATH leads: make install";
    Finding::new("shim", text, "on containerd's PATH", standing, fix)
}

fn containerd(settings: &Settings) -> Vec<Finding> {
    let Settings {
        from,
        sandbox_image: _,
        snapshotter,
        discard_unpacked_layers,
        handlers,
        address: _,
        hosts_dirs: _,
        old_registries: _,
    } = settings;
    let known = |good: bool| if good { Standing::Good } else { Standing::Optional };
    vec![
        Finding::new("containerd's settings", from.as_str(), "any", Standing::Good, ""),
        Finding::new(
            "runtime handler",
            if handlers.is_empty() { "none".to_owned() } else { handlers.join(", ") },
            "one, for pods (ctr needs none)",
            known(!handlers.is_empty()),
            "add to the CRI plugin's runtimes: runtime_type = \"io.containerd.bulkhead.v2\", and a RuntimeClass",
        ),
        Finding::new(
            "snapshotter",
            snapshotter.as_deref().unwrap_or("not said"),
            "overlayfs (the others are not tested)",
            known(snapshotter.as_deref() == Some(SNAPSHOTTER)),
            "snapshotter = \"overlayfs\" in the CRI plugin's settings",
        ),
        Finding::new(
            "unpacked layers",
            match discard_unpacked_layers {
                Some(true) => "discarded",
                Some(false) => "kept",
                None => "not said",
            },
            "kept, to compare contents later",
            known(*discard_unpacked_layers != Some(true)),
            "discard_unpacked_layers = false in the CRI plugin's settings",
        ),
    ]
}

fn policy(layout: &Layout) -> Finding {
    let path: PathBuf = layout.policy_file();
    let Ok(namespace) = PODS.parse::<Namespace>() else {
        return Finding::new("policy", PODS, "a namespace", Standing::Missing, "");
    };
    match load_policy(layout, None, &namespace) {
        Ok(_) => Finding::new("policy", path.display().to_string(), "understood", Standing::Good, ""),
        Err(refusal) => Finding::new(
            "policy",
            format!("{}: {}", refusal.what, refusal.why),
            "understood",
            Standing::Missing,
            &refusal.fix,
        ),
    }
}

/// Whether a pod's own container would run: not needed where there are no pods.
fn pause(layout: &Layout, daemon: &Daemon, settings: &Settings) -> Finding {
    const NAME: &str = "pause image";
    const NEEDED: &str = "admitted by policy, for pods";
    let lacking = |found: String, fix: &str| Finding::new(NAME, found, NEEDED, Standing::Optional, fix);
    let Some(image) = &settings.sandbox_image else {
        return lacking("not said".to_owned(), "name it in the CRI plugin's settings");
    };
    let Ok(namespace) = PODS.parse::<Namespace>() else {
        return lacking(PODS.to_owned(), "");
    };
    match verify::facts(layout, &settings.socket(daemon), &namespace, image) {
        Err(trouble) => lacking(format!("{image}: {trouble}"), "see to containerd first"),
        Ok(Err(refusal)) => lacking(format!("{image}: {}", refusal.why), &refusal.fix),
        Ok(Ok(facts)) => match verify::verdict(layout, &facts, image, &namespace) {
            Err(trouble) => lacking(format!("{image}: {trouble}"), "bulkhead verify says more"),
            Ok(Ok(_)) => Finding::new(NAME, image.as_str(), NEEDED, Standing::Good, ""),
            Ok(Err(refusal)) => lacking(format!("{image}: {}", refusal.why), &refusal.fix),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_vendor_are_numbers() {
        for (text, wanted) in [
            ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1", Some((1, 6))),
            ("containerd github.com/containerd/containerd/v2 2.1.9+unknown ", Some((2, 1))),
            ("containerd github.com/containerd/containerd/v2 v2.4.2 abc", Some((2, 4))),
            ("something else", None),
        ] {
            assert_eq!(numbers(text), wanted, "{text}");
        }
    }

    #[test]
    fn one_missing_finding_is_a_no_and_optional_ones_are_not() {
        let finding = |standing| Finding::new("a", "b", "c", standing, "d");
        let good = report(&[finding(Standing::Good), finding(Standing::Optional)]);
        assert_eq!(good.status, crate::answer::Status::Yes);
        let bad = report(&[finding(Standing::Good), finding(Standing::Missing)]);
        assert_eq!(bad.status, crate::answer::Status::Refused);
        assert!(bad.text.contains("MISSING   a  b  needed: c\n             fix: d"), "{}", bad.text);
    }
}
