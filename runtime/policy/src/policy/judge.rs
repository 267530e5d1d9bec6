//! One image against the scopes that its names match.

use std::path::Path;

use bulkhead_model::{Digest, ImageFacts, Refusal, Rule, SignatureFacts};

use super::Policy;
use crate::{
    contents::{self, Known},
    grant::Accepted,
    parse::{File, Role, ScopeRow},
    rule::Asked,
    scope::Repository,
};

/// What is judged.
pub(super) struct Image<'i> {
    pub(super) facts: &'i ImageFacts,
    pub(super) contents: Known<'i>,
    /// None where nobody looked: no rule is passed.
    pub(super) signatures: Option<&'i SignatureFacts>,
    pub(super) claimed: &'i str,
    pub(super) names: Vec<&'i str>,
    pub(super) deciding: Deciding,
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
pub(super) enum Deciding {
    AnyName,
    ClaimedName,
}

/// One name of the image and the scopes that match it.
pub(super) struct Named<'p> {
    repository: Repository,
    pub(super) node: Option<&'p ScopeRow>,
    pub(super) tenant: Option<&'p ScopeRow>,
    /// Whether a match of this name lets the image in.
    pub(super) decides: bool,
}

impl Policy {
    pub(super) fn named(&self, name: &str, image: &Image<'_>) -> Option<Named<'_>> {
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
    pub(super) fn judge(
        &self,
        image: &Image<'_>,
        names: &[Named<'_>],
        subject: &str,
    ) -> Result<Vec<Accepted>, Refusal> {
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
pub(super) fn subject(image: &Image<'_>, place: &str) -> String {
    let name = image.fetch_name();
    let name = name.split('@').next().unwrap_or(name);
    format!("image {name}@{} of {place}", image.facts.target)
}
