//! For tests of other crates: what containerd would say of a plain container whose chain closes over given facts.
//!
//! Not a way round [`crate::bind`]: it makes input for it.

use std::{collections::BTreeSet, path::PathBuf};

use bulkhead_model::{Digest, ImageFacts, ImageUser, Mount, chain_ids};

use crate::{Claim, CriRecord, Observed, Snapshot, SnapshotKind};

/// Facts about an image of two layers.
#[must_use]
pub fn facts(seed: &str) -> ImageFacts {
    let digest = |part: &str| Digest::of(format!("{seed} {part}").as_bytes());
    ImageFacts {
        target: digest("target"),
        manifest: digest("manifest"),
        config: digest("config"),
        diff_ids: vec![digest("lower layer"), digest("upper layer")],
        layers: vec![digest("lower blob"), digest("upper blob")],
        user: ImageUser("65532".to_owned()),
        volumes: BTreeSet::new(),
        exposed: BTreeSet::new(),
    }
}

/// What containerd says of a container of image `name` with those facts; `mounts` is the request's rootfs as well.
#[must_use]
pub fn observed(facts: &ImageFacts, name: &str) -> Observed {
    let committed = |name: &Digest, parent: Option<&Digest>| Snapshot {
        name: name.to_string(),
        parent: parent.map(ToString::to_string).unwrap_or_default(),
        kind: SnapshotKind::Committed,
    };
    let ids = chain_ids(&facts.diff_ids);
    let mut chain = vec![Snapshot {
        name: "example".to_owned(),
        parent: ids.last().map(ToString::to_string).unwrap_or_default(),
        kind: SnapshotKind::Active,
    }];
    for (depth, id) in ids.iter().enumerate().rev() {
        chain.push(committed(id, depth.checked_sub(1).and_then(|below| ids.get(below))));
    }
    Observed {
        claim: Claim {
            image_name: name.to_owned(),
            snapshotter: "overlayfs".to_owned(),
            snapshot_key: "example".to_owned(),
            cri: CriRecord::None,
        },
        target: facts.target,
        names: BTreeSet::from([name.to_owned()]),
        chain,
        mounts: vec![Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: PathBuf::new(),
            options: vec!["lowerdir=/l2:/l1".to_owned(), "upperdir=/u".to_owned(), "workdir=/w".to_owned()],
        }],
        mount_label: None,
        volumes: Vec::new(),
    }
}
