//! Whether a container's layers hold the files of their tars: receipts where there are some, a judge where there are
//! none.
//!
//! ```text
//! mounts ─► directories ─walk─► receipts ══ stored ones? ─yes─► ContentsFacts::Receipt
//!                                   └ no: lock, walk, `bulkhead judge contents`, walk again ─ the same? ─► stored
//! ```
//! One comparison serves all launches that wait for it, and is kept layer by layer. A launch that has waited too long
//! is told how far it has come; the comparison goes on as long as its server is there: a pod's is, that of a container in
//! no pod ends with the launch.
//!
//! Invariant: a receipt is stored only for a layer that the judge called the same, above layers that are all proven, and
//! that did not change from before the comparison until after it.
//! Never here: opening a layer (workers do); what unproven contents mean (policy says).

mod alone;
pub(crate) mod mounts;
mod receipts;
mod told;

use std::{
    any::Any,
    fmt, io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bulkhead_model::{
    CompareTask, ContentsFacts, ContentsFlaw, ContentsLine, ContentsRule, Digest, ImageFacts,
    JUDGE_LINE_BYTES_MAX, LayerQuestion, LayersJob, LayersTask, Layout, Mount, WalkLine, chain_ids,
};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe::Receiver,
};

pub use alone::start_layers_alone;

use self::{mounts::Layers, receipts::Receipt, told::Told};
use crate::{Containerd, Failure, VerifyError, store};

/// Has a worker look at layers. What comes back is where its lines can be read, and what keeps it alive: dropping that
/// ends it.
pub type StartLayers = Arc<dyn Fn(&LayersJob) -> io::Result<(OwnedFd, Box<dyn Any + Send>)> + Send + Sync>;

/// How layers are compared and bounded.
#[derive(Clone)]
pub struct Contents {
    /// Starts workers.
    pub start: StartLayers,
    /// The judge's executable.
    pub program: PathBuf,
    /// How long a launch waits. kubelet gives up on a call after two minutes.
    pub wait_max: Duration,
    /// How long a judge may take for all layers.
    pub time_max: Duration,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("program", &self.program).finish_non_exhaustive()
    }
}

/// How long a worker may take to walk all layers.
const WALK_MAX: Duration = Duration::from_secs(60);

/// What is known about the layers below `mounts`, which are bound to the image. `rule` says how much has to be known.
///
/// # Errors
/// What failed, or that it takes longer than a launch may wait.
pub async fn contents_facts(
    containerd: &Containerd,
    layout: &Layout,
    contents: &Contents,
    image: &ImageFacts,
    mounts: &[Mount],
    rule: ContentsRule,
) -> Result<ContentsFacts, VerifyError> {
    if rule == ContentsRule::Chain {
        return Ok(ContentsFacts::Chain);
    }
    let layers = match mounts::layers(mounts, image.diff_ids.len()) {
        Ok(layers) => layers,
        Err(why) => return Ok(ContentsFacts::Unproven(ContentsFlaw::Snapshotter { why })),
    };
    let proof = Proof {
        containerd: containerd.clone(),
        layout: layout.clone(),
        contents: contents.clone(),
        image: image.clone(),
        chain: chain_ids(&image.diff_ids),
        layers,
        newer_than: match rule {
            ContentsRule::Rehash => now_ns(),
            ContentsRule::Chain | ContentsRule::Receipt => 0,
        },
        proven: Arc::default(),
    };
    let known = |flaw: Option<ContentsFlaw>| match (flaw, rule) {
        (Some(flaw), _) => ContentsFacts::Unproven(flaw),
        (None, ContentsRule::Rehash) => ContentsFacts::Compared,
        (None, ContentsRule::Chain | ContentsRule::Receipt) => ContentsFacts::Receipt,
    };
    let unproven = match proof.walk().await? {
        Err(flaw) => return Ok(known(Some(flaw))),
        Ok(walked) => proof.unproven(&walked.receipts)?,
    };
    if unproven.is_empty() {
        return Ok(known(None));
    }
    // In a task of its own: what a launch does not wait for any more is there for the next one.
    let (proven, of) = (Arc::clone(&proof.proven), proof.chain.len());
    let busy = || Failure::ContentsBusy {
        image: image.target,
        proven: proven.load(Ordering::Relaxed),
        of,
        after: contents.wait_max,
    };
    let task = tokio::spawn(async move { proof.compare(unproven).await });
    match tokio::time::timeout(contents.wait_max, task).await {
        Err(_) | Ok(Ok(Err(Failure::JudgeBusy { .. }))) => Err(busy().into()),
        Ok(Ok(Err(failure))) => Err(failure.into()),
        Ok(Ok(Ok(flaw))) => Ok(known(flaw)),
        Ok(Err(error)) => {
            Err(Failure::Contents { step: "wait for the comparison", error: io::Error::other(error) }.into())
        }
    }
}

/// What layers look like.
struct Walked {
    receipts: Vec<Digest>,
    /// Which of them tell of every later change.
    settled: Vec<bool>,
}

/// How long to wait for layers that have just been unpacked before they are looked at once more: longer than two changes
/// can have the same time.
const SETTLED_AFTER: Duration = Duration::from_millis(25);

/// Everything that a comparison needs, its own, because it may outlive the launch.
struct Proof {
    containerd: Containerd,
    layout: Layout,
    contents: Contents,
    image: ImageFacts,
    chain: Vec<Digest>,
    layers: Layers,
    /// A receipt from before this moment does not count.
    newer_than: u64,
    /// How many layers are proven by now.
    proven: Arc<AtomicUsize>,
}

impl Proof {
    /// What each layer looks like now.
    async fn walk(&self) -> Result<Result<Walked, ContentsFlaw>, Failure> {
        let job = LayersJob {
            dirs: self.layers.dirs.clone(),
            own: self.layers.own.clone(),
            task: LayersTask::Walk,
        };
        match self.ask_to_walk(&job).await? {
            WalkLine::Walked { receipts, settled, foreign: None }
                if receipts.len() == self.chain.len() && settled.len() == receipts.len() =>
            {
                Ok(Ok(Walked { receipts, settled }))
            }
            WalkLine::Walked { foreign: Some(path), .. } => Ok(Err(ContentsFlaw::OwnLayer { path })),
            WalkLine::Foreign(why) => Ok(Err(ContentsFlaw::Snapshotter { why })),
            WalkLine::Walked { .. } => Err(failed("walk", io::ErrorKind::InvalidData.into())),
            WalkLine::Failed(why) => Err(failed("walk", io::Error::other(why))),
        }
    }

    async fn ask_to_walk(&self, job: &LayersJob) -> Result<WalkLine, Failure> {
        let (output, _alive) = (self.contents.start)(job).map_err(|error| failed("start a worker", error))?;
        let mut lines = Lines::new(output)?;
        match tokio::time::timeout(WALK_MAX, lines.next()).await {
            Ok(line) => line,
            Err(_) => Err(failed("walk", io::ErrorKind::TimedOut.into())),
        }
    }

    /// The layers that have no receipt which counts, from the bottom.
    fn unproven(&self, receipts: &[Digest]) -> Result<Vec<usize>, Failure> {
        let mut unproven = Vec::new();
        for (at, ((chain, dir), found)) in self.chain.iter().zip(&self.layers.dirs).zip(receipts).enumerate()
        {
            let stored = receipts::load(&self.layout, chain, dir)?;
            let counts = |stored: &Receipt| {
                // One of the future was stored before the clock was set back, and is not of this launch.
                let of_this_launch = self.newer_than..=now_ns();
                stored.receipt == *found
                    && (self.newer_than == 0 || of_this_launch.contains(&stored.compared_from_ns))
            };
            if !stored.as_ref().is_some_and(counts) {
                unproven.push(at);
            }
        }
        self.proven.store(self.chain.len() - unproven.len(), Ordering::Relaxed);
        Ok(unproven)
    }

    /// Waits for its turn, and compares what is not proven by then.
    async fn compare(self, mut locked: Vec<usize>) -> Result<Option<ContentsFlaw>, Failure> {
        let (_locks, from, before, unproven) = loop {
            let locks = self.lock(&locked).await?;
            let from = now_ns();
            let mut before = match self.walk().await? {
                Ok(walked) => walked,
                Err(flaw) => return Ok(Some(flaw)),
            };
            let mut unproven = self.unproven(&before.receipts)?;
            if !unproven.iter().all(|at| before.settled.get(*at) == Some(&true)) {
                // Unpacked a moment ago, as far as can be told.
                tokio::time::sleep(SETTLED_AFTER).await;
                before = match self.walk().await? {
                    Ok(walked) => walked,
                    Err(flaw) => return Ok(Some(flaw)),
                };
                unproven = self.unproven(&before.receipts)?;
            }
            if unproven.is_empty() {
                return Ok(None);
            }
            if unproven.iter().all(|at| locked.contains(at)) {
                break (locks, from, before, unproven);
            }
            // Something has changed meanwhile.
            locked = unproven;
        };
        let question = |at: &usize| -> Option<LayerQuestion> {
            Some(LayerQuestion {
                layer: u32::try_from(*at).ok()?,
                blob: *self.image.layers.get(*at)?,
                diff_id: *self.image.diff_ids.get(*at)?,
            })
        };
        let job = LayersJob {
            dirs: self.layers.dirs.clone(),
            own: None,
            task: LayersTask::Compare(CompareTask {
                program: self.contents.program.clone(),
                blobs: self.containerd.blobs_dir().await?,
                layers: unproven.iter().filter_map(question).collect(),
            }),
        };
        let (output, _alive) =
            (self.contents.start)(&job).map_err(|error| failed("start the judge", error))?;
        let mut lines = Lines::new(output)?;
        let heard = self.hear(&mut lines, &unproven, &before, from);
        match tokio::time::timeout(self.contents.time_max, heard).await {
            Ok(flaw) => flaw,
            Err(_) => Err(failed("compare", io::ErrorKind::TimedOut.into())),
        }
    }

    /// One comparison at a time of each layer: whoever needs one that is being compared waits, and images that share only
    /// what is proven do not wait for each other. Locked from the bottom, so that nobody waits in a circle: who shares a
    /// chain with another shares what is below.
    async fn lock(&self, layers: &[usize]) -> Result<Vec<store::Lock>, Failure> {
        let mut locks = Vec::with_capacity(layers.len());
        for at in layers {
            let Some(chain) = self.chain.get(*at) else { continue };
            let name = store::contents_key(chain);
            locks.push(store::lock(&self.layout, &name, self.contents.wait_max).await?);
        }
        Ok(locks)
    }

    async fn hear(
        &self,
        lines: &mut Lines,
        unproven: &[usize],
        before: &Walked,
        from: u64,
    ) -> Result<Option<ContentsFlaw>, Failure> {
        let mut told = Told::new(unproven);
        loop {
            match lines.next::<ContentsLine>().await? {
                ContentsLine::Same(layer) => {
                    told.same(layer as usize)
                        .ok_or_else(|| failed("hear the judge", io::ErrorKind::InvalidData.into()))?;
                    while let Some(at) = told.next_proven() {
                        self.keep(at, before, from).await?;
                        self.proven.fetch_add(1, Ordering::Relaxed);
                    }
                }
                ContentsLine::Different { layer, path, what } => {
                    let chain = *self.at(layer, &self.chain)?;
                    return Ok(Some(ContentsFlaw::Different { layer: layer + 1, chain, path, what }));
                }
                ContentsLine::Flaw { layer, why } => {
                    let blob = *self.at(layer, &self.image.layers)?;
                    return Ok(Some(ContentsFlaw::Tar { layer: layer + 1, blob, why }));
                }
                ContentsLine::Missing(layer) => {
                    let blob = *self.at(layer, &self.image.layers)?;
                    return Ok(Some(ContentsFlaw::Missing { layer: layer + 1, blob }));
                }
                ContentsLine::Spoilt { layer, found: _ } => {
                    return Ok(Some(ContentsFlaw::Spoilt { blob: *self.at(layer, &self.image.layers)? }));
                }
                ContentsLine::Done if told.all() => return Ok(None),
                ContentsLine::Done => {
                    return Err(failed("hear the judge", io::ErrorKind::InvalidData.into()));
                }
                ContentsLine::Failed(why) => {
                    let why: String = why.chars().take(300).collect();
                    return Err(failed("compare", io::Error::other(why)));
                }
            }
        }
    }

    /// Stores the receipt of a layer that was compared, if it has not changed since before. One that would not tell of
    /// every later change is not stored: the next launch compares the layer anew.
    async fn keep(&self, at: usize, before: &Walked, from: u64) -> Result<(), Failure> {
        let (Some(dir), Some(chain), Some(before), Some(settled)) =
            (self.layers.dirs.get(at), self.chain.get(at), before.receipts.get(at), before.settled.get(at))
        else {
            return Err(failed("hear the judge", io::ErrorKind::InvalidData.into()));
        };
        let job = LayersJob { dirs: vec![dir.clone()], own: None, task: LayersTask::Walk };
        let WalkLine::Walked { receipts, .. } = self.ask_to_walk(&job).await? else {
            return Err(failed("walk after the comparison", io::ErrorKind::Other.into()));
        };
        if receipts != [*before] {
            return Err(Failure::ContentsChanged { dir: dir.clone() });
        }
        if !settled {
            return Ok(());
        }
        let receipt = Receipt::new(chain, dir, before, from);
        receipts::save(&self.layout, chain, dir, &receipt)
    }

    fn at<'t, T>(&self, layer: u32, all: &'t [T]) -> Result<&'t T, Failure> {
        all.get(layer as usize).ok_or_else(|| failed("hear the judge", io::ErrorKind::InvalidData.into()))
    }
}

/// A worker's or judge's lines: limited, because a judge reads an attacker's bytes.
struct Lines(BufReader<Receiver>);

impl Lines {
    fn new(output: OwnedFd) -> Result<Self, Failure> {
        Receiver::from_owned_fd(output).map(BufReader::new).map(Self).map_err(|error| failed("pipe", error))
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.0).take(JUDGE_LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await;
        read.map_err(|error| failed("read(2) of its answer", error))?;
        if line.last() != Some(&b'\n') {
            return Err(failed("read(2) of its answer", io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|error| failed("decode its answer", error.into()))
    }
}

fn failed(step: &'static str, error: io::Error) -> Failure {
    Failure::Contents { step, error }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
