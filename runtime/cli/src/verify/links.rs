//! Each link of an image's chain, and what proves it: from the name down to the files.
//!
//! ```text
//! name ─► target ─► index ─► manifest ─► config ─► diff IDs ─► chain IDs ─► snapshots ─► contents
//!                               └─► layers' blobs ─────────────────────────────────────────┘
//! ```
//! The judge has hashed what is above the layers; what is below is asked of containerd, or of a layout, here.

use std::collections::BTreeSet;

use bulkhead_containerd::{Containerd, Contents, Judge, VerifyError, contents_facts, start_layers_alone};
use bulkhead_model::{
    ContentsFacts, ContentsFlaw, ContentsRule, Digest, ImageFacts, Layout, Refusal, chain_ids,
};
use serde_json::{Value, json};

use crate::answer::refusal_json;

/// How long a comparison may take: somebody looks on, and can end it.
const COMPARE_MAX: std::time::Duration = std::time::Duration::from_secs(1800);

/// How many other names of an image are told.
const NAMES_SAID_MAX: usize = 8;

/// An image, and where it was found.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) facts: ImageFacts,
    pub(super) place: Place,
    /// What is there of the layers' blobs, the lowest first.
    pub(super) blobs: Vec<Blob>,
}

/// Where an image was found.
pub(super) enum Place {
    /// In containerd, by these names of the namespace.
    Containerd(BTreeSet<String>),
    /// In a layout.
    Layout(String),
}

/// The blob of one layer.
pub(super) enum Blob {
    /// containerd has it, with so many bytes, which are hashed where layers are compared.
    Kept(u64),
    /// Its bytes were hashed now.
    Hashed(u64),
    /// Its bytes hash to something else.
    Spoilt(Digest),
    /// It is not there.
    Missing,
}

/// One link.
pub(super) struct Link {
    name: String,
    digest: Digest,
    evidence: String,
}

impl Link {
    pub(super) fn line(&self) -> String {
        let Link { name, digest, evidence } = self;
        format!("{name:<9} {digest}  {evidence}")
    }

    pub(super) fn json(&self) -> Value {
        let Link { name, digest, evidence } = self;
        json!({ "link": name.trim(), "digest": digest, "evidence": evidence })
    }
}

impl Found {
    /// The links from the name to the chain of layers.
    pub(super) fn links(&self) -> Vec<Link> {
        let facts = &self.facts;
        let (target, manifest, config) = (&facts.target, &facts.manifest, &facts.config);
        let (layers, diff_ids) = (&facts.layers, &facts.diff_ids);
        let mut links = Vec::new();
        let mut link = |name: &str, digest: &Digest, evidence: String| {
            links.push(Link { name: name.to_owned(), digest: *digest, evidence });
        };
        link("target", target, self.pointed_to_by());
        let hashed = "its bytes hash to this";
        if target != manifest {
            link("index", target, format!("{hashed}; of its platforms linux/amd64 is the manifest below"));
        }
        let by = if target == manifest { "it is the target" } else { "named by the index" };
        link("manifest", manifest, format!("{by}; {hashed}"));
        link("config", config, format!("named by the manifest; {hashed}"));
        let chain = chain_ids(diff_ids);
        let layers = layers.iter().zip(diff_ids).zip(chain.iter().zip(&self.blobs));
        for (number, ((layer, diff_id), (chain_id, blob))) in layers.enumerate() {
            link(
                &format!("layer {}", number + 1),
                layer,
                format!("named by the manifest; {}", blob.evidence()),
            );
            link("  diff", diff_id, "named by the config: the hash of the unpacked tar".to_owned());
            let of = if number == 0 {
                "the same, for nothing is below it"
            } else {
                "hash of the chain below and this"
            };
            link("  chain", chain_id, of.to_owned());
        }
        links
    }

    fn pointed_to_by(&self) -> String {
        match &self.place {
            Place::Layout(place) => format!("index.json of {place} points to it"),
            Place::Containerd(names) => {
                let others: Vec<&str> =
                    names.iter().filter(|name| **name != self.name).map(String::as_str).collect();
                let more = others.len().saturating_sub(NAMES_SAID_MAX);
                let mut said = others.iter().take(NAMES_SAID_MAX).copied().collect::<Vec<_>>().join(", ");
                if more > 0 {
                    said.push_str(&format!(" and {more} more"));
                }
                match said.is_empty() {
                    true => "containerd's image of that name points to it".to_owned(),
                    false => format!("containerd's image of that name points to it; so does {said}"),
                }
            }
        }
    }
}

impl Blob {
    fn evidence(&self) -> String {
        match self {
            Blob::Kept(bytes) => format!("{bytes} bytes in the content store"),
            Blob::Hashed(bytes) => format!("its {bytes} bytes hash to this"),
            Blob::Spoilt(found) => format!("SPOILT: the bytes in its place hash to {found}"),
            Blob::Missing => "its blob is not there".to_owned(),
        }
    }
}

/// The layers in one snapshotter.
pub(super) struct Unpacked {
    snapshotter: String,
    layers: usize,
    pub(super) chain: Result<(), Refusal>,
    pub(super) files: Files,
}

/// What is known of the files of the layers.
pub(super) enum Files {
    /// Why nobody looked.
    NotAsked(&'static str),
    /// This.
    Found(ContentsFacts),
}

/// Looks at what containerd has unpacked, and compares its files as far as `rule` wants; none are compared for a reason
/// that is given.
pub(super) async fn unpacked(
    containerd: &Containerd,
    layout: &Layout,
    judge: &Judge,
    found: &Found,
    rule: Result<ContentsRule, &'static str>,
) -> Result<Vec<Unpacked>, VerifyError> {
    let contents = Contents {
        start: start_layers_alone(judge.program.clone()),
        program: judge.program.clone(),
        wait_max: COMPARE_MAX,
        time_max: COMPARE_MAX,
    };
    let mut all = Vec::new();
    for place in containerd.unpacked(&found.facts).await? {
        let chain = place.check(&found.facts, &found.name);
        let files = match (rule, &chain) {
            (Err(why), _) => Files::NotAsked(why),
            (Ok(ContentsRule::Chain), _) => Files::NotAsked("policy asks for the chain alone"),
            (Ok(_), Err(_)) => Files::NotAsked("the chain does not close"),
            (Ok(rule), Ok(())) => {
                let mounts = &place.mounts;
                Files::Found(contents_facts(containerd, layout, &contents, &found.facts, mounts, rule).await?)
            }
        };
        all.push(Unpacked { layers: place.layers().count(), snapshotter: place.snapshotter, chain, files });
    }
    Ok(all)
}

impl Unpacked {
    pub(super) fn lines(&self) -> [String; 2] {
        let Unpacked { snapshotter, layers, chain, files } = self;
        let chain = match chain {
            Ok(()) => format!("{layers} committed, named by the chain IDs, each on the one below it"),
            Err(refusal) => format!("NOT THE CHAIN: {}", refusal.why),
        };
        [
            format!("snapshots {snapshotter}: {chain}"),
            format!("contents  {snapshotter}: {}", files.evidence()),
        ]
    }

    pub(super) fn json(&self) -> Value {
        let Unpacked { snapshotter, layers, chain, files } = self;
        let chain = match chain {
            Ok(()) => json!("closed"),
            Err(refusal) => refusal_json(refusal),
        };
        let facts = match files {
            Files::NotAsked(_) => Value::Null,
            Files::Found(facts) => json!(facts),
        };
        json!({ "snapshotter": snapshotter, "layers": layers, "chain": chain, "contents": facts,
                "evidence": files.evidence() })
    }
}

impl Files {
    fn evidence(&self) -> String {
        match self {
            Files::NotAsked(why) => format!("not looked at: {why}"),
            Files::Found(ContentsFacts::Chain) => "not looked at: policy asks for the chain alone".to_owned(),
            Files::Found(ContentsFacts::Receipt) => {
                "each file is as it was when it was compared with the layer's tar (receipts)".to_owned()
            }
            Files::Found(ContentsFacts::Compared) => {
                "each file was compared with the layer's tar, now".to_owned()
            }
            Files::Found(ContentsFacts::Unproven(flaw)) => format!("NOT PROVEN: {}", flawed(flaw)),
        }
    }
}

fn flawed(flaw: &ContentsFlaw) -> String {
    match flaw {
        ContentsFlaw::Different { layer, chain: _, path, what } => {
            format!("file {path} of layer {layer} {what}")
        }
        ContentsFlaw::Tar { layer, blob: _, why } => format!("layer {layer} {why}"),
        ContentsFlaw::Spoilt { blob } => format!("{blob} does not hash to its name"),
        ContentsFlaw::Missing { layer, blob: _ } => format!("the blob of layer {layer} is not there"),
        ContentsFlaw::OwnLayer { path } => format!("the view's own layer has {path}"),
        ContentsFlaw::Snapshotter { why } => why.clone(),
    }
}
