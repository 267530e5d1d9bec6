//! `bulkhead trust`: signatures kept on this node, so that launches need no network.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use bulkhead_containerd::proven_signatures;
use bulkhead_gather::{Access, Added, Entry, Fetched, GatherError, Harvest, Reference, Skipped, Store};
use bulkhead_model::{Digest, Layout, SignatureFormat};
use serde_json::{Value, json};

use crate::{
    answer::{Answer, Trouble, full},
    args::{DaemonConfig, RegistryOptions},
    settings::Settings,
};

/// Where containerd is told of mirrors and certificates when no one says otherwise.
///
/// Source: containerd docs/hosts.md.
pub(crate) const HOSTS_DIR: &str = "/etc/containerd/certs.d";

/// What is said of a configuration that `containerd` itself calls deprecated.
pub(crate) const OLD_REGISTRIES: &str = "registry.mirrors and registry.configs of containerd's configuration are not \
     read: write them as HOST/hosts.toml below config_path, as containerd 1.5 and later want them";

/// What every answer ends with: a file that is kept proves nothing yet.
const NOTE: &str = "kept, not yet believed: bulkhead verify IMAGE says which of them count, and for whom";

pub(crate) fn import(layout: &Layout, paths: &[PathBuf]) -> Result<Answer, Trouble> {
    let mut harvest = Harvest::default();
    for path in paths {
        let Harvest { found, skipped } = bulkhead_gather::import(path)?;
        harvest.found.extend(found);
        harvest.skipped.extend(skipped);
    }
    let places: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    keep(layout, &harvest, &places.join(", "), &[])
}

pub(crate) fn fetch(
    layout: &Layout,
    image: &str,
    options: &RegistryOptions,
    config: &DaemonConfig,
) -> Result<Answer, Trouble> {
    let reference: Reference = match image.parse() {
        Ok(reference) => reference,
        Err(error @ GatherError::Reference { .. }) => return Ok(Answer::usage(&full(&error))),
        Err(error) => return Err(error.into()),
    };
    // Somebody who says where needs no containerd.
    let settings = match &options.hosts_dir {
        Some(_) => Settings::default(),
        None => Settings::read_of(config)?,
    };
    let Fetched { target, subjects: _, harvest, mut notes } =
        bulkhead_gather::fetch(&reference, &access(options, &settings))?;
    if settings.old_registries {
        notes.push(OLD_REGISTRIES.to_owned());
    }
    keep(layout, &harvest, &format!("{reference} ({target})"), &notes)
}

/// What the options, containerd's configuration and the environment say.
pub(crate) fn access(options: &RegistryOptions, settings: &Settings) -> Access {
    let RegistryOptions { hosts_dir, docker_config, plain_http, timeout } = options;
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker_config = docker_config.clone().or_else(|| {
        let dir = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
        dir.map(|dir| dir.join("config.json"))
    });
    Access {
        hosts_dirs: match hosts_dir {
            Some(dir) => vec![dir.clone()],
            None if settings.hosts_dirs.is_empty() => vec![HOSTS_DIR.into()],
            None => settings.hosts_dirs.clone(),
        },
        docker_config,
        plain_http: *plain_http,
        time_max: Duration::from_secs(*timeout),
    }
}

/// Asks a registry, and keeps what it has.
pub(crate) fn fetch_and_keep(
    layout: &Layout,
    reference: &Reference,
    access: &Access,
) -> Result<Fetched, Trouble> {
    let fetched = bulkhead_gather::fetch(reference, access)?;
    let proven = proven(layout);
    let store = Store::making_room(layout, &proven);
    for found in &fetched.harvest.found {
        store.add(found)?;
    }
    Ok(fetched)
}

/// What stays where a subject has too many files: what a judge has proven. Where that cannot be told, everything stays.
fn proven(layout: &Layout) -> impl Fn() -> Option<BTreeSet<Digest>> {
    move || proven_signatures(layout).ok()
}

fn keep(layout: &Layout, harvest: &Harvest, from: &str, notes: &[String]) -> Result<Answer, Trouble> {
    let proven = proven(layout);
    let store = Store::making_room(layout, &proven);
    let (mut new, mut known) = (0, 0);
    let mut kept: BTreeMap<Digest, Vec<Value>> = BTreeMap::new();
    let mut lines = Vec::new();
    for found in &harvest.found {
        let added = store.add(found)?;
        let (word, count) = match added {
            Added::New => ("kept", &mut new),
            Added::Known => ("had", &mut known),
        };
        *count += 1;
        let blob = Digest::of(&found.bytes);
        lines.push(format!("{word} {blob} ({}) about {}", format_name(found.format), found.subject));
        let file = json!({ "file": blob, "format": found.format, "new": added == Added::New });
        kept.entry(found.subject).or_default().push(file);
    }
    for Skipped { what, why } in &harvest.skipped {
        lines.push(format!("skipped {what}: {why}"));
    }
    lines.extend(notes.iter().map(|note| format!("note: {note}")));
    let skipped: Vec<Value> =
        harvest.skipped.iter().map(|Skipped { what, why }| json!({ "what": what, "why": why })).collect();
    let subjects: Vec<Value> =
        kept.into_iter().map(|(subject, files)| json!({ "subject": subject, "files": files })).collect();
    let json = json!({ "from": from, "new": new, "known": known, "subjects": subjects, "skipped": skipped, "notes": notes });
    if new + known == 0 {
        lines.push(format!("no signature in {from}"));
        return Ok(Answer::refused(lines.join("\n"), json));
    }
    lines.push(format!("{new} new, {known} known; {NOTE}"));
    Ok(Answer::yes(lines.join("\n"), json))
}

pub(crate) fn list(layout: &Layout, digest: Option<&Digest>) -> Result<Answer, Trouble> {
    let store = Store::of(layout);
    let entries = match digest {
        None => store.list()?,
        Some(digest) => store.about(digest)?,
    };
    let mut lines = Vec::new();
    let mut last = None;
    for Entry { subject, blob, format, bytes } in &entries {
        if last != Some(subject) {
            lines.push(format!("about {subject}"));
            last = Some(subject);
        }
        lines.push(format!("  {blob} {} {bytes} bytes", format_name(*format)));
    }
    let json: Vec<Value> = entries
        .iter()
        .map(|Entry { subject, blob, format, bytes }| {
            json!({ "subject": subject, "file": blob, "format": format, "bytes": bytes })
        })
        .collect();
    lines.push(match entries.len() {
        0 => "nothing is kept".to_owned(),
        files => format!("{files} files; {NOTE}"),
    });
    Ok(Answer::yes(lines.join("\n"), json!({ "files": json })))
}

pub(crate) fn remove(layout: &Layout, digest: &Digest, file: Option<&Digest>) -> Result<Answer, Trouble> {
    let removed = Store::of(layout).remove(digest, file)?;
    let json = json!({ "removed": removed });
    if removed == 0 {
        return Ok(Answer::refused(format!("nothing is kept about {digest}"), json));
    }
    let text = format!("removed {removed} files about {digest}: launches no longer count them");
    Ok(Answer::yes(text, json))
}

fn format_name(format: SignatureFormat) -> &'static str {
    match format {
        SignatureFormat::Bundle => "bundle",
        SignatureFormat::SimpleSigning => "simple signing",
    }
}
