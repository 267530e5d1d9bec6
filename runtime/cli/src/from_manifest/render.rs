//! Needs in TOML, and what no line can say as comments.

use std::{collections::BTreeMap, fmt::Write as _};

use super::needs::Need;

/// First port that anybody may bind. Source: `IPPORT_RESERVED`, netinet/in.h.
const UNPRIVILEGED_PORT: u16 = 1024;

pub(super) fn render(needs: &BTreeMap<String, Need>) -> String {
    let mut text = String::from(
        "# Made by `bulkhead policy from-manifest`: read it before you trust it. The pods' own pause image needs a scope as \
         well\n# (`bulkhead init` writes one).\nversion = 1\n\n[image]\n",
    );
    for (repository, need) in needs {
        let digests: Vec<String> = need.digests.iter().map(|digest| quoted(&digest.to_string())).collect();
        let scope = |digests: &str| {
            format!(
                "{} = {{ digests = [{digests}], confine = {} }}",
                quoted(repository),
                quoted(&need.section)
            )
        };
        for name in &need.unpinned {
            comment(
                &mut text,
                &format!("{name} is named without a digest: `bulkhead verify {name}` says it"),
            );
        }
        match digests.is_empty() {
            true => comment(&mut text, &scope("\"sha256:…\"")),
            false => line(&mut text, &scope(&digests.join(", "))),
        }
    }
    for need in needs.values() {
        text.push('\n');
        for container in &need.containers {
            comment(&mut text, container);
        }
        section(&mut text, need);
    }
    text
}

fn section(text: &mut String, need: &Need) {
    for refused in &need.refused {
        comment(text, &format!("refused whatever is written here, but at level = \"compatible\": {refused}"));
    }
    line(text, &format!("[confine.{}]", need.section));
    if need.root {
        comment(text, "runAsUser: 0 is refused; this would run it as another uid:");
        comment(text, "user = { force = 65532 }");
    }
    if !need.volumes.is_empty() {
        let volumes: Vec<&str> = need.volumes.iter().map(String::as_str).collect();
        comment(
            text,
            &format!("volumes of the pod, and /tmp, /var/tmp and /run, need no line: {}", volumes.join(", ")),
        );
    }
    if need.wrote_to_root {
        comment(
            text,
            "the root file system is read-only here, which not all of its containers ask for: where one stumbles, `bulkhead \
             explain CONTAINER` prints the line that it needs",
        );
    }
    if !need.writable.is_empty() {
        let paths: Vec<String> = need.writable.iter().cloned().collect();
        line(text, &format!("writable = {}", array(&paths)));
    }
    let (low, high): (Vec<u16>, Vec<u16>) = need.ports.iter().partition(|port| **port < UNPRIVILEGED_PORT);
    if !high.is_empty() {
        comment(text, &format!("ports need no line: {}", numbers(&high)));
    }
    if !low.is_empty() {
        comment(
            text,
            &format!(
                "ports below 1024 need no capability and no line, the pod's network namespace opens them: {}",
                numbers(&low)
            ),
        );
    }
    for words in &need.inexact {
        let words = array(words);
        comment(
            text,
            &format!(
                "its last word is a star, which a pattern takes for any rest; allow it only as that: {words}"
            ),
        );
    }
    if !need.commands.is_empty() {
        line(text, "exec = [");
        for (words, by) in &need.commands {
            let by: Vec<&str> = by.iter().copied().collect();
            line(text, &format!("    {}, # {}", array(words), by.join(", ")));
        }
        line(text, "]");
    }
    if !need.host_paths.is_empty() {
        comment(text, "the node's own directories: each is a way past what the pod has");
        line(text, "host_paths = [");
        for (path, written) in &need.host_paths {
            let access = if *written { "read-write" } else { "read-only" };
            line(text, &format!("    {{ path = {}, access = \"{access}\" }},", quoted(path)));
        }
        line(text, "]");
    }
}

fn numbers(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

fn array(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML: one line, whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A manifest's text in a comment ends no line.
fn comment(text: &mut String, what: &str) {
    let plain: String = what.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    line(text, &format!("# {plain}"));
}

fn line(text: &mut String, what: &str) {
    // Writing to a String cannot fail: its `write_str` returns Ok always.
    if text.write_str(what).is_ok() {
        text.push('\n');
    }
}
