//! One look at one image: what a launch would find out, found out before.

use bulkhead_containerd::{
    Announced, Containerd, Contents, VerifyError, contents_facts, examine, signature_facts,
    start_layers_alone,
};
use bulkhead_gather::Reference;
use bulkhead_model::{ContentsFacts, ContentsRule, Digest, ImageFacts, Refusal, Rule, SignatureFacts};
use bulkhead_policy::{FetchRule, Needs, Policy};

use super::{
    Backoff, Watch,
    line::{About, Line},
    tenants::{Tenant, Tenants},
};
use crate::{
    answer::{Trouble, full},
    trust::fetch_and_keep,
};

/// How long a comparison may take. Nobody waits for it.
const COMPARE_MAX: std::time::Duration = std::time::Duration::from_secs(1800);

/// What is remembered of an image.
#[derive(Debug, Default)]
pub(crate) struct Known {
    target: Option<Digest>,
    /// Said already, for one tenant each.
    lines: Vec<Line>,
    /// What is known of its files, once that is so.
    files: Option<ContentsFacts>,
    /// When its registry is asked again.
    fetch: Option<Backoff>,
}

impl Known {
    /// What was said of it.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }
}

/// What is known of an image's files at one look.
enum Files {
    /// Nobody wants to know.
    NotAsked,
    /// They are compared at each launch: not here.
    EachLaunch,
    /// containerd has not unpacked the image.
    NotUnpacked,
    /// This.
    Found(ContentsFacts),
}

impl Files {
    fn facts(&self) -> Option<&ContentsFacts> {
        match self {
            Files::Found(facts) => Some(facts),
            Files::NotAsked | Files::EachLaunch | Files::NotUnpacked => None,
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Files::NotAsked => "its files are not asked about",
            Files::EachLaunch => "its files are compared at each launch",
            Files::NotUnpacked => "not unpacked yet",
            Files::Found(_) => "its files are those of its layers",
        }
    }
}

/// A tenant whose policy has a scope for the image.
struct Asking<'t> {
    tenant: &'t Tenant,
    policy: &'t Policy,
    needs: Needs,
}

impl Watch {
    /// Looks at an image for every tenant who may run it, and says what is new.
    pub(crate) async fn look_at(
        &self,
        containerd: &Containerd,
        tenants: &Tenants,
        image: &Announced,
        mut known: Known,
    ) -> Known {
        let Ok(_slot) = self.slots.acquire().await else { return known };
        if known.target != Some(image.target) {
            known = Known { target: Some(image.target), ..Known::default() };
        }
        let tenants = tenants.of(containerd.namespace());
        let mut lines = Vec::new();
        let mut asking = Vec::new();
        for tenant in tenants.iter() {
            match &tenant.policy {
                Ok(policy) => {
                    let needs = policy.needs(&image.name);
                    asking.extend(needs.map(|needs| Asking { tenant, policy, needs }));
                }
                Err(refusal) => lines.push(Line::refused(&about(image, tenant), refusal, &[])),
            }
        }
        if !asking.is_empty() {
            lines.extend(self.judge(containerd, image, &asking, &mut known).await);
        }
        for line in lines.iter().filter(|line| !known.lines.contains(line)) {
            line.print(self.as_json);
        }
        known.lines = lines;
        known
    }

    async fn judge(
        &self,
        containerd: &Containerd,
        image: &Announced,
        asking: &[Asking<'_>],
        known: &mut Known,
    ) -> Vec<Line> {
        let facts = match examine(containerd, &self.layout, &self.judge, &image.name).await {
            Ok(facts) if facts.target == image.target => facts,
            // The name was moved since it was listed: an event says so.
            Ok(_) => return Vec::new(),
            Err(error) => return of_error(image, asking, &error),
        };
        let mut notes = Vec::new();
        let unsigned = async |asking: &Asking<'_>| {
            let signatures = self.signatures(&facts, asking).await.ok().flatten();
            let tenant = name(asking.tenant, containerd);
            let verdict = asking.policy.preview(&facts, signatures.as_ref(), &image.name, &tenant);
            let refusal = match &verdict {
                Ok(preview) => preview.would_refuse(),
                Err(refusal) => Some(refusal),
            };
            refusal.is_some_and(|refusal| refusal.rule == Rule::ImageSignature)
        };
        for one in asking.iter().filter(|one| one.policy.fetch() != FetchRule::Never) {
            if Backoff::is_due(known.fetch) && unsigned(one).await {
                notes.extend(self.fetch(&image.name, &facts).await);
                known.fetch = Some(Backoff::after(known.fetch));
            }
        }
        let mut lines = Vec::new();
        for one in asking {
            let about = about(image, one.tenant);
            let line = match self.verdict(containerd, image, &facts, one, known).await {
                Ok(Ok((preview, files))) => Line::admitted(&about, &preview, files.text()),
                Ok(Err(refusal)) => Line::refused(&about, &refusal, &notes),
                Err(VerifyError::Refused(refusal)) => Line::refused(&about, &refusal, &notes),
                Err(VerifyError::Failed(failure) | VerifyError::Unavailable(failure)) => {
                    Line::failed(&about, &full(&failure))
                }
            };
            lines.push(line);
        }
        lines
    }

    /// What a launch by one tenant would come to, as far as it depends on the image alone.
    async fn verdict(
        &self,
        containerd: &Containerd,
        image: &Announced,
        facts: &ImageFacts,
        asking: &Asking<'_>,
        known: &mut Known,
    ) -> Result<Result<(bulkhead_policy::Preview, Files), Refusal>, VerifyError> {
        let signatures = self.signatures(facts, asking).await?;
        let tenant = name(asking.tenant, containerd);
        let admitted = asking.policy.preview(facts, signatures.as_ref(), &image.name, &tenant);
        if let Err(refusal) = admitted {
            // Of an image that is refused anyway nobody looks at the files.
            return Ok(Err(refusal));
        }
        let files = match asking.needs.contents {
            ContentsRule::Chain => Files::NotAsked,
            ContentsRule::Rehash => Files::EachLaunch,
            ContentsRule::Receipt => self.files(containerd, facts, known).await?,
        };
        let preview =
            asking.policy.preview_of(facts, signatures.as_ref(), files.facts(), &image.name, &tenant);
        Ok(preview.map(|preview| (preview, files)))
    }

    async fn signatures(
        &self,
        facts: &ImageFacts,
        asking: &Asking<'_>,
    ) -> Result<Option<SignatureFacts>, VerifyError> {
        if !asking.needs.signatures {
            return Ok(None);
        }
        signature_facts(&self.layout, &self.judge, facts, asking.policy.material()).await.map(Some)
    }

    /// Compares the layers with their tars, in every snapshotter that has them.
    async fn files(
        &self,
        containerd: &Containerd,
        image: &ImageFacts,
        known: &mut Known,
    ) -> Result<Files, VerifyError> {
        if let Some(found) = &known.files {
            return Ok(Files::Found(found.clone()));
        }
        let contents = Contents {
            start: start_layers_alone(self.judge.program.clone()),
            program: self.judge.program.clone(),
            wait_max: COMPARE_MAX,
            time_max: COMPARE_MAX,
        };
        let mut files = Files::NotUnpacked;
        for unpacked in containerd.unpacked(image).await? {
            let found = contents_facts(
                containerd,
                &self.layout,
                &contents,
                image,
                &unpacked.mounts,
                ContentsRule::Receipt,
            )
            .await?;
            let unproven = matches!(found, ContentsFacts::Unproven(_));
            files = Files::Found(found);
            if unproven {
                return Ok(files);
            }
        }
        known.files = files.facts().cloned();
        Ok(files)
    }

    /// Asks the registry, and keeps what it has. What did not work is said with the refusal that stays.
    async fn fetch(&self, name: &str, image: &ImageFacts) -> Vec<String> {
        let reference = match name.parse::<Reference>() {
            Ok(reference) => reference.at(image.target),
            Err(error) => return vec![format!("nothing was fetched: {}", full(&error))],
        };
        let (access, layout) = (self.access.clone(), self.layout.clone());
        let fetched = tokio::task::spawn_blocking(move || -> Result<Vec<String>, Trouble> {
            let fetched = fetch_and_keep(&layout, &reference, &access)?;
            let count = fetched.harvest.found.len();
            Ok([vec![format!("{count} signatures were fetched")], fetched.notes].concat())
        });
        match fetched.await {
            Ok(Ok(notes)) => notes,
            Ok(Err(error)) => vec![format!("signatures cannot be fetched: {}", full(&error))],
            Err(_) => vec!["signatures cannot be fetched: the task panicked".to_owned()],
        }
    }
}

/// The tenant as policy asks for him: tenants without a file are confined by the node's alone.
fn name(tenant: &Tenant, containerd: &Containerd) -> bulkhead_model::Namespace {
    tenant.name.clone().unwrap_or_else(|| containerd.namespace().clone())
}

fn about<'a>(image: &'a Announced, tenant: &'a Tenant) -> About<'a> {
    About {
        name: &image.name,
        target: &image.target,
        tenant: tenant.name.as_ref().map(bulkhead_model::Namespace::as_str),
    }
}

fn of_error(image: &Announced, asking: &[Asking<'_>], error: &VerifyError) -> Vec<Line> {
    let one = |one: &Asking<'_>| match error {
        VerifyError::Refused(refusal) => Line::refused(&about(image, one.tenant), refusal, &[]),
        VerifyError::Failed(failure) | VerifyError::Unavailable(failure) => {
            Line::failed(&about(image, one.tenant), &full(failure))
        }
    };
    asking.iter().map(one).collect()
}
