//! `bulkhead profile`: which system calls a command of an image can make, and why.

mod image;
mod import;
mod make;
mod unpack;

use std::{collections::BTreeSet, fs::File, io::Read as _, path::Path};

use bulkhead_generate::{Access, Profile, Site};
use bulkhead_model::{Digest, FileRules, GeneratedFiles, GeneratedProfile, Layout};
use bulkhead_profiles::narrowing;
use serde_json::json;

use crate::{
    answer::{Answer, Trouble},
    args::{ExportFormat, ProfileCommand},
};

/// Longest profile that is read, in bytes.
const PROFILE_BYTES_MAX: u64 = 64 << 20;
pub(crate) fn profile(layout: &Layout, command: ProfileCommand) -> Result<Answer, Trouble> {
    match command {
        ProfileCommand::Generate(options) => make::make(layout, *options),
        ProfileCommand::Show { profile } => {
            let profile = read(&profile)?;
            Ok(Answer::yes(shown(&profile), json!({ "profile": profile })))
        }
        ProfileCommand::Why { what, profile } => {
            let profile = read(&profile)?;
            Ok(if what.starts_with('/') { why_file(&profile, &what) } else { why(&profile, &what) })
        }
        ProfileCommand::Diff { before, after } => {
            let difference = read(&before)?.difference(&read(&after)?);
            let mut lines = Vec::new();
            for (sign, names) in [
                ("+", &difference.more),
                ("-", &difference.less),
                ("+", &difference.values_more),
                ("-", &difference.values_less),
                ("+", &difference.members_more),
                ("-", &difference.members_less),
                ("+", &difference.rules_more),
                ("-", &difference.rules_less),
            ] {
                lines.extend(names.iter().map(|name| format!("{sign} {name}")));
            }
            let text = if lines.is_empty() { "no difference".to_owned() } else { lines.join("\n") };
            Ok(Answer::yes(text, json!({ "difference": difference })))
        }
        ProfileCommand::Export { profile, format, name } => {
            let profile = read(&profile)?;
            let exported = match format {
                ExportFormat::Oci | ExportFormat::Docker => profile.to_oci(),
                ExportFormat::Spo => profile.to_operator(&name),
            };
            if !exported.wider.is_empty() {
                eprintln!(
                    "note: this format cannot say which arguments of {} are allowed here, or runc needs others; the export allows more",
                    exported.wider.join(", ")
                );
            }
            Ok(Answer::yes(
                exported.text.trim_end(),
                json!({ "text": exported.text, "wider": exported.wider }),
            ))
        }
        ProfileCommand::Import { file, output } => import::import(&file, output.as_deref()),
    }
}

fn read(path: &Path) -> Result<Profile, Trouble> {
    let failed = |call| move |source| Trouble::File { call, path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed("open(2)"))?;
    file.take(PROFILE_BYTES_MAX).read_to_string(&mut text).map_err(failed("read(2)"))?;
    parsed(text.as_bytes(), path)
}

/// A profile of a file, or of the process that worked it out.
fn parsed(text: &[u8], path: &Path) -> Result<Profile, Trouble> {
    let broken = |why: String| Trouble::Profile { path: path.to_owned(), why };
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|error| broken(error.to_string()))?;
    // What `--json` printed has it one step down.
    let value = value.get("profile").cloned().unwrap_or(value);
    let profile: Profile = serde_json::from_value(value).map_err(|error| broken(error.to_string()))?;
    if profile.format != bulkhead_generate::FORMAT {
        return Err(broken(format!(
            "its format is {}, this is for {}",
            profile.format,
            bulkhead_generate::FORMAT
        )));
    }
    Ok(profile)
}

/// What policy can pin: the hash of the calls, and that of the rules for files, where there are any.
fn hashes(profile: &Profile) -> (Digest, Option<Digest>) {
    let mut files = FileRules::default();
    for rule in &profile.landlock.rules {
        match rule.access {
            Access::Read => files.read.insert(rule.path.clone()),
            Access::ReadExecute => files.execute.insert(rule.path.clone()),
        };
    }
    let files = GeneratedFiles::new(files, profile.landlock.widened.clone());
    let files_hash = profile.landlock.widened.is_none().then(|| files.hash());
    let calls = profile.rows.keys().cloned().collect();
    (GeneratedProfile::new(calls, profile.arguments(), profile.widened.clone(), files).hash(), files_hash)
}

fn shown(profile: &Profile) -> String {
    let mut lines = vec![
        format!("command     {}", profile.key.command.argv.join(" ")),
        format!("closure     {} files, {} kB of ELF", profile.members.len(), profile.elf_bytes / 1024),
    ];
    match &profile.widened {
        Some(why) => lines.push(format!("syscalls    the baseline's {}: {why}", profile.rows.len())),
        None => lines.push(format!("syscalls    {}", profile.rows.len())),
    }
    let names: Vec<&str> = profile.rows.keys().map(String::as_str).collect();
    for chunk in names.chunks(8) {
        lines.push(format!("  {}", chunk.join(" ")));
    }
    lines.extend(profile.rows.iter().flat_map(|(call, row)| {
        row.args.iter().map(move |(arg, values)| format!("only        {}", only(call, *arg, values)))
    }));
    let (calls_hash, files_hash) = hashes(profile);
    // None of the baseline's can be pinned.
    if profile.widened.is_none() {
        lines.push(format!("seccomp     {calls_hash}"));
    }
    lines.extend(files_hash.map(|hash| format!("files       {hash}")));
    let landlock = &profile.landlock;
    match &landlock.widened {
        Some(why) => lines.push(format!("landlock    all of the image may be executed and read: {why}")),
        None => {
            lines.push(format!(
                "landlock    {} rules; kept out: {} programs, {} libraries; {} more libraries can be read only",
                landlock.rules.len(),
                landlock.programs_out,
                landlock.libraries_out,
                landlock.libraries_readable
            ));
            lines.extend(
                landlock
                    .rules
                    .iter()
                    .map(|rule| format!("  {:7} {}", rule.access.word(), rule.path.display())),
            );
        }
    }
    if !profile.denied_by_baseline.is_empty() {
        lines.push(format!("denied      {} (the baseline's word)", profile.denied_by_baseline.join(" ")));
    }
    lines.extend(profile.unresolved.iter().map(|site| format!("unresolved  {}", place(site))));
    lines.extend(profile.notes.iter().map(|note| format!("note        {note}")));
    lines.join("\n")
}

/// Values of an argument, as they are compared.
fn only(call: &str, arg: u8, values: &BTreeSet<u32>) -> String {
    let mask = narrowing(call, arg).map_or(u32::MAX, |known| known.mask);
    let masked = if mask == u32::MAX { String::new() } else { format!(" & {mask:#x}") };
    let values: Vec<String> = values.iter().map(|value| format!("{value:#x}")).collect();
    format!("{call} argument {arg}{masked}: {}", values.join(" "))
}

fn place(site: &Site) -> String {
    if site.at == 0 {
        return format!("{} {}", site.file.display(), site.function);
    }
    format!("{} at {:#x} of {}", site.function, site.at, site.file.display())
}

fn why(profile: &Profile, syscall: &str) -> Answer {
    let Some(row) = profile.rows.get(syscall) else {
        let by_baseline = profile.denied_by_baseline.iter().any(|name| name == syscall);
        let why = if by_baseline {
            "the program can make it, and the baseline denies it"
        } else {
            "nothing makes it"
        };
        return Answer::refused(
            format!("{syscall} is denied: {why}"),
            json!({ "denied": { "syscall": syscall, "why": why } }),
        );
    };
    let mut lines = vec![format!("{syscall} is allowed")];
    for site in &row.reasons {
        lines.push(format!("  {}", place(site)));
        lines.extend(site.callers.iter().map(|caller| format!("    called by {caller}")));
    }
    for (arg, values) in &row.args {
        let known = narrowing(syscall, *arg);
        let (errno, what) = known.map_or(("an errno", ""), |known| (known.errno_name, known.what));
        lines.push(format!("  only {}: {errno} otherwise; {what}", only(syscall, *arg, values)));
    }
    Answer::yes(lines.join("\n"), json!({ "syscall": syscall, "row": row }))
}

/// What the rules give on a file of the image, and why.
fn why_file(profile: &Profile, path: &str) -> Answer {
    let member = profile.members.iter().find(|member| member.path == Path::new(path));
    let because = match member {
        Some(member) => match &member.needed_by {
            Some(by) => format!("  needed by {}: {}", by.display(), member.because),
            None => format!("  {}", member.because),
        },
        None => "  no program or library that the command is known to need; a link leads to another path"
            .to_owned(),
    };
    if let Some(why) = &profile.landlock.widened {
        let text = format!("{path} may be executed and read, as all of the image: {why}\n{because}");
        return Answer::yes(text, json!({ "path": path, "widened": why, "member": member }));
    }
    let Some(rule) = profile.landlock.rule_for(Path::new(path)) else {
        let text = format!("{path} can be neither executed nor read: no rule reaches it\n{because}");
        return Answer::refused(text, json!({ "denied": { "path": path, "member": member } }));
    };
    let text = format!(
        "{path} may be {}: by the rule for {}\n{because}",
        if rule.access.word() == "read" { "read" } else { "executed and read" },
        rule.path.display()
    );
    Answer::yes(text, json!({ "path": path, "rule": rule, "member": member }))
}
