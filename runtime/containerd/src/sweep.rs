//! Removes what is kept of images that containerd has no more: facts of judges, and receipts of layers. Both can be worked
//! out again, so nothing is lost but time; what was written lately stays, for an image may be on its way.
//!
//! Invariant: a file that a judge is about to write is left alone: who writes it holds its lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bulkhead_model::{Digest, Layout, Namespace, chain_ids};
use containerd_client::services::v1::ListContainersRequest;

use crate::{
    Containerd, Failure,
    judge::Verdict,
    store::{self, Lock},
};

/// Most names of one directory that are looked at in one sweep; the next one goes on.
const NAMES_MAX: usize = 100_000;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Images whose facts went.
    pub images: usize,
    /// Layers whose receipts went.
    pub layers: usize,
}

/// What containerd has, over all its namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// What the names of images point to, each with a namespace and a name that does.
    pub images: BTreeMap<Digest, (Namespace, String)>,
    /// Containers whose image has no name any more, as `NAMESPACE/ID`: what they run is nowhere to be asked.
    pub nameless: Vec<String>,
}

impl Live {
    /// What the names of images point to.
    #[must_use]
    pub fn targets(&self) -> BTreeSet<Digest> {
        self.images.keys().copied().collect()
    }
}

impl Containerd {
    /// Everything that containerd has.
    ///
    /// # Errors
    /// containerd does not answer.
    pub async fn live(&self) -> Result<Live, Failure> {
        let mut live = Live::default();
        for namespace in self.namespaces().await? {
            let here = self.in_namespace(&namespace)?;
            let images = here.announced().await?;
            let names: BTreeSet<&str> = images.iter().map(|image| image.name.as_str()).collect();
            let request = here.request(ListContainersRequest { filters: Vec::new() });
            let mut client = here.containers();
            let listed = here.answer("containers.List", namespace.as_str(), client.list(request)).await?;
            let nameless = listed.into_inner().containers;
            let nameless = nameless
                .iter()
                .filter(|container| !container.image.is_empty() && !names.contains(container.image.as_str()));
            live.nameless.extend(nameless.map(|container| format!("{namespace}/{}", container.id)));
            live.images
                .extend(images.into_iter().map(|image| (image.target, (namespace.clone(), image.name))));
        }
        Ok(live)
    }
}

/// Removes facts and receipts of images that are not among `live`, and that nobody has written for so long.
///
/// # Errors
/// What could not be read or removed.
pub fn sweep(layout: &Layout, live: &BTreeSet<Digest>, older_than: Duration) -> Result<Swept, Failure> {
    let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
    let (mut swept, mut chains, mut gone) = (Swept::default(), BTreeSet::new(), BTreeSet::new());
    for (target, path) in digests(&layout.verdicts_dir())? {
        if live.contains(&target) || !is_older(&path, before)? {
            if let Some(Verdict::Facts(facts)) = store::load(layout, &target)? {
                chains.extend(chain_ids(&facts.diff_ids));
            }
        } else if let Some(_lock) = store::try_lock(&layout.judge_lock(&target))? {
            remove(&path)?;
            gone.insert(target);
        }
    }
    for (target, dir) in digests(&layout.verdicts_dir().join("signatures"))? {
        let lock = layout.judge_lock(&store::signatures_key(&target));
        if !live.contains(&target) && is_older(&dir, before)? && clear(&dir, store::try_lock(&lock)?)? {
            gone.insert(target);
        }
    }
    if let Some(dir) = layout.fetched_file(&Digest::of(b"")).parent() {
        // Each counts for a minute.
        for (_, path) in digests(dir)? {
            if is_older(&path, before)? {
                remove(&path)?;
            }
        }
    }
    swept.images = gone.len();
    for (chain, dir) in digests(&layout.receipts_dir())? {
        let lock = layout.judge_lock(&store::contents_key(&chain));
        if !chains.contains(&chain) && is_older(&dir, before)? && clear(&dir, store::try_lock(&lock)?)? {
            swept.layers += 1;
        }
    }
    Ok(swept)
}

/// Files and directories that are called by a digest, with or without `.json`.
fn digests(dir: &Path) -> Result<Vec<(Digest, PathBuf)>, Failure> {
    let failed = |call| move |error| Failure::File { call, path: dir.to_owned(), error };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("opendir(3)"))?,
    };
    let mut found = Vec::new();
    for entry in entries.take(NAMES_MAX) {
        let entry = entry.map_err(failed("readdir(3)"))?;
        let name = entry.file_name();
        let digest = name.to_str().map(|name| name.strip_suffix(".json").unwrap_or(name));
        if let Some(digest) = digest.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
            found.push((digest, entry.path()));
        }
    }
    Ok(found)
}

/// Whether it was last written before then. What is gone meanwhile is not.
fn is_older(path: &Path, before: SystemTime) -> Result<bool, Failure> {
    match fs::symlink_metadata(path).and_then(|metadata| metadata.modified()) {
        Ok(written) => Ok(written < before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::File { call: "lstat(2)", path: path.to_owned(), error }),
    }
}

/// Removes a directory of files, where nobody else is at it.
fn clear(dir: &Path, lock: Option<Lock>) -> Result<bool, Failure> {
    let Some(_lock) = lock else { return Ok(false) };
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::File { call: "unlink(2) below", path: dir.to_owned(), error }),
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::File { call: "unlink(2)", path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bulkhead_binding::example;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    /// A node that has judged two images, and compared their layers.
    fn node() -> (tempfile::TempDir, Layout, [bulkhead_model::ImageFacts; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::below(dir.path());
        let images = ["kept", "gone"].map(example::facts);
        for facts in &images {
            store::save(&layout, &facts.target, &Verdict::Facts(facts.clone())).unwrap();
            for chain in chain_ids(&facts.diff_ids) {
                let path = layout.receipt_file(&chain, Path::new("/s/1/fs"));
                store::make_parent(&path).unwrap();
                fs::write(path, "{}").unwrap();
            }
            let dir = layout.signature_facts_dir(&facts.target);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("facts.json"), "{}").unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        (dir, layout, images)
    }

    fn receipts(layout: &Layout, facts: &bulkhead_model::ImageFacts) -> usize {
        let chains = chain_ids(&facts.diff_ids);
        chains.iter().filter(|chain| layout.receipts_dir().join(chain.hex()).exists()).count()
    }

    #[test]
    fn what_containerd_has_no_more_goes_and_the_rest_stays() {
        let (_dir, layout, [kept, gone]) = node();
        let live = BTreeSet::from([kept.target]);
        assert_eq!(sweep(&layout, &live, NOW).unwrap(), Swept { images: 1, layers: 2 });
        assert!(store::load(&layout, &kept.target).unwrap().is_some());
        assert!(store::load(&layout, &gone.target).unwrap().is_none());
        assert_eq!((receipts(&layout, &kept), receipts(&layout, &gone)), (2, 0));
        assert!(layout.signature_facts_dir(&kept.target).exists());
        assert!(!layout.signature_facts_dir(&gone.target).exists());
        assert_eq!(sweep(&layout, &live, NOW).unwrap(), Swept::default());
    }

    #[test]
    fn what_was_written_lately_stays() {
        let (_dir, layout, [_, gone]) = node();
        let day = Duration::from_secs(86_400);
        assert_eq!(sweep(&layout, &BTreeSet::new(), day).unwrap(), Swept::default());
        assert_eq!(receipts(&layout, &gone), 2);
    }

    #[test]
    fn what_a_judge_is_at_stays() {
        let (_dir, layout, [kept, gone]) = node();
        let live = BTreeSet::from([kept.target]);
        let locks =
            [layout.judge_lock(&gone.target), layout.judge_lock(&store::signatures_key(&gone.target))];
        let chains = chain_ids(&gone.diff_ids);
        let locks = locks
            .into_iter()
            .chain(chains.iter().map(|chain| layout.judge_lock(&store::contents_key(chain))));
        let held: Vec<Lock> = locks.map(|path| store::try_lock(&path).unwrap().unwrap()).collect();
        assert_eq!(sweep(&layout, &live, NOW).unwrap(), Swept::default());
        drop(held);
        assert_eq!(sweep(&layout, &live, NOW).unwrap(), Swept { images: 1, layers: 2 });
    }

    #[test]
    fn what_shares_a_layer_with_an_image_that_stays_keeps_its_receipt() {
        let (_dir, layout, [kept, gone]) = node();
        let shares = bulkhead_model::ImageFacts { diff_ids: gone.diff_ids.clone(), ..kept.clone() };
        store::save(&layout, &kept.target, &Verdict::Facts(shares)).unwrap();
        sweep(&layout, &BTreeSet::from([kept.target]), NOW).unwrap();
        assert_eq!(receipts(&layout, &gone), 2);
    }
}
