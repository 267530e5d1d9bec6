//! A node's and a tenant's file together, and the one way to a [`Grant`].
//!
//! Every name of the image that a scope matches is judged, and all must pass: of several names the strictest verdict
//! wins. Names that no scope matches say nothing, but one name must be matched by every file: outside of CRI the one
//! that the container was created with; in CRI any, because containerd writes any reference of the image into the
//! record there, and another tenant's pull of the same bytes must not decide.

mod fetch;

use std::{collections::BTreeSet, path::Path};

use bulkhead_binding::{VerifiedImage, VerifiedVolume};
use bulkhead_model::{
    Confinement, ContentsFacts, ContentsRule, CreateRequest, Digest, ImageFacts, Interaction, Level,
    Namespace, Refusal, Rule, SignatureFacts, TrustMaterial,
};

use crate::{
    ExecGrant, Grant, Mode, PolicyError, Preview, Source,
    confine::built_in,
    contents::{self, Known},
    grant::{Accepted, ExecList, Granted},
    parse::{DEFAULT, File, Role, ScopeRow},
    rule::Asked,
    scope::Repository,
    strict::Stricter,
};

/// Where the kubelet keeps pods unless it is told otherwise.
///
/// Source: `--root-dir`, kubelet.
const KUBELET_ROOT: &str = "/var/lib/kubelet";

/// What a node lets run for one tenant.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) node: File,
    pub(crate) tenant: Option<File>,
    hash: Digest,
    pub(crate) material: TrustMaterial,
}

impl Policy {
    /// The policy of a node's file, narrowed by a tenant's.
    ///
    /// # Errors
    /// Everything that is wrong with the two files.
    pub fn parse(node: &Source, tenant: Option<&Source>) -> Result<Self, PolicyError> {
        let tenant_file = tenant.map(|source| File::parse(source, Role::Tenant)).transpose();
        match (File::parse(node, Role::Node), tenant_file) {
            (Ok(node_file), Ok(tenant_file)) => Ok(Self {
                node: node_file,
                tenant: tenant_file,
                hash: hash(node, tenant),
                material: TrustMaterial::default(),
            }),
            (Err(one), Err(two)) => Err(one.and(two)),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        }
    }

    /// The stricter mode of the two files.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let node = self.node.mode.unwrap_or(Mode::Enforce);
        let tenant = self.tenant.as_ref().and_then(|tenant| tenant.mode);
        tenant.map_or(node, |tenant| tenant.stricter(&node))
    }

    /// Where the kubelet keeps pods.
    #[must_use]
    pub fn kubelet_root(&self) -> &Path {
        self.node.kubelet_root.as_deref().unwrap_or(Path::new(KUBELET_ROOT))
    }

    /// SHA-256 over both texts: two policies that may differ have different hashes.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Sections of the node's file that grant the compatible level, and to whom: for people.
    pub fn compatible_sections(&self) -> impl Iterator<Item = (&str, String)> {
        self.node.compatible_sections()
    }

    /// Whether the image may run, and how it is confined; and whether the images of its volumes may be seen. Those pass
    /// the same scopes, and what a scope says of confinement is not asked of them: nothing runs by them.
    ///
    /// # Errors
    /// The refusal, unless the mode is audit: the grant carries it then.
    pub fn admit(&self, image: &VerifiedImage, request: &CreateRequest) -> Result<Grant, Refusal> {
        let image_volumes = image.volumes();
        let verified = image;
        let names = image.names().iter().map(String::as_str).chain([image.claimed_name()]).collect();
        let image = Image {
            facts: image.facts(),
            contents: Known::Image(image.contents()),
            signatures: image.signatures(&image.facts().target),
            claimed: image.claimed_name(),
            names,
            deciding: if image.in_cri() { Deciding::AnyName } else { Deciding::ClaimedName },
        };
        let place = format!("container {}", request.id);
        let mut granted = self.decide(&image, &place, &request.tenant.namespace)?;
        for volume in image_volumes {
            let signatures = verified.signatures(&volume.facts().target);
            if let Some(refusal) = self.admit_volume(volume, signatures, &place)? {
                granted.confinement.level = Level::Hardened;
                granted.would_refuse.get_or_insert(refusal);
            }
            granted.image_volumes.push(volume.volume().clone());
        }
        Ok(Grant::new(granted))
    }

    /// Judges an image that a container is to see and not to run. In audit mode the refusal is handed back.
    fn admit_volume(
        &self,
        volume: &VerifiedVolume,
        signatures: Option<&SignatureFacts>,
        place: &str,
    ) -> Result<Option<Refusal>, Refusal> {
        let claim = volume.claim();
        let image = Image {
            facts: volume.facts(),
            contents: Known::Image(volume.contents()),
            signatures,
            claimed: &claim.name,
            names: volume.names().iter().map(String::as_str).collect(),
            deciding: Deciding::AnyName,
        };
        let place = format!("the volume on {} of {place}", claim.destination.display());
        let names: Vec<Named<'_>> = image.names.iter().filter_map(|name| self.named(name, &image)).collect();
        match self.judge(&image, &names, &subject(&image, &place)) {
            Ok(_) => Ok(None),
            Err(refusal) => match self.mode() {
                Mode::Enforce => Err(refusal),
                Mode::Audit => Ok(Some(refusal)),
            },
        }
    }

    /// What has to be known of the files of an image and of its volumes' before [`Policy::admit`] is asked: of each the
    /// strictest of all scopes that match one of its names. Of what is refused whatever the files are, nothing.
    #[must_use]
    pub fn contents_rules(&self, image: &VerifiedImage, request: &CreateRequest) -> ContentsRules {
        let volumes = image.volumes();
        if self.admit_compared(image, request).is_err() {
            return ContentsRules {
                image: ContentsRule::Chain,
                volumes: vec![ContentsRule::Chain; volumes.len()],
            };
        }
        let names = image.names().iter().map(String::as_str).chain([image.claimed_name()]);
        let of_volume = |volume: &VerifiedVolume| {
            self.contents_rule_of(
                volume.names().iter().map(String::as_str).chain([volume.claim().name.as_str()]),
            )
        };
        ContentsRules {
            image: self.contents_rule_of(names),
            volumes: volumes.iter().map(of_volume).collect(),
        }
    }

    /// What [`Policy::admit`] says if every file is as it should be.
    fn admit_compared(&self, image: &VerifiedImage, request: &CreateRequest) -> Result<Grant, Refusal> {
        let compared = image
            .clone()
            .with_contents(ContentsFacts::Compared)
            .with_volume_contents(vec![ContentsFacts::Compared; image.volumes().len()]);
        self.admit(&compared, request)
    }

    fn contents_rule_of<'n>(&self, names: impl Iterator<Item = &'n str>) -> ContentsRule {
        let rows = names.filter_map(Repository::of_name).flat_map(|repository| {
            let tenant = self.tenant.as_ref().and_then(|tenant| tenant.scope_of(&repository));
            [self.node.scope_of(&repository), tenant]
        });
        let rules = rows.flatten().map(ScopeRow::contents);
        rules.reduce(|one, other| one.stricter(&other)).unwrap_or(ContentsRule::Chain)
    }

    /// Whether [`Policy::admit`] has to be told who signed the image, or one of its volumes: a scope that matches one
    /// of their names requires it.
    #[must_use]
    pub fn needs_signatures(&self, image: &VerifiedImage) -> bool {
        let names = image.names().iter().map(String::as_str).chain([image.claimed_name()]);
        let volumes = image.volumes().iter().flat_map(|volume| volume.names().iter().map(String::as_str));
        names.chain(volumes).any(|name| self.requires(name))
    }

    /// Whether a scope that matches `name` has `require`.
    #[must_use]
    pub fn requires(&self, name: &str) -> bool {
        let Some(repository) = Repository::of_name(name) else { return false };
        let tenant = self.tenant.as_ref().and_then(|tenant| tenant.scope_of(&repository));
        let rows = [self.node.scope_of(&repository), tenant];
        rows.into_iter().flatten().any(|row| !row.require.is_empty())
    }

    /// What is wanted to be known of an image of that name before it runs; `None` where no scope matches, and it is
    /// refused whatever is known.
    #[must_use]
    pub fn needs(&self, name: &str) -> Option<Needs> {
        let repository = Repository::of_name(name)?;
        let mut rows = vec![self.node.scope_of(&repository)?];
        if let Some(tenant) = &self.tenant {
            rows.push(tenant.scope_of(&repository)?);
        }
        let contents = rows.iter().map(|row| row.contents()).reduce(|one, other| one.stricter(&other));
        Some(Needs {
            signatures: rows.iter().any(|row| !row.require.is_empty()),
            contents: contents.unwrap_or(ContentsRule::Chain),
        })
    }

    /// What [`Policy::admit`] would say of an image of this one name to a tenant: for people, and no way to run
    /// anything.
    ///
    /// # Errors
    /// The refusal, unless the mode is audit: the preview carries it then.
    pub fn preview(
        &self,
        facts: &ImageFacts,
        signatures: Option<&SignatureFacts>,
        name: &str,
        tenant: &Namespace,
    ) -> Result<Preview, Refusal> {
        self.preview_of(facts, signatures, None, name, tenant)
    }

    /// [`Policy::preview`], where it is known what the image's files are.
    ///
    /// # Errors
    /// As [`Policy::preview`].
    pub fn preview_of(
        &self,
        facts: &ImageFacts,
        signatures: Option<&SignatureFacts>,
        contents: Option<&ContentsFacts>,
        name: &str,
        tenant: &Namespace,
    ) -> Result<Preview, Refusal> {
        let image = Image {
            facts,
            contents: contents.map_or(Known::Unasked, Known::Image),
            signatures,
            claimed: name,
            names: vec![name],
            deciding: Deciding::ClaimedName,
        };
        self.decide(&image, "a container to be", tenant).map(Preview::new)
    }

    /// Whether `argv` may be exec'd so now in a container that was created from `image` by `created`: both are judged by
    /// this policy, which may be another than that of the create.
    ///
    /// # Errors
    /// The refusal, unless the mode is audit.
    pub fn admit_exec(
        &self,
        image: &VerifiedImage,
        created: &CreateRequest,
        argv: &[String],
        interaction: Interaction,
    ) -> Result<ExecGrant, Refusal> {
        self.admit(image, created)?.admit_exec(argv, interaction)
    }

    fn decide(&self, image: &Image<'_>, place: &str, tenant: &Namespace) -> Result<Granted, Refusal> {
        let names: Vec<Named<'_>> = image.names.iter().filter_map(|name| self.named(name, image)).collect();
        let (accepted, would_refuse) = match self.judge(image, &names, &subject(image, place)) {
            Ok(accepted) => (accepted, None),
            Err(refusal) => match self.mode() {
                Mode::Enforce => return Err(refusal),
                Mode::Audit => (Vec::new(), Some(refusal)),
            },
        };
        let (mut confinement, exec_lists) = self.confine(&names, tenant);
        if would_refuse.is_some() {
            // Audit is for trying a policy out: it hands nobody the node.
            confinement.level = Level::Hardened;
        }
        let decisive = names.iter().filter(|name| name.decides).find_map(|name| name.node);
        Ok(Granted {
            confinement,
            scope: decisive.map(|row| row.scope.to_string()),
            mode: self.mode(),
            policy_hash: self.hash,
            would_refuse,
            image_volumes: Vec::new(),
            accepted,
            place: place.to_owned(),
            exec_lists,
        })
    }

    fn named(&self, name: &str, image: &Image<'_>) -> Option<Named<'_>> {
        let repository = Repository::of_name(name)?;
        let node = self.node.scope_of(&repository);
        let tenant = self.tenant.as_ref().and_then(|tenant| tenant.scope_of(&repository));
        let decides = match image.deciding {
            Deciding::AnyName => true,
            Deciding::ClaimedName => name == image.claimed,
        };
        Some(Named { repository, node, tenant, decides })
    }

    /// All that stands against the image; else the rules that it passed.
    fn judge(&self, image: &Image<'_>, names: &[Named<'_>], subject: &str) -> Result<Vec<Accepted>, Refusal> {
        let mut accepted = Vec::new();
        let target = &image.facts.target;
        let deciding = || names.iter().filter(|name| name.decides);
        if !deciding().any(|name| name.node.is_some()) {
            return Err(no_scope(&self.node.path, Role::Node, target, deciding().next(), subject));
        }
        if let Some(tenant) = &self.tenant
            && !deciding().any(|name| name.node.is_some() && name.tenant.is_some())
        {
            let admitted = deciding().find(|name| name.node.is_some());
            return Err(no_scope(&tenant.path, Role::Tenant, target, admitted, subject));
        }
        let rows = || {
            names.iter().flat_map(|name| {
                let tenant = name.tenant.zip(self.tenant.as_ref());
                name.node.map(|row| (row, &self.node)).into_iter().chain(tenant)
            })
        };
        for (row, file) in rows() {
            check_digest(row, &file.path, image.facts, subject)?;
            self.check_signers(row, file, image, subject, &mut accepted)?;
        }
        // Last: of an image that is refused anyway nobody looks at the files.
        for (row, file) in rows() {
            contents::check(row, &file.path, image.contents, subject)?;
        }
        Ok(accepted)
    }

    /// Each rule that a scope requires must be passed by a signature.
    fn check_signers(
        &self,
        row: &ScopeRow,
        file: &File,
        image: &Image<'_>,
        subject: &str,
        accepted: &mut Vec<Accepted>,
    ) -> Result<(), Refusal> {
        let nothing = SignatureFacts::default();
        let facts = image.signatures.unwrap_or(&nothing);
        for name in &row.require {
            // The parser saw to it that there is one.
            let rule = file.rules.get(name).ok_or_else(|| {
                let why = format!("{} has no [rule.{name}]", file.path.display());
                Refusal::new(Rule::Policy, subject, why, "write it")
            })?;
            let trust = &self.node.trust;
            let asked = Asked { name, rule, trust, material: &self.material, path: &file.path };
            let signer =
                asked.signer(facts).map_err(|found| asked.refusal(subject, image.fetch_name(), &found))?;
            let passed = Accepted { rule: name.clone(), signer: signer.clone() };
            if !accepted.contains(&passed) {
                accepted.push(passed);
            }
        }
        Ok(())
    }

    /// The strictest of all sections that the scopes of these names say, and the exec lists that went into it.
    fn confine(&self, names: &[Named<'_>], tenant: &Namespace) -> (Confinement, Vec<ExecList>) {
        let mut exec_lists = Vec::new();
        let (first, others) = sections(names.iter().filter_map(|name| name.node));
        let mut resolve = |name: &str| {
            let section = self.node.section(name);
            let resolved = Confinement { level: section.level_for(tenant), ..section.resolve(&built_in()) };
            exec_lists.push(ExecList::new(&self.node.path, name, &resolved.exec));
            resolved
        };
        let mut confinement = resolve(first);
        for name in others {
            confinement = confinement.stricter(&resolve(name));
        }
        if let Some(tenant) = &self.tenant {
            let (first, others) = sections(names.iter().filter_map(|name| name.tenant));
            for name in std::iter::once(first).chain(others) {
                let section = tenant.section(name);
                if let Some(patterns) = &section.exec {
                    exec_lists.push(ExecList::new(&tenant.path, name, patterns));
                }
                confinement = section.narrow(&confinement);
            }
        }
        (confinement, exec_lists)
    }
}

/// What is wanted to be known of an image before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Who signed it.
    pub signatures: bool,
    /// How its files are to be proven.
    pub contents: ContentsRule,
}

/// How the files of what a container sees are to be proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentsRules {
    /// Those of its image.
    pub image: ContentsRule,
    /// Those of its image volumes, in their order.
    pub volumes: Vec<ContentsRule>,
}

/// What is judged.
struct Image<'i> {
    facts: &'i ImageFacts,
    contents: Known<'i>,
    /// None where nobody looked: no rule is passed.
    signatures: Option<&'i SignatureFacts>,
    claimed: &'i str,
    names: Vec<&'i str>,
    deciding: Deciding,
}

impl<'i> Image<'i> {
    /// The first of its names that is one.
    fn fetch_name(&self) -> &'i str {
        let readable = |name: &&str| Repository::of_name(name).is_some();
        let mut names = std::iter::once(self.claimed).chain(self.names.iter().copied());
        names.find(readable).unwrap_or(self.claimed)
    }
}

/// Which names let an image in.
#[derive(Clone, Copy)]
enum Deciding {
    AnyName,
    ClaimedName,
}

/// One name of the image and the scopes that match it.
struct Named<'p> {
    repository: Repository,
    node: Option<&'p ScopeRow>,
    tenant: Option<&'p ScopeRow>,
    /// Whether a match of this name lets the image in.
    decides: bool,
}

/// The sections that scopes name, each once: one, and the others. The default where there is no scope.
fn sections<'p>(rows: impl Iterator<Item = &'p ScopeRow>) -> (&'p str, BTreeSet<&'p str>) {
    let mut names: BTreeSet<&str> = rows.map(|row| row.confine.as_str()).collect();
    (names.pop_first().unwrap_or(DEFAULT), names)
}

fn check_digest(row: &ScopeRow, path: &Path, facts: &ImageFacts, subject: &str) -> Result<(), Refusal> {
    let ScopeRow { scope, line, digests, require: _, confine: _, contents: _ } = row;
    let ImageFacts { target, manifest, .. } = facts;
    let Some(digests) = digests else { return Ok(()) };
    if digests.contains(target) || digests.contains(manifest) {
        return Ok(());
    }
    let place = format!("{}:{line}", path.display());
    let is = if target == manifest {
        format!("manifest {manifest}")
    } else {
        format!("index {target}, manifest {manifest}")
    };
    Err(Refusal::new(
        Rule::ImageDigest,
        subject,
        format!(
            "scope {scope:?} ({place}) lists {} digests, not this one: {is}",
            digests.len(),
            scope = scope.to_string()
        ),
        format!("add \"{target}\" to the digests in {place}, if this build is meant"),
    ))
}

fn no_scope(path: &Path, role: Role, target: &Digest, name: Option<&Named<'_>>, subject: &str) -> Refusal {
    let path = path.display();
    let Some(Named { repository, .. }) = name else {
        return Refusal::new(
            Rule::ImageScope,
            subject,
            "the image has no name that is a repository, so no scope can match it",
            "give it a name such as registry.example/team/app:1 and create the container by that name",
        );
    };
    let (whose, line) = match role {
        Role::Node => ("", format!("\"{repository}\" = {{ digests = [\"{}\"] }}", target)),
        Role::Tenant => (", the tenant's file,", format!("\"{repository}\" = {{}}")),
    };
    Refusal::new(
        Rule::ImageScope,
        subject,
        format!("no scope of [image] in {path}{whose} matches {repository}"),
        format!("add {line} below [image] in {path}, if it may run"),
    )
}

/// `image NAME@DIGEST of container ID`.
fn subject(image: &Image<'_>, place: &str) -> String {
    let name = image.fetch_name();
    let name = name.split('@').next().unwrap_or(name);
    format!("image {name}@{} of {place}", image.facts.target)
}

/// Each text by its own hash, so that no text can be moved from one file to the other without a trace.
fn hash(node: &Source, tenant: Option<&Source>) -> Digest {
    let node = Digest::of(node.text.as_bytes());
    let tenant = tenant.map_or("none".to_owned(), |tenant| Digest::of(tenant.text.as_bytes()).to_string());
    Digest::of(format!("{node} {tenant}").as_bytes())
}

#[cfg(test)]
mod tests;
