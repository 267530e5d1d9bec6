//! `bulkhead explain CONTAINER`: which calls it was denied, over which paths it stumbled, and what would allow them.
//!
//! ```text
//! denied calls     what the server was told by the kernel                 certain
//! paths            what the program wrote last, held against its mounts   a hint
//! ```
//! The kernel tells nobody about EROFS and EACCES, and to look at every call that opens a path would cost those that are
//! allowed. So the program's own words count: containerd's log of a pod's container, or an output that is handed in.
//!
//! Never here: any change to a policy.

mod advice;
mod output;
mod places;
mod said;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bulkhead_model::{ContainerId, DENIED_BYTES_MAX, DeniedCall, DeniedFile, EndedBadly, Layout, Namespace};
use serde_json::{Value, json};

use self::{advice::Cure, output::Known, said::Stumble};
use crate::{
    answer::{Answer, Trouble, full},
    args::Daemon,
    settings::Settings,
};

/// `ENOSYS`: what a profile denies with. Source: include/uapi/asm-generic/errno.h.
const ENOSYS: u16 = 38;

/// `EPERM`: what the baseline denies with where it is told. Source: include/uapi/asm-generic/errno-base.h.
const EPERM: u16 = 1;

/// What is asked.
pub(crate) struct Question<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) container: &'a ContainerId,
    /// What it wrote, in place of containerd's log.
    pub(crate) output: Option<&'a Path>,
    pub(crate) daemon: &'a Daemon,
}

pub(crate) fn explain(layout: &Layout, question: &Question<'_>) -> Result<Answer, Trouble> {
    let Question { namespace, container, output, daemon } = question;
    let written = read(&layout.denied_file(namespace, container))?;
    let DeniedFile { calls, more, ended } = written.unwrap_or_default();
    let mut notes = Vec::new();
    let mut known = match asked(namespace, container, daemon) {
        Ok(known) => known,
        // A container that is gone, or containerd that is not there, takes no answer away that is here.
        Err(trouble) => {
            notes.push(format!("containerd was not asked: {}", full(&trouble)));
            Known::default()
        }
    };
    if let Some(path) = output {
        let failed = |source| Trouble::File { call: "read(2)", path: PathBuf::from(path), source };
        known.output = Some(output::file(path).map_err(failed)?);
    }
    let ended_places = ended.as_ref().map(|ended| ended.places.clone());
    let places = ended_places.or(known.places);
    let cwd = ended.as_ref().map(|ended| ended.cwd.as_path());
    let stumbles = known.output.as_deref().map(|text| said::stumbles(text, cwd)).unwrap_or_default();
    let advised: Vec<(Stumble, String, Cure)> = stumbles
        .into_iter()
        .map(|stumble| {
            let (because, cure) = advice::advise(&stumble, places.as_deref());
            (stumble, because, cure)
        })
        .collect();
    let allowed = advice::lines(advised.iter().map(|(_, _, cure)| cure));

    let mut lines = said_of_calls(&calls, more);
    lines.extend(ended.as_ref().map(|EndedBadly { status, .. }| format!("it ended with {status}")));
    if !advised.is_empty() {
        lines.push(
            "from what it wrote last, a hint and no record (what it does not write is not seen):".to_owned(),
        );
    }
    for (Stumble { errno, path, line }, because, _) in &advised {
        let path = path.as_ref().map_or("?".to_owned(), |path| path.display().to_string());
        lines.push(format!("  {} on {path}: {because}\n    it said: {line}", errno.name()));
    }
    if !allowed.is_empty() {
        lines.push("what would allow it, in the [confine.NAME] of the image's scope:".to_owned());
        lines.extend(allowed.iter().map(|(line, cost)| format!("  {line}\n    {cost}")));
    }
    if calls.is_empty() && advised.is_empty() {
        lines.push(nothing(namespace, container, known.output.is_some()));
    }
    lines.extend(notes);
    let stumbles: Vec<Value> = advised
        .iter()
        .map(|(Stumble { errno, path, line }, because, _)| {
            json!({ "errno": errno.name(), "path": path, "said": line, "because": because })
        })
        .collect();
    let allowed: Vec<Value> =
        allowed.iter().map(|(line, cost)| json!({ "line": line, "cost": cost })).collect();
    let ended = ended.map(|EndedBadly { status, .. }| status);
    let json =
        json!({ "denied": calls, "more": more, "ended": ended, "stumbles": stumbles, "allow": allowed });
    Ok(Answer::yes(lines.join("\n"), json))
}

/// What the server wrote down; none if it wrote nothing.
fn read(path: &Path) -> Result<Option<DeniedFile>, Trouble> {
    let failed = |call| move |source| Trouble::File { call, path: PathBuf::from(path), source };
    let mut text = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open(2)")(error)),
        Ok(file) => file.take(DENIED_BYTES_MAX).read_to_end(&mut text).map_err(failed("read(2)"))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| failed("decode")(error.into()))
}

fn asked(namespace: &Namespace, container: &ContainerId, daemon: &Daemon) -> Result<Known, Trouble> {
    let socket = match &daemon.address {
        Some(address) => address.clone(),
        None => Settings::read(daemon)?.socket(daemon),
    };
    output::ask(&socket, namespace, container)
}

fn nothing(namespace: &Namespace, container: &ContainerId, has_output: bool) -> String {
    let none = format!("{container} in {namespace}: no denied call is written down");
    let hint = "calls are told where a generated profile is enforced: seccomp = \"generated\"";
    let output = match has_output {
        true => "what it wrote names no path that it could not use",
        false => {
            "of what it wrote nothing is known: hand it in with --output FILE (or - for standard input), for its paths"
        }
    };
    format!("{none} ({hint}); {output}")
}

fn said_of_calls(calls: &[DeniedCall], more: u64) -> Vec<String> {
    let mut lines: Vec<String> = calls.iter().map(line).collect();
    if more > 0 {
        lines.push(format!("and {more} denials of other programs and calls"));
    }
    let values: BTreeSet<String> = calls.iter().filter_map(outside).collect();
    if calls.iter().any(|call| call.errno == ENOSYS) || !values.is_empty() {
        let all = bulkhead_profiles::rows().iter().filter(|row| row.then.runs() && !row.needs_memfd).count();
        lines.push(
            "to allow what the image's profile lacks: name what is exec'd in exec of its [confine.NAME], if it was an exec; or"
                .to_owned(),
        );
        lines.push(format!(
            "  seccomp = \"baseline\"     which allows this container some {all} calls in place of its own"
        ));
    }
    lines.extend(values);
    if calls.iter().any(|call| call.errno != ENOSYS && outside(call).is_none()) {
        lines.push("what is answered with EPERM the baseline denies to every container".to_owned());
    }
    lines
}

/// Which argument of a call has a value that a profile may not have, where its errno is that of one.
fn outside(call: &DeniedCall) -> Option<String> {
    let known = bulkhead_profiles::narrowings().iter();
    let known: Vec<_> =
        known.filter(|known| known.syscall == call.syscall && known.errno == call.errno).collect();
    let first = known.first()?;
    let arguments: Vec<String> = known.iter().map(|known| known.arg.to_string()).collect();
    Some(format!(
        "{} of {}: the image's profile allows that call with other values of argument {} alone \
         (bulkhead profile why {} names them)",
        first.errno_name,
        call.syscall,
        arguments.join(" or "),
        call.syscall
    ))
}

fn line(call: &DeniedCall) -> String {
    let DeniedCall { program, syscall, args, errno, pid, count, first_unix: _, last_unix: _ } = call;
    let args: Vec<String> = args.iter().map(|arg| format!("{arg:#x}")).collect();
    let errno = match *errno {
        ENOSYS => "ENOSYS".to_owned(),
        EPERM => "EPERM".to_owned(),
        other => {
            let known = bulkhead_profiles::narrowings().iter().find(|known| known.errno == other);
            known.map_or_else(|| format!("errno {other}"), |known| known.errno_name.to_owned())
        }
    };
    format!("denied {count} times: {syscall}({}) by {program}, last by pid {pid}: {errno}", args.join(", "))
}
