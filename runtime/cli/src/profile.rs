//! `bulkhead profile`: which system calls a command of an image can make, and why.

mod image;

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use bulkhead_generate::{Command, DirectoryCache, FilesError, Layer, Limits, Profile, Root, Site, generate};
use bulkhead_model::Layout;
use serde_json::json;

use crate::{
    answer::{Answer, Trouble},
    args::{ExportFormat, GenerateOptions, ProfileCommand},
};

/// PATH of an image that says none.
///
/// Source: `defaultUnixEnv`, containerd pkg/oci/spec.go.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest profile that is read, in bytes.
const PROFILE_BYTES_MAX: u64 = 64 << 20;
/// Variables that decide what is loaded.
const LOADER_VARIABLES: &[&str] = &[
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

pub(crate) fn profile(layout: &Layout, command: ProfileCommand) -> Result<Answer, Trouble> {
    match command {
        ProfileCommand::Generate(options) => make(layout, *options),
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
                    "note: this format cannot say which arguments of {} the baseline denies; the export allows all",
                    exported.wider.join(", ")
                );
            }
            Ok(Answer::yes(
                exported.text.trim_end(),
                json!({ "text": exported.text, "wider": exported.wider }),
            ))
        }
    }
}

fn make(layout: &Layout, options: GenerateOptions) -> Result<Answer, Trouble> {
    let GenerateOptions { root, namespace, daemon, lower, env, cwd, exec, image, no_cache, output, argv } =
        options;
    let found = match image::is_directory(&root) {
        true => None,
        false => match image::unpacked(layout, &daemon, &namespace, &root)? {
            Ok(found) => Some(found),
            Err(refusal) => return Ok(refusal.into()),
        },
    };
    // What is said beats what the image says.
    let (directories, argv, env, cwd, image) = match &found {
        None => {
            let directories = std::iter::once(PathBuf::from(&root)).chain(lower).collect();
            (directories, argv, env, cwd, image)
        }
        Some(found) => (
            found.layers.clone(),
            if argv.is_empty() { found.argv() } else { argv },
            env.into_iter().chain(found.env().iter().cloned()).collect(),
            cwd.or_else(|| found.cwd().map(str::to_owned)),
            image.or_else(|| Some(found.digest.clone())),
        ),
    };
    if argv.is_empty() {
        return Ok(Answer::usage(&format!("{root} names no command: say one, after --")));
    }
    let cwd = cwd.unwrap_or_else(|| "/".to_owned());
    let directories: Vec<PathBuf> = directories;
    let limits = Limits::everyday();
    let mut layers = Vec::new();
    for directory in &directories {
        let layer = Layer::open(directory);
        layers.push(layer.map_err(|source| Trouble::File {
            call: "open(2)",
            path: directory.clone(),
            source,
        })?);
    }
    let root = Root::overlay(layers, &limits);
    let variable = |name: &str| env.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let command = Command {
        argv,
        path: variable("PATH").unwrap_or(PATH).split(':').map(str::to_owned).collect(),
        cwd,
        loader_environment: LOADER_VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), variable(name)?.to_owned())))
            .collect(),
        exec: exec.iter().map(|command| command.split_whitespace().map(str::to_owned).collect()).collect(),
    };
    let made = if no_cache {
        generate(&root, image.as_deref(), &command, &bulkhead_generate::NoCache, &limits)
    } else {
        let directory = layout.analysis_dir();
        let cache = DirectoryCache::open(&directory).map_err(|source| Trouble::File {
            call: "mkdir(2)",
            path: directory,
            source,
        })?;
        generate(&root, image.as_deref(), &command, &cache, &limits)
    };
    let profile = made.map_err(|error| match error {
        FilesError::Io { call, path, source } => Trouble::File { call, path, source },
        FilesError::TooMuch { .. } => {
            Trouble::Configuration { path: PathBuf::from("/"), why: error.to_string() }
        }
    })?;
    if let Some(output) = output {
        let mut text = serde_json::to_string_pretty(&profile).unwrap_or_default();
        text.push('\n');
        std::fs::write(&output, text).map_err(|source| Trouble::File {
            call: "write(2)",
            path: output,
            source,
        })?;
    }
    Ok(Answer::yes(shown(&profile), json!({ "profile": profile })))
}

fn read(path: &Path) -> Result<Profile, Trouble> {
    let failed = |call| move |source| Trouble::File { call, path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed("open(2)"))?;
    file.take(PROFILE_BYTES_MAX).read_to_string(&mut text).map_err(failed("read(2)"))?;
    let broken = |why: String| Trouble::Profile { path: path.to_owned(), why };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
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
    for (at, values) in &row.args {
        lines.push(format!("  argument {at} is one of {values:?}"));
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
