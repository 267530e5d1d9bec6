//! Signatures of an image from its registry: the referrers API, its fallback tag, and cosign 2's tags.
//!
//! Every mirror that containerd's configuration names for pulling is asked, and the registry itself: a mirror often has
//! the image and not its signatures. What one of them does not have, or refuses, is noted; it is an error only where no
//! one answered.

mod client;
mod credentials;
mod endpoint;
mod hosts;
mod http;
mod reference;

use std::{path::PathBuf, time::Duration};

use bulkhead_model::{Digest, SIGNATURE_FILES_MAX};

pub use reference::Reference;

use crate::{
    GatherError, Harvest,
    manifest::{Document, Platform, signatures},
};
use client::Client;
use credentials::Credentials;
use http::Budget;

/// Most bytes that one fetch reads, over all mirrors.
const FETCH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most manifests of an index that signatures are looked for.
const SUBJECTS_MAX: usize = 8;

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Access {
    /// containerd's `config_path`: directories with `HOST/hosts.toml`.
    pub hosts_dirs: Vec<PathBuf>,
    /// Docker's `config.json`, if there is one.
    pub docker_config: Option<PathBuf>,
    /// Without TLS where no `hosts.toml` says how.
    pub plain_http: bool,
    /// How long one fetch may take.
    pub time_max: Duration,
}

/// What a registry had.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The digest that was asked about, or that the tag points to.
    pub target: Digest,
    /// The target, and the manifests of this platform where it is an index.
    pub subjects: Vec<Digest>,
    /// The signatures.
    pub harvest: Harvest,
    /// What did not answer, or not as it should.
    pub notes: Vec<String>,
}

/// Looks for the signatures of an image, wherever it may be pulled from.
///
/// # Errors
/// Nobody answered, or nobody knows the image.
pub fn fetch(reference: &Reference, access: &Access) -> Result<Fetched, GatherError> {
    let credentials = Credentials::read(access.docker_config.as_deref())?;
    let endpoints = hosts::endpoints(reference.host(), access)?;
    let mut budget = Budget::new(access.time_max, FETCH_BYTES_MAX);
    let mut fetched: Option<Fetched> = None;
    let mut notes = credentials.notes().to_vec();
    let mut first_error = None;
    for endpoint in endpoints {
        let name = endpoint.base.clone();
        let asked = Client::new(endpoint, reference, &credentials, &mut budget)
            .and_then(|mut client| gather(&mut client, reference));
        match (asked, &mut fetched) {
            (Ok(found), None) => fetched = Some(found),
            (Ok(found), Some(all)) if found.target == all.target => {
                for file in found.harvest.found {
                    all.harvest.add(file);
                }
                all.harvest.skipped.extend(found.harvest.skipped);
            }
            (Ok(found), Some(all)) => notes.push(format!(
                "{name}: the tag points to {} there, not to {}: its signatures are left out",
                found.target, all.target
            )),
            (Err(error), _) => {
                notes.push(format!("{name}: {}", full(&error)));
                first_error.get_or_insert(error);
            }
        }
    }
    match (fetched, first_error) {
        (Some(fetched), _) => Ok(Fetched { notes, ..fetched }),
        (None, Some(error)) => Err(error),
        (None, None) => Err(GatherError::Missing(format!("a host to pull {reference} from"))),
    }
}

fn full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Everything that one registry has about one image.
fn gather(client: &mut Client<'_>, reference: &Reference) -> Result<Fetched, GatherError> {
    let (target, bytes) = match client.manifest(&reference.to_ask())? {
        Some(found) => found,
        // Signatures can be fetched of a digest whose image this registry does not have.
        None => match reference.digest() {
            Some(digest) => (*digest, b"{}".to_vec()),
            None => return Err(GatherError::Missing(reference.to_string())),
        },
    };
    let mut subjects = vec![target];
    let index = Document::parse(&target.to_string(), &bytes)?;
    let ours = |platform: &Platform| platform.os == "linux" && platform.architecture == "amd64";
    for manifest in index.manifests.iter().filter(|manifest| manifest.platform.as_ref().is_some_and(ours)) {
        if let Ok(digest) = manifest.digest.parse()
            && subjects.len() <= SUBJECTS_MAX
        {
            subjects.push(digest);
        }
    }
    let mut harvest = Harvest::default();
    for subject in &subjects {
        about(client, subject, &mut harvest)?;
    }
    Ok(Fetched { target, subjects, harvest, notes: Vec::new() })
}

fn about(client: &mut Client<'_>, subject: &Digest, harvest: &mut Harvest) -> Result<(), GatherError> {
    let before = harvest.found.len();
    for descriptor in client.referrers(subject, harvest)? {
        let Ok(digest) = descriptor.digest.parse::<Digest>() else {
            harvest.skip(&descriptor.digest, "it is no SHA-256 digest");
            continue;
        };
        if harvest.found.len() - before >= SIGNATURE_FILES_MAX {
            harvest
                .skip(digest.to_string(), format!("{SIGNATURE_FILES_MAX} signatures were found before it"));
            break;
        }
        let Some((_, bytes)) = client.manifest(&digest.to_string())? else { continue };
        let document = match Document::parse(&digest.to_string(), &bytes) {
            Ok(document) => document,
            Err(error) => {
                harvest.skip(digest.to_string(), error);
                continue;
            }
        };
        let about = document.subject.as_ref().map(|subject| subject.digest.as_str());
        if !document.holds_signatures() {
            continue;
        }
        if about != Some(subject.to_string().as_str()) {
            harvest.skip(digest.to_string(), format!("listed as about {subject}, it says {about:?}"));
            continue;
        }
        signatures(&document, Some(subject), client, harvest)?;
    }
    for suffix in ["sig", "att"] {
        let tag = format!("sha256-{}.{suffix}", subject.hex());
        let Some((digest, bytes)) = client.manifest(&tag)? else { continue };
        match Document::parse(&tag, &bytes) {
            Ok(document) => signatures(&document, Some(subject), client, harvest)?,
            Err(error) => harvest.skip(digest.to_string(), error),
        }
    }
    Ok(())
}
