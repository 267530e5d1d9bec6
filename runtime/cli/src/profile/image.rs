//! Where the files of `bulkhead profile generate` lie, and what is run of them: a directory, or an image of containerd's or of a
//! layout.
//!
//! Invariant: an image's layers are those that its digest names, by the chain of containerd's snapshots, as at a launch.

use std::path::{Path, PathBuf};

use bulkhead_containerd::{CALL_TIMEOUT, Containerd, layer_dirs, names_of};
use bulkhead_gather::{Blobs as _, OciLayout};
use bulkhead_model::{Digest, ImageFacts, Layout, Namespace, Refusal, Rule, chain_ids};
use serde::Deserialize;

use super::unpack;
use crate::{
    answer::Trouble,
    args::Daemon,
    settings::Settings,
    verify::{event_loop, facts, of_layout as of_layout_facts},
};

/// How an image layout is said.
pub(super) const LAYOUT: &str = "oci:";

/// Largest config, in bytes: what the judge reads of one.
const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// What an image's config says of its command.
///
/// Source: OCI image specification, config.md.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    #[serde(rename = "Entrypoint")]
    entrypoint: Option<Vec<String>>,
    #[serde(rename = "Cmd")]
    cmd: Option<Vec<String>>,
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
    #[serde(rename = "WorkingDir")]
    working_dir: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    config: Option<Config>,
}

/// An image, unpacked.
pub(super) struct Unpacked {
    /// Directories of its layers, the lowest first; of a layout one that has what all of them come to.
    pub(super) layers: Vec<PathBuf>,
    /// What its name points to.
    pub(super) digest: String,
    pub(super) config_digest: Digest,
    /// Chain ID of its top layer.
    pub(super) chain: Digest,
    config: Config,
}

impl Unpacked {
    /// Entrypoint and arguments, if it says any.
    pub(super) fn argv(&self) -> Vec<String> {
        let Config { entrypoint, cmd, .. } = &self.config;
        entrypoint.iter().chain(cmd).flatten().cloned().collect()
    }

    pub(super) fn env(&self) -> &[String] {
        self.config.env.as_deref().unwrap_or_default()
    }

    pub(super) fn cwd(&self) -> Option<&str> {
        self.config.working_dir.as_deref().filter(|dir| !dir.is_empty())
    }
}

/// Whether a person means a directory of this machine, and no name of an image.
pub(super) fn is_directory(text: &str) -> bool {
    !text.starts_with(LAYOUT) && (text.starts_with(['/', '.']) || Path::new(text).is_dir())
}

/// An image of a layout, or the refusal. Its files are unpacked for as long as this process lives.
pub(super) fn of_layout(layout: &Layout, place: &str) -> Result<Result<Unpacked, Refusal>, Trouble> {
    let (facts, dir) = match of_layout_facts(place)? {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut blobs = OciLayout::open(Path::new(&dir))?;
    // The judge has read it before.
    let document = blobs.blob(&facts.config, CONFIG_BYTES_MAX)?;
    let document: Document = serde_json::from_slice(&document)
        .map_err(|error| Trouble::Odd(format!("config of {place}: {error}")))?;
    let root = match unpack::unpack(layout, &facts, &mut blobs, place)? {
        Ok(root) => root,
        Err(refusal) => return Ok(Err(refusal)),
    };
    Ok(Ok(Unpacked {
        layers: vec![root],
        digest: facts.target.to_string(),
        config_digest: facts.config,
        chain: chain_ids(&facts.diff_ids).last().copied().unwrap_or(facts.config),
        config: document.config.unwrap_or_default(),
    }))
}

/// An image that containerd has, by name or digest, or the refusal.
pub(super) fn unpacked(
    layout: &Layout,
    daemon: &Daemon,
    namespace: &Namespace,
    image: &str,
) -> Result<Result<Unpacked, Refusal>, Trouble> {
    let socket = match &daemon.address {
        Some(address) => address.clone(),
        None => Settings::read(daemon)?.socket(daemon),
    };
    let called = match image.parse::<Digest>() {
        Err(_) => None,
        Ok(digest) => event_loop()?.block_on(async {
            let containerd = Containerd::connect(&socket, namespace, CALL_TIMEOUT).await?;
            Ok::<_, Trouble>(names_of(&containerd, &digest).await?.pop_first())
        })?,
    };
    let image = called.as_deref().unwrap_or(image);
    let facts = match facts(layout, &socket, namespace, image)? {
        Ok(facts) => facts,
        Err(refusal) => return Ok(Err(refusal)),
    };
    event_loop()?.block_on(async {
        let containerd = Containerd::connect(&socket, namespace, CALL_TIMEOUT).await?;
        let document = containerd.config(&facts).await?;
        // It hashed to its name, and the judge has read it before.
        let document: Document = serde_json::from_slice(&document)
            .map_err(|error| Trouble::Odd(format!("config of {image}: {error}")))?;
        let layers = match layers(&containerd, &facts, image).await? {
            Ok(layers) => layers,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(Unpacked {
            layers,
            digest: facts.target.to_string(),
            config_digest: facts.config,
            chain: chain_ids(&facts.diff_ids).last().copied().unwrap_or(facts.config),
            config: document.config.unwrap_or_default(),
        }))
    })
}

async fn layers(
    containerd: &Containerd,
    facts: &ImageFacts,
    image: &str,
) -> Result<Result<Vec<PathBuf>, Refusal>, Trouble> {
    let mut why = "no snapshotter of containerd has unpacked it".to_owned();
    for unpacked in containerd.unpacked(facts).await? {
        if let Err(refusal) = unpacked.check(facts, image) {
            return Ok(Err(refusal));
        }
        match layer_dirs(&unpacked.mounts, facts.diff_ids.len()) {
            Ok(dirs) => return Ok(Ok(dirs)),
            Err(lacking) => why = format!("snapshotter {}: {lacking}", unpacked.snapshotter),
        }
    }
    Ok(Err(Refusal::new(
        Rule::ImageContents,
        format!("the layers of image {image} are not at hand"),
        why,
        "unpack it with the overlayfs snapshotter (ctr images pull, or crictl pull), or name a directory",
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn command_is_entrypoint_with_arguments_and_what_is_null_or_missing_says_nothing() {
        let read = |text: &str| {
            let document: Document = serde_json::from_str(text).unwrap();
            let config = document.config.unwrap_or_default();
            let none = Digest::of(b"");
            Unpacked { layers: Vec::new(), digest: String::new(), config_digest: none, chain: none, config }
        };
        let whole =
            read(r#"{"config":{"Entrypoint":["/a","b"],"Cmd":["c"],"Env":["A=b"],"WorkingDir":"/w"}}"#);
        assert_eq!(whole.argv(), ["/a", "b", "c"]);
        assert_eq!((whole.env(), whole.cwd()), (&["A=b".to_owned()][..], Some("/w")));
        for bare in ["{}", r#"{"config":null}"#, r#"{"config":{"Cmd":null,"WorkingDir":""}}"#] {
            assert!(read(bare).argv().is_empty() && read(bare).cwd().is_none(), "{bare}");
        }
    }

    #[test]
    fn directory_is_told_from_an_image() {
        for (text, directory) in [
            ("/srv/root", true),
            ("./root", true),
            ("registry.example/app:1", false),
            ("oci:/srv/layout", false),
        ] {
            assert_eq!(is_directory(text), directory, "{text}");
        }
    }
}
