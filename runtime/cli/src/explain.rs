//! `bulkhead explain CONTAINER`: which calls it was denied, and what would allow them.

use std::{
    fs::File,
    io::{self, Read as _},
};

use bulkhead_model::{ContainerId, DENIED_BYTES_MAX, DeniedCall, DeniedFile, Layout, Namespace};
use serde_json::json;

use crate::answer::{Answer, Trouble};

/// `ENOSYS`: what a profile denies with. Source: include/uapi/asm-generic/errno.h.
const ENOSYS: u16 = 38;

pub(crate) fn explain(
    layout: &Layout,
    namespace: &Namespace,
    container: &ContainerId,
) -> Result<Answer, Trouble> {
    let path = layout.denied_file(namespace, container);
    let failed = |call| {
        let path = path.clone();
        move |source| Trouble::File { call, path, source }
    };
    let mut text = Vec::new();
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let none = format!("{container} in {namespace}: no denied call is written down");
            let hint = "calls are told where a generated profile is enforced: seccomp = \"generated\"";
            return Ok(Answer::yes(format!("{none} ({hint})"), json!({ "denied": [] })));
        }
        Err(error) => return Err(failed("open(2)")(error)),
        Ok(file) => file.take(DENIED_BYTES_MAX).read_to_end(&mut text).map_err(failed("read(2)"))?,
    };
    let DeniedFile { calls, more } =
        serde_json::from_slice(&text).map_err(|error| failed("decode")(error.into()))?;
    let mut lines: Vec<String> = calls.iter().map(line).collect();
    if more > 0 {
        lines.push(format!("and {more} denials of other programs and calls"));
    }
    if calls.iter().any(|call| call.errno == ENOSYS) {
        let all = bulkhead_profiles::rows().iter().filter(|row| row.then.runs() && !row.needs_memfd).count();
        lines.push(
            "to allow what the image's profile lacks: name what is exec'd in exec of its [confine.NAME], if it was an exec; or"
                .to_owned(),
        );
        lines.push(format!(
            "  seccomp = \"baseline\"     which allows this container some {all} calls in place of its own"
        ));
    }
    if calls.iter().any(|call| call.errno != ENOSYS) {
        lines.push(
            "what is answered otherwise than by ENOSYS the baseline denies to every container".to_owned(),
        );
    }
    Ok(Answer::yes(lines.join("\n"), json!({ "denied": calls, "more": more })))
}

fn line(call: &DeniedCall) -> String {
    let DeniedCall { program, syscall, args, errno, pid, count, first_unix: _, last_unix: _ } = call;
    let args: Vec<String> = args.iter().map(|arg| format!("{arg:#x}")).collect();
    let errno = match *errno {
        ENOSYS => "ENOSYS".to_owned(),
        1 => "EPERM".to_owned(),
        other => format!("errno {other}"),
    };
    format!("denied {count} times: {syscall}({}) by {program}, last by pid {pid}: {errno}", args.join(", "))
}
