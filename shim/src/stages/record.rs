//! What each verdict is recorded with. Nothing goes on before its line is in the record.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use bulkhead_audit::{Call, Contents, ImageLine, Line, Outcome, RefusalLine, SignedBy, TimingsUs, append};
use bulkhead_binding::VerifiedImage;
use bulkhead_model::{
    ContentsFacts, CreateRequest, Digest, ImageFacts, Layout, Namespace, Refusal, chain_ids,
};
use bulkhead_policy::Accepted;

use crate::task::{TaskError, chain};

/// What is known of a request so far: a refusal is recorded with as much as there is.
pub(super) struct Known {
    began: Instant,
    pub(super) tenant: Option<Namespace>,
    pub(super) policy: Option<Digest>,
    pub(super) scope: Option<String>,
    pub(super) would_refuse: Option<Refusal>,
    /// How many judges were started so far.
    pub(super) judges: Arc<AtomicU32>,
    image: Option<ImageLine>,
    volumes: Vec<ImageLine>,
    signed_by: Vec<SignedBy>,
    verify_us: u64,
}

impl Known {
    /// Nothing yet; the clock runs.
    pub(super) fn nothing() -> Self {
        Self {
            began: Instant::now(),
            tenant: None,
            policy: None,
            scope: None,
            would_refuse: None,
            judges: Arc::default(),
            image: None,
            volumes: Vec::new(),
            signed_by: Vec::new(),
            verify_us: 0,
        }
    }

    /// Whose request it is.
    pub(super) fn request(&mut self, request: &CreateRequest) {
        self.tenant = Some(request.tenant.namespace.clone());
    }

    /// By whose signatures which rules were passed.
    pub(super) fn signed_by(&mut self, accepted: &[Accepted]) {
        let signed_by =
            |Accepted { rule, signer }: &Accepted| SignedBy { rule: rule.clone(), signer: signer.clone() };
        self.signed_by = accepted.iter().map(signed_by).collect();
    }

    /// The image, verified since `began`.
    pub(super) fn image(&mut self, image: &VerifiedImage, began: Instant) {
        self.verify_us = micros(began);
        self.image = Some(line(image.names(), image.facts(), image.contents()));
        // One name each: a container may have many volumes, and a line has its limit.
        let volumes = image.volumes().iter().map(|volume| {
            let name = volume.names().iter().take(1).cloned().collect();
            line(&name, volume.facts(), volume.contents())
        });
        self.volumes = volumes.collect();
    }
}

fn line(names: &BTreeSet<String>, facts: &ImageFacts, contents: &ContentsFacts) -> ImageLine {
    ImageLine {
        names: ImageLine::names(names),
        target: facts.target,
        manifest: facts.manifest,
        config: facts.config,
        chain: chain_ids(&facts.diff_ids).last().copied(),
        contents: match contents {
            ContentsFacts::Chain => Contents::Chain,
            ContentsFacts::Receipt => Contents::Receipt,
            ContentsFacts::Compared => Contents::Compared,
            ContentsFacts::Unproven(_) => Contents::Unproven,
        },
    }
}

/// Who asks for what.
pub(super) struct Subject<'a> {
    pub(super) call: Call,
    pub(super) namespace: &'a Namespace,
    pub(super) container: &'a str,
    pub(super) exec: Option<&'a str>,
}

/// Records what became of a request, and hands it on. A failure of the machine is no verdict and has no line.
pub(super) fn record<T>(
    layout: &Layout,
    subject: &Subject<'_>,
    known: &Known,
    result: Result<T, TaskError>,
) -> Result<T, TaskError> {
    let (verdict, refusal) = match (&result, &known.would_refuse) {
        (Ok(_), None) => (Outcome::Allow, None),
        (Ok(_), Some(refusal)) => (Outcome::AuditOnly, Some(refusal)),
        (Err(TaskError::Refused(refusal)), _) => (Outcome::Refuse, Some(&**refusal)),
        (Err(_), _) => return result,
    };
    let line = Line {
        verdict,
        call: subject.call,
        container: subject.container,
        exec: subject.exec,
        namespace: subject.namespace.as_str(),
        tenant: known.tenant.as_ref().unwrap_or(subject.namespace).as_str(),
        image: known.image.clone(),
        volumes: &known.volumes,
        scope: known.scope.as_deref(),
        signed_by: &known.signed_by,
        refusal: refusal.map(RefusalLine::from),
        policy: known.policy,
        judges: known.judges.load(Ordering::Relaxed),
        timings_us: TimingsUs { verify: known.verify_us, gates: micros(known.began) },
    };
    match append(layout, &line) {
        Ok(()) => result,
        Err(error) => {
            let fix = error.fix();
            let problem = chain(&error);
            tracing::error!(container = subject.container, problem, fix, "a verdict cannot be recorded");
            // What is refused stays refused, by its own reason.
            result.and(Err(TaskError::FailedPrecondition(format!(
                "bulkhead failed: the verdict about {} cannot be recorded, so it does not run: {problem}; fix: {fix}",
                subject.container
            ))))
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
