//! The snapshots below the container's own must be the chain of the image's layers.

use bulkhead_model::{ImageFacts, Refusal, Rule, chain_ids};

use crate::{Snapshot, SnapshotKind};

const FIX: &str = "remove the container, pull the image again, and create the container anew";

/// Refuses a chain that is not: `key` (active or view) on the top chain ID, each next one committed on the chain ID
/// below it, the lowest one on nothing.
///
/// # Errors
/// The refusal that names the first that is none.
pub fn check(facts: &ImageFacts, image: &str, key: &str, chain: &[Snapshot]) -> Result<(), Refusal> {
    let refuse = |why: String| {
        Err(Refusal::new(
            Rule::SnapshotChain,
            format!("the container's snapshot is not one of image {image}@{}", facts.target),
            why,
            FIX,
        ))
    };
    let Some((own, layers)) = chain.split_first() else {
        return refuse("containerd knows no snapshot of this container".to_owned());
    };
    if own.name != key {
        return refuse(format!(
            "the chain starts at snapshot {:?}, not at the container's {key:?}",
            own.name
        ));
    }
    match own.kind {
        SnapshotKind::Active | SnapshotKind::View => {}
        SnapshotKind::Committed | SnapshotKind::Unknown => {
            return refuse(format!("snapshot {key:?} is not active: {:?}", own.kind));
        }
    }
    let wanted: Vec<String> = chain_ids(&facts.diff_ids).iter().rev().map(ToString::to_string).collect();
    let mut above = own;
    for (depth, name) in wanted.iter().enumerate() {
        if above.parent != *name {
            return refuse(wrong_parent(above, name));
        }
        let Some(layer) = layers.get(depth) else {
            return refuse(format!("snapshot {name} is missing"));
        };
        if layer.name != *name {
            return refuse(format!("snapshot {:?} stands in place of {name}", layer.name));
        }
        match layer.kind {
            SnapshotKind::Committed => {}
            SnapshotKind::Active | SnapshotKind::View | SnapshotKind::Unknown => {
                return refuse(format!("snapshot {name} is not committed: {:?}", layer.kind));
            }
        }
        above = layer;
    }
    if !above.parent.is_empty() {
        return refuse(format!("below its lowest layer is another snapshot, {:?}", above.parent));
    }
    if layers.len() != wanted.len() {
        return refuse(format!("{} snapshots for {} layers", layers.len(), wanted.len()));
    }
    Ok(())
}

fn wrong_parent(above: &Snapshot, wanted: &str) -> String {
    let Snapshot { name, parent, kind: _ } = above;
    // Source: WithRemappedSnapshot, containerd container_opts_unix.go: "<parent>-<uid>-<gid>".
    if parent.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-')) {
        return format!(
            "parent of snapshot {name:?} is {parent:?}: a copy with remapped owners, which no chain ID names; \
             use a snapshotter that maps ids by mount"
        );
    }
    if parent.is_empty() {
        return format!("snapshot {name:?} has no parent; the image's layers say {wanted}");
    }
    format!("parent of snapshot {name:?} is {parent:?}; the image's layers say {wanted}")
}
