//! A user namespace as a container gets it: which of its ids are which of the node's.
//!
//! ```text
//! shifted     0…65535 → one range of the node's       what is mounted shows the container's own ids
//! root-only   0 → the first id of the range, the rest is itself, but the range    mounts stay as they are
//! as asked    what the request maps (level = "compatible")                        mounts stay as they are, but those that the
//!                                                                                 request id-maps
//! ```
//! A range is 65536 ids that start at a multiple of that: ranges overlap only if they are the same.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

/// How many ids a range has.
pub const RANGE_IDS: u32 = 1 << 16;

/// The ranges that the node gives to pods, by their number: 0x70000000 to 0x7ffdffff.
///
/// Above what systemd gives to its containers, and below its foreign ids; the kubelet's own start at 65536.
///
/// Source: systemd, docs/UIDS-GIDS.md; kubernetes, pkg/kubelet/userns.
pub const NODE_RANGES: std::ops::Range<u16> = 0x7000..0x7ffe;

/// Which user namespace a pod gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserNamespaceRule {
    /// One whose ids are a range of the node's that no other pod has.
    Shifted,
    /// One in which root is nobody on the node.
    RootOnly,
    /// The one that it asks for: the node's own where it asks for none.
    Request,
}

/// Ids in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdExtent {
    /// The first in the container.
    pub inside: u32,
    /// The first on the node.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Whose ids the mounts of a container show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountOwners {
    /// The container's: every mount of files is id-mapped.
    Mapped,
    /// The node's.
    AsTheyAre,
    /// What the request says of each, as by runc; what is made for the container is its root's.
    AsAsked,
}

/// Users or groups: which of the two maps of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// `/proc/PID/uid_map`.
    Users,
    /// `/proc/PID/gid_map`.
    Groups,
}

/// A user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserNamespace {
    /// Its users, in the order of what they are in the container.
    pub uids: Vec<IdExtent>,
    /// Its groups, so too.
    pub gids: Vec<IdExtent>,
    /// Whose ids its mounts show.
    pub owners: MountOwners,
    /// Where it is, if it is joined and not made.
    pub path: Option<PathBuf>,
}

impl UserNamespace {
    /// All ids of a range, and no others.
    #[must_use]
    pub fn shifted(range: u16) -> Self {
        let ids = vec![IdExtent { inside: 0, outside: first_of(range), count: RANGE_IDS }];
        Self::of(ids, MountOwners::Mapped)
    }

    /// The same ids for users and groups.
    #[must_use]
    pub fn of(ids: Vec<IdExtent>, owners: MountOwners) -> Self {
        Self { uids: ids.clone(), gids: ids, owners, path: None }
    }

    /// Root is the first id of a range, of which no other is there; all others are themselves.
    #[must_use]
    pub fn root_only(range: u16) -> Self {
        let first = first_of(range);
        let after = first.saturating_add(RANGE_IDS);
        let ids = vec![
            IdExtent { inside: 0, outside: first, count: 1 },
            IdExtent { inside: 1, outside: 1, count: first - 1 },
            IdExtent { inside: after, outside: after, count: u32::MAX - after },
        ];
        Self::of(ids, MountOwners::AsTheyAre)
    }

    /// Its users or groups.
    #[must_use]
    pub fn ids(&self, which: Ids) -> &[IdExtent] {
        match which {
            Ids::Users => &self.uids,
            Ids::Groups => &self.gids,
        }
    }

    /// What a user or group of the container's is on the node.
    #[must_use]
    pub fn on_node(&self, which: Ids, id: u32) -> Option<u32> {
        let in_it = |extent: &&IdExtent| id >= extent.inside && id - extent.inside < extent.count;
        let extent = self.ids(which).iter().find(in_it)?;
        extent.outside.checked_add(id - extent.inside)
    }

    /// The ranges that no other pod is to get while this namespace is there.
    pub fn ranges(&self) -> impl Iterator<Item = u16> {
        let own = |extent: &&IdExtent| match self.owners {
            MountOwners::Mapped | MountOwners::AsTheyAre => extent.inside == 0,
            // A map of everything takes nothing from anybody.
            MountOwners::AsAsked => extent.outside >= RANGE_IDS && extent.count <= 16 * RANGE_IDS,
        };
        let own = self.uids.iter().chain(&self.gids).filter(own).flat_map(|extent| {
            let last = extent.outside.saturating_add(extent.count.saturating_sub(1));
            (extent.outside / RANGE_IDS)..=(last / RANGE_IDS)
        });
        own.filter_map(|range| u16::try_from(range).ok()).collect::<BTreeSet<_>>().into_iter()
    }

    /// As `/proc/PID/uid_map` or `gid_map` takes it.
    #[must_use]
    pub fn map(&self, which: Ids) -> String {
        let ids = self.ids(which).iter();
        let lines = ids.map(|extent| format!("{} {} {}\n", extent.inside, extent.outside, extent.count));
        lines.collect()
    }

    /// Whether `/proc/PID/uid_map`, as read from the node's own user namespace, says the same.
    #[must_use]
    pub fn is_map(&self, which: Ids, text: &str) -> bool {
        let mut found = Vec::new();
        for line in text.lines() {
            let numbers: Result<Vec<u32>, _> = line.split_whitespace().map(str::parse).collect();
            match numbers.as_deref() {
                Ok(&[inside, outside, count]) => found.push(IdExtent { inside, outside, count }),
                _ => return false,
            }
        }
        found == self.ids(which)
    }
}

fn first_of(range: u16) -> u32 {
    u32::from(range) * RANGE_IDS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shifted_ids_are_those_of_the_range_and_no_others() {
        let namespace = UserNamespace::shifted(0x7000);
        assert_eq!(namespace.on_node(Ids::Users, 0), Some(0x7000_0000));
        assert_eq!(namespace.on_node(Ids::Users, 65535), Some(0x7000_ffff));
        assert_eq!(namespace.on_node(Ids::Users, 65536), None);
        assert_eq!(namespace.map(Ids::Groups), "0 1879048192 65536\n");
        assert_eq!(namespace.ranges().collect::<Vec<_>>(), [0x7000]);
    }

    #[test]
    fn with_root_only_every_id_but_root_and_the_range_is_itself() {
        let namespace = UserNamespace::root_only(0x7fff);
        assert_eq!(namespace.on_node(Ids::Users, 0), Some(0x7fff_0000));
        for id in [1, 1000, 65534, 0x7ffe_ffff, 0x8000_0000, u32::MAX - 1] {
            assert_eq!(namespace.on_node(Ids::Users, id), Some(id));
        }
        for id in [0x7fff_0000, 0x7fff_ffff, u32::MAX] {
            assert_eq!(namespace.on_node(Ids::Users, id), None);
        }
        assert_eq!(namespace.ranges().collect::<Vec<_>>(), [0x7fff]);
    }

    #[test]
    fn ids_that_a_request_maps_are_nobody_elses_but_where_it_maps_all_of_the_nodes() {
        let as_asked = |outside, count| {
            UserNamespace::of(vec![IdExtent { inside: 0, outside, count }], MountOwners::AsAsked)
        };
        assert_eq!(as_asked(100_000, 65_536).ranges().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(as_asked(131_072, 65_536).ranges().collect::<Vec<_>>(), [2]);
        assert_eq!(as_asked(0, u32::MAX).ranges().count(), 0);
    }

    #[test]
    fn map_is_known_again_as_the_kernel_prints_it_and_another_is_not() {
        let namespace = UserNamespace::shifted(1);
        assert!(namespace.is_map(Ids::Groups, "         0      65536      65536\n"));
        for other in ["", "0 65536 65535\n", "0 65536 65536\n1 1 1\n", "0 0 4294967295\n", "0 x 1\n"] {
            assert!(!namespace.is_map(Ids::Groups, other), "{other:?}");
        }
    }
}
