//! What containerd says of one container. Each function is one call, or several of a kind at once.

use std::collections::BTreeSet;

use bulkhead_binding::{Claim, CriRecord, Snapshot, SnapshotKind};
use bulkhead_model::{ContainerId, Digest, Mount, chain_ids};
use containerd_client::services::v1::{
    GetContainerRequest, GetImageRequest, ListImagesRequest,
    snapshots::{Kind, MountsRequest, StatSnapshotRequest},
};
use tokio::task::JoinSet;

use crate::{Containerd, Failure, client::found, cri};

/// Most names that are collected for one digest: more is an attack on whoever must judge them all.
const NAMES_MAX: usize = 1000;

impl Containerd {
    /// The container's record.
    pub(crate) async fn claim(&self, id: &ContainerId) -> Result<Claim, Failure> {
        const CALL: &str = "containers.Get";
        let request = self.request(GetContainerRequest { id: id.to_string() });
        let mut client = self.containers();
        let answer = self.answer(CALL, id.as_str(), client.get(request)).await?.into_inner();
        let container = answer.container.ok_or_else(|| Failure::Answer {
            call: CALL,
            subject: id.to_string(),
            field: "container",
        })?;
        let cri =
            cri::record(self.namespace(), id.as_str(), &container.extensions, |any| any.value.as_slice())?;
        Ok(Claim {
            image_name: container.image,
            snapshotter: container.snapshotter,
            snapshot_key: container.snapshot_key,
            cri,
        })
    }

    /// What a name points to; `None` if there is no such name.
    pub(crate) async fn target(&self, name: &str) -> Result<Option<Digest>, Failure> {
        const CALL: &str = "images.Get";
        let request = self.request(GetImageRequest { name: name.to_owned() });
        let mut client = self.images();
        let Some(answer) = found(self.answer(CALL, name, client.get(request)).await)? else {
            return Ok(None);
        };
        let target =
            answer.image.and_then(|image| image.target).and_then(|target| target.digest.parse().ok());
        target.map(Some).ok_or_else(|| Failure::Answer {
            call: CALL,
            subject: name.to_owned(),
            field: "sha256 digest",
        })
    }

    /// What the claimed name points to. In CRI any reference of the image may be claimed, and may be gone while
    /// the plugin still keeps the image under its config digest.
    pub(crate) async fn claimed_target(&self, claim: &Claim) -> Result<Option<Digest>, Failure> {
        if let Some(target) = self.target(&claim.image_name).await? {
            return Ok(Some(target));
        }
        match &claim.cri {
            CriRecord::None | CriRecord::Sandbox => Ok(None),
            CriRecord::Container(record) => self.target(&record.config.to_string()).await,
        }
    }

    /// All names that point to `target`.
    pub(crate) async fn names(&self, target: &Digest) -> Result<BTreeSet<String>, Failure> {
        const CALL: &str = "images.List";
        let filters = vec![format!("target.digest==\"{target}\"")];
        let mut client = self.images();
        let subject = target.to_string();
        let request = self.request(ListImagesRequest { filters });
        let images = self.answer(CALL, &subject, client.list(request)).await?.into_inner().images;
        let names: BTreeSet<String> = images
            .into_iter()
            .filter(|image| image.target.as_ref().is_some_and(|found| found.digest == subject))
            .map(|image| image.name)
            .collect();
        if names.len() > NAMES_MAX {
            return Err(Failure::Answer { call: CALL, subject, field: "number of names" });
        }
        Ok(names)
    }

    /// snapshots.Stat; `None` if there is no such snapshot.
    pub(crate) async fn snapshot(&self, snapshotter: &str, key: &str) -> Result<Option<Snapshot>, Failure> {
        const CALL: &str = "snapshots.Stat";
        let request =
            self.request(StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
        let mut client = self.snapshots();
        let Some(answer) = found(self.answer(CALL, key, client.stat(request)).await)? else {
            return Ok(None);
        };
        let info = answer.info.ok_or_else(|| Failure::Answer {
            call: CALL,
            subject: key.to_owned(),
            field: "snapshot",
        })?;
        let kind = match Kind::try_from(info.kind) {
            Ok(Kind::View) => SnapshotKind::View,
            Ok(Kind::Active) => SnapshotKind::Active,
            Ok(Kind::Committed) => SnapshotKind::Committed,
            Ok(Kind::Unknown) | Err(_) => SnapshotKind::Unknown,
        };
        Ok(Some(Snapshot { name: info.name, parent: info.parent, kind }))
    }

    /// The snapshot and those below it, as far as they are the chain of `diff_ids`; where they are not, what is
    /// found there ends the list, and `bind` refuses it.
    ///
    /// All are asked for at once, because their names are known.
    pub(crate) async fn chain(
        &self,
        snapshotter: &str,
        own: Snapshot,
        diff_ids: &[Digest],
    ) -> Result<Vec<Snapshot>, Failure> {
        let mut calls = JoinSet::new();
        let names: Vec<String> = chain_ids(diff_ids).iter().rev().map(ToString::to_string).collect();
        if names.first() != Some(&own.parent) {
            return Ok(vec![own]);
        }
        for (depth, name) in names.into_iter().enumerate() {
            let (containerd, snapshotter) = (self.clone(), snapshotter.to_owned());
            calls.spawn(async move { (depth, containerd.snapshot(&snapshotter, &name).await) });
        }
        let mut layers = vec![None; calls.len()];
        while let Some(call) = calls.join_next().await {
            let (depth, layer) = call.map_err(|_| Failure::Answer {
                call: "snapshots.Stat",
                subject: own.name.clone(),
                field: "chain: its task was cancelled",
            })?;
            if let Some(place) = layers.get_mut(depth) {
                *place = layer?;
            }
        }
        Ok([own].into_iter().chain(layers.into_iter().map_while(|layer| layer)).collect())
    }

    /// snapshots.Mounts; none if there is no such snapshot.
    pub(crate) async fn mounts(&self, snapshotter: &str, key: &str) -> Result<Vec<Mount>, Failure> {
        let request =
            self.request(MountsRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() });
        let mut client = self.snapshots();
        let answer = found(self.answer("snapshots.Mounts", key, client.mounts(request)).await)?;
        Ok(mounts_of(answer.map(|answer| answer.mounts).unwrap_or_default()))
    }
}

/// Mounts in our own words.
pub(crate) fn mounts_of(mounts: Vec<containerd_client::types::Mount>) -> Vec<Mount> {
    let own = |mount: containerd_client::types::Mount| Mount {
        kind: mount.r#type,
        source: mount.source,
        target: mount.target.into(),
        options: mount.options,
    };
    mounts.into_iter().map(own).collect()
}
