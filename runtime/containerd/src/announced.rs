//! What containerd has and announces: for `bulkhead watch`, which looks at images before anybody runs them.
//!
//! An event says that something changed, never what is so now: whoever hears one asks again. So an event that is lost
//! costs time and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_binding::{Snapshot, check_chain};
use bulkhead_model::{Digest, ImageFacts, Mount, Namespace, Refusal, chain_ids};
use containerd_client::services::v1::{
    ListImagesRequest, ListNamespacesRequest, PluginsRequest, SubscribeRequest,
    events_client::EventsClient,
    namespaces_client::NamespacesClient,
    snapshots::{RemoveSnapshotRequest, ViewSnapshotRequest},
};
use tokio::sync::mpsc;

use crate::{Containerd, Failure, client::found, observe};

/// Most namespaces that are looked at.
const NAMESPACES_MAX: usize = 1000;

/// Most images of a namespace that are looked at.
const IMAGES_MAX: usize = 20_000;

/// What is heard of: images that came or were moved, and layers that were unpacked.
const TOPICS: [&str; 3] =
    ["topic==\"/images/create\"", "topic==\"/images/update\"", "topic==\"/snapshot/commit\""];

/// An image as a namespace knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Announced {
    /// Its name.
    pub name: String,
    /// What the name points to.
    pub target: Digest,
}

/// The layers of an image in one snapshotter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Whose.
    pub snapshotter: String,
    /// What a container would get, but for its own layer.
    pub mounts: Vec<Mount>,
    /// A view of the image, then its layers down to the bottom.
    chain: Vec<Snapshot>,
}

impl Unpacked {
    /// Demands that the snapshots are the chain of the image's layers, as a launch does.
    ///
    /// # Errors
    /// The refusal that names the one that is not.
    pub fn check(&self, image: &ImageFacts, name: &str) -> Result<(), Refusal> {
        let key = self.chain.first().map_or("", |own| own.name.as_str());
        check_chain(image, name, key, &self.chain)
    }

    /// The snapshots of the layers, the lowest first.
    pub fn layers(&self) -> impl Iterator<Item = &Snapshot> {
        self.chain.iter().skip(1).rev()
    }
}

/// Changes as they are announced. Dropped, it hears no more.
#[derive(Debug)]
pub struct Changes {
    heard: mpsc::Receiver<()>,
    reader: tokio::task::JoinHandle<()>,
}

impl Changes {
    /// Waits until something has changed since the last look; `false` when containerd has ended.
    pub async fn next(&mut self) -> bool {
        self.heard.recv().await.is_some()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Containerd {
    /// All namespaces whose names are some.
    ///
    /// # Errors
    /// containerd does not answer, or has too many.
    pub async fn namespaces(&self) -> Result<Vec<Namespace>, Failure> {
        const CALL: &str = "namespaces.List";
        let mut client = NamespacesClient::new(self.channel());
        let request = self.request(ListNamespacesRequest { filter: String::new() });
        let answer = self.answer(CALL, "all", client.list(request)).await?.into_inner().namespaces;
        if answer.len() > NAMESPACES_MAX {
            return Err(too_many(CALL, "number of namespaces"));
        }
        Ok(answer.iter().filter_map(|namespace| namespace.name.parse().ok()).collect())
    }

    /// All images of the namespace; what points to no SHA-256 digest is none.
    ///
    /// # Errors
    /// containerd does not answer, or has too many.
    pub async fn announced(&self) -> Result<Vec<Announced>, Failure> {
        const CALL: &str = "images.List";
        let mut client = self.images();
        let request = self.request(ListImagesRequest { filters: Vec::new() });
        let images = self.answer(CALL, self.namespace().as_str(), client.list(request)).await?;
        let images = images.into_inner().images;
        if images.len() > IMAGES_MAX {
            return Err(too_many(CALL, "number of images"));
        }
        let announced = |image: containerd_client::services::v1::Image| {
            Some(Announced { target: image.target?.digest.parse().ok()?, name: image.name })
        };
        Ok(images.into_iter().filter_map(announced).collect())
    }

    /// Hears of changes in every namespace from about now on: containerd does not say when it has begun to tell.
    #[must_use]
    pub fn changes(&self) -> Changes {
        let (tell, heard) = mpsc::channel(1);
        let mut client = EventsClient::new(self.channel());
        let request =
            self.request(SubscribeRequest { filters: TOPICS.iter().map(ToString::to_string).collect() });
        let reader = tokio::spawn(async move {
            let Ok(answer) = client.subscribe(request).await else { return };
            let mut events = answer.into_inner();
            while let Ok(Some(_)) = events.message().await {
                // One that waits already says the same.
                if let Err(mpsc::error::TrySendError::Closed(())) = tell.try_send(()) {
                    return;
                }
            }
        });
        Changes { heard, reader }
    }

    /// The layers of an image, of every snapshotter that has unpacked it. A view is made for each to learn where they
    /// are, and removed at once; one that is left behind by a crash is containerd's garbage, for no lease holds it.
    ///
    /// # Errors
    /// containerd does not answer.
    pub async fn unpacked(&self, image: &ImageFacts) -> Result<Vec<Unpacked>, Failure> {
        static VIEWS: AtomicU64 = AtomicU64::new(0);
        let Some(top) = chain_ids(&image.diff_ids).pop() else { return Ok(Vec::new()) };
        let mut unpacked = Vec::new();
        for snapshotter in self.snapshotters().await? {
            if self.snapshot(&snapshotter, &top.to_string()).await?.is_none() {
                continue;
            }
            let number = VIEWS.fetch_add(1, Ordering::Relaxed);
            let key = format!("bulkhead-view-{}-{number}-{}", std::process::id(), top.hex());
            let request = self.request(ViewSnapshotRequest {
                snapshotter: snapshotter.clone(),
                key: key.clone(),
                parent: top.to_string(),
                ..ViewSnapshotRequest::default()
            });
            let mut client = self.snapshots();
            // The image may have been removed meanwhile.
            let Some(view) = found(self.answer("snapshots.View", &key, client.view(request)).await)? else {
                continue;
            };
            let chain = match self.snapshot(&snapshotter, &key).await? {
                Some(own) => self.chain(&snapshotter, own, &image.diff_ids).await?,
                None => Vec::new(),
            };
            let request =
                self.request(RemoveSnapshotRequest { snapshotter: snapshotter.clone(), key: key.clone() });
            found(self.answer("snapshots.Remove", &key, client.remove(request)).await)?;
            unpacked.push(Unpacked { snapshotter, mounts: observe::mounts_of(view.mounts), chain });
        }
        Ok(unpacked)
    }

    /// The snapshotters that work.
    async fn snapshotters(&self) -> Result<Vec<String>, Failure> {
        const CALL: &str = "introspection.Plugins";
        const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";
        let request = self.request(PluginsRequest { filters: vec![format!("type=={SNAPSHOTTER}")] });
        let mut client = self.introspection();
        let plugins = self.answer(CALL, SNAPSHOTTER, client.plugins(request)).await?.into_inner().plugins;
        let works = |plugin: &containerd_client::services::v1::Plugin| {
            plugin.r#type == SNAPSHOTTER && plugin.init_err.is_none()
        };
        Ok(plugins.into_iter().filter(works).map(|plugin| plugin.id).collect())
    }
}

fn too_many(call: &'static str, field: &'static str) -> Failure {
    Failure::Answer { call, subject: "all".to_owned(), field }
}
