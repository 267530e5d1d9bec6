//! The image config: layers, platform, USER, VOLUMEs and EXPOSE.

use std::collections::BTreeSet;

use bulkhead_model::{Digest, IMAGE_LAYERS_MAX, ImageUser};

use crate::{
    document::PlatformSaid,
    error::Flaw,
    json::{self, Json, JsonFlaw},
    platform::{Match, Platform},
};

/// What of a config matters.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) user: ImageUser,
    pub(crate) volumes: BTreeSet<String>,
    pub(crate) exposed: BTreeSet<u16>,
}

/// Reads a config. Where an index said the platform, containerd does not ask the config, and neither do we.
pub(crate) fn read(digest: &Digest, bytes: &[u8], platform: PlatformSaid) -> Result<Config, Flaw> {
    let flaw = Flaw::json("config", digest);
    let object = json::parse(bytes).map_err(&flaw)?;
    match platform {
        PlatformSaid::ByIndex => {}
        PlatformSaid::Not => {
            let found = Platform::read(&object).map_err(&flaw)?;
            if found.suits() != Some(Match::Amd64) {
                return Err(Flaw::Platform { config: *digest, found: found.name() });
            }
        }
    }
    let rootfs = object.object("rootfs").map_err(&flaw)?.ok_or_else(|| flaw(JsonFlaw::Missing("rootfs")))?;
    let kind = rootfs.text("type").map_err(&flaw)?;
    if kind != "layers" {
        return Err(Flaw::RootfsType { config: *digest, found: kind.chars().take(40).collect() });
    }
    let list = rootfs.list("diff_ids").map_err(&flaw)?.unwrap_or_default();
    if list.is_empty() {
        return Err(Flaw::NoLayers(*digest));
    }
    if list.len() > IMAGE_LAYERS_MAX {
        return Err(Flaw::Layers { config: *digest, found: list.len() });
    }
    let diff_ids = list
        .iter()
        .map(|value| match value {
            Json::Text(text) => text.parse().ok(),
            _ => None,
        })
        .collect::<Option<Vec<Digest>>>()
        .ok_or_else(|| flaw(JsonFlaw::Type { field: "diff_ids", wanted: "a list of sha256 digests" }))?;
    let (user, volumes, exposed) = match object.object("config").map_err(&flaw)? {
        None => (String::new(), BTreeSet::new(), BTreeSet::new()),
        Some(config) => (
            config.text("User").map_err(&flaw)?.to_owned(),
            match config.object("Volumes").map_err(&flaw)? {
                None => BTreeSet::new(),
                Some(volumes) => volumes.keys().map(ToOwned::to_owned).collect(),
            },
            match config.object("ExposedPorts").map_err(&flaw)? {
                None => BTreeSet::new(),
                Some(ports) => ports.keys().filter_map(tcp_port).collect(),
            },
        ),
    };
    Ok(Config { diff_ids, user: ImageUser(user), volumes, exposed })
}

/// The port of `80/tcp` or `80`. What is neither exposes no port of TCP.
///
/// Source: OCI image spec, config.md, `ExposedPorts`.
fn tcp_port(text: &str) -> Option<u16> {
    let port = text.strip_suffix("/tcp").unwrap_or(text);
    port.parse().ok().filter(|port| *port != 0 && text.starts_with(|first: char| first.is_ascii_digit()))
}
