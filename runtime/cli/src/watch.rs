//! `bulkhead watch`: judges images when containerd has them, so that their first launch need not wait.
//!
//! ```text
//! connect ─► list every image ─► each that a scope matches: fetch? ─► signatures ─► contents ─► one line
//!    ▲            ▲    └ an event, or a minute ┘
//!    └ containerd has ended: again, after a pause
//! ```
//! Speed alone: what is found here is found again at the launch, from the same files, by the same judges. So an event
//! that is lost, a watch that is killed and a node that is cut off cost time and no safety; an event says only that it
//! is time to look again.
//!
//! Never here: a decision that a launch relies on. Nothing is fetched unless `fetch` of `[trust]` says so.

mod image;
mod line;
mod tenants;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bulkhead_containerd::{CALL_TIMEOUT, Containerd, Failure, Judge, Swept, sweep};
use bulkhead_gather::Access;
use bulkhead_model::{Digest, Layout, Namespace};
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
};

pub(crate) use self::tenants::CRI_NAMESPACE;
use self::{
    image::Known,
    line::{Line, Verdict},
    tenants::Tenants,
};
use crate::{
    answer::{Answer, Trouble, full},
    args::WatchOptions,
    settings::Settings,
    sweep::FACTS_STAY,
    trust::{OLD_REGISTRIES, access},
    verify::event_loop,
};

/// How many images are looked at at once: a comparison uses every core by itself.
const IMAGES_AT_ONCE: usize = 2;

/// How long after an event the next look waits for more of them: a pull is many.
const SETTLE: Duration = Duration::from_millis(200);

/// How long after connecting is looked a second time: containerd does not say from when on it announces.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How often what is kept of images that are gone is removed.
const SWEEP_AGAIN: Duration = Duration::from_secs(3600);

/// How long without an event until the next look all the same: policies, keys and stored signatures change too.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Shortest and longest pause before containerd is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What every look needs.
pub(crate) struct Watch {
    layout: Layout,
    judge: Judge,
    access: Access,
    as_json: bool,
    slots: Semaphore,
    /// When what is kept of images that are gone was removed last.
    swept: Mutex<Option<Instant>>,
}

/// What is remembered of an image from one look to the next.
type Memory = BTreeMap<(Namespace, String), Known>;

pub(crate) fn watch(layout: &Layout, options: &WatchOptions, as_json: bool) -> Result<Answer, Trouble> {
    let settings = Settings::read(&options.daemon)?;
    let socket = settings.socket(&options.daemon);
    let watch = Arc::new(Watch {
        layout: layout.clone(),
        judge: Judge::beside_this_executable()?,
        access: access(&options.registry, &settings),
        as_json,
        slots: Semaphore::new(IMAGES_AT_ONCE),
        swept: Mutex::default(),
    });
    if settings.old_registries {
        Line::note(OLD_REGISTRIES).print(as_json);
    }
    event_loop()?.block_on(async {
        if options.once {
            return watch.once(&socket).await;
        }
        let ends = |kind| signal(kind).map_err(|error| Trouble::Kernel("sigaction(2)", error));
        let (mut term, mut int) = (ends(SignalKind::terminate())?, ends(SignalKind::interrupt())?);
        tokio::select! {
            ended = ended(&mut term, &mut int) => Ok(ended),
            () = watch.forever(&socket) => Ok(Answer::yes("", json!({}))),
        }
    })
}

async fn ended(term: &mut Signal, int: &mut Signal) -> Answer {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Answer::yes("ended", json!({ "ended": true }))
}

impl Watch {
    /// One look at everything, waited for.
    async fn once(self: &Arc<Self>, socket: &Path) -> Result<Answer, Trouble> {
        let containerd = connect(socket).await?;
        let mut memory = Memory::new();
        self.look(&containerd, &mut memory).await?;
        let lines: Vec<&Line> = memory.values().flat_map(Known::lines).collect();
        let count = |wanted: Verdict| lines.iter().filter(|line| line.verdict == wanted).count();
        let (admitted, refused, failed) =
            (count(Verdict::Admitted), count(Verdict::Refused), count(Verdict::Failed));
        let text = format!("{admitted} admitted, {refused} refused, {failed} failed");
        let json = json!({ "admitted": admitted, "refused": refused, "failed": failed });
        Ok(match (refused, failed) {
            (0, 0) => Answer::yes(text, json),
            (_, 0) => Answer::refused(text, json),
            _ => Answer::failed(text, json),
        })
    }

    /// Looks whenever something changed, and connects again whenever containerd has ended.
    async fn forever(self: &Arc<Self>, socket: &Path) {
        let mut memory = Memory::new();
        let (mut pause, mut said) = (RETRY.0, String::new());
        loop {
            match self.follow(socket, &mut memory, &mut said).await {
                Ok(()) => pause = RETRY.0,
                Err(failure) => {
                    let why = full(&failure);
                    if why != said {
                        Line::trouble(&format!("{why}; trying again")).print(self.as_json);
                        said = why;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(RETRY.1);
        }
    }

    /// Until containerd ends.
    async fn follow(
        self: &Arc<Self>,
        socket: &Path,
        memory: &mut Memory,
        said: &mut String,
    ) -> Result<(), Failure> {
        let containerd = connect(socket).await?;
        let mut changes = containerd.changes();
        self.look(&containerd, memory).await?;
        Line::note(&format!("watching containerd at {}", socket.display())).print(self.as_json);
        said.clear();
        let mut wait = SECOND_LOOK;
        loop {
            match tokio::time::timeout(wait, changes.next()).await {
                Ok(false) => {
                    Line::trouble("containerd has ended; trying again").print(self.as_json);
                    return Ok(());
                }
                Ok(true) => tokio::time::sleep(SETTLE).await,
                Err(_) => {}
            }
            wait = LOOK_AGAIN;
            self.look(&containerd, memory).await?;
        }
    }

    /// Looks at every image once, and says what it has not said yet.
    async fn look(self: &Arc<Self>, containerd: &Containerd, memory: &mut Memory) -> Result<(), Failure> {
        let tenants = Arc::new(Tenants::read(&self.layout));
        let (mut tasks, mut seen, mut live) = (JoinSet::new(), BTreeSet::new(), BTreeSet::new());
        for namespace in containerd.namespaces().await? {
            let here = containerd.in_namespace(&namespace)?;
            for image in here.announced().await? {
                if !seen.insert((namespace.clone(), image.name.clone())) {
                    continue;
                }
                live.insert(image.target);
                let key = (namespace.clone(), image.name.clone());
                let known = memory.remove(&key).unwrap_or_default();
                let (watch, tenants, here) = (Arc::clone(self), Arc::clone(&tenants), here.clone());
                tasks.spawn(async move {
                    let looked = watch.look_at(&here, &tenants, &image, known).await;
                    (key, looked)
                });
            }
        }
        memory.clear();
        while let Some(done) = tasks.join_next().await {
            // A task that panicked has said so itself; its image is new again the next time.
            if let Ok((key, known)) = done {
                memory.insert(key, known);
            }
        }
        self.sweep(&live);
        Ok(())
    }

    /// Removes facts and receipts of images that containerd has no more, now and then. What cannot be removed is said, and
    /// in nobody's way.
    fn sweep(&self, live: &BTreeSet<Digest>) {
        let due = |last: &mut Option<Instant>| {
            let due = last.is_none_or(|last| last.elapsed() >= SWEEP_AGAIN);
            due.then(|| *last = Some(Instant::now())).is_some()
        };
        if !self.swept.lock().is_ok_and(|mut last| due(&mut last)) {
            return;
        }
        match sweep(&self.layout, live, FACTS_STAY) {
            Ok(Swept { images: 0, layers: 0 }) => {}
            Ok(Swept { images, layers }) => {
                let note = format!(
                    "removed the facts of {images} images and the receipts of {layers} layers that are gone"
                );
                Line::note(&note).print(self.as_json);
            }
            Err(failure) => Line::trouble(&full(&failure)).print(self.as_json),
        }
    }
}

async fn connect(socket: &Path) -> Result<Containerd, Failure> {
    let namespace: Namespace = tenants::CRI_NAMESPACE.parse().map_err(|_| Failure::Answer {
        call: "connect",
        subject: tenants::CRI_NAMESPACE.to_owned(),
        field: "namespace",
    })?;
    let socket: PathBuf = socket.to_owned();
    Containerd::connect(&socket, &namespace, CALL_TIMEOUT).await
}

/// When something that did not work is tried again: a minute later, then ever later, at most an hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Instant,
    pause: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(60);
    const LAST: Duration = Duration::from_secs(3600);

    /// It did not work now.
    pub(crate) fn after(last: Option<Self>) -> Self {
        let pause = last.map_or(Self::FIRST, |last| (2 * last.pause).min(Self::LAST));
        Self { next: Instant::now() + pause, pause }
    }

    /// Whether it is time.
    pub(crate) fn is_due(last: Option<Self>) -> bool {
        last.is_none_or(|last| Instant::now() >= last.next)
    }
}
