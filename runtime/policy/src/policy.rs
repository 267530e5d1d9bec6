//! A node's and a tenant's file together, and the one way to a [`Grant`].
//!
//! Every name of the image that a scope matches is judged, and all must pass: of several names the strictest verdict
//! wins. Names that no scope matches say nothing, but one name must be matched by every file: outside of CRI the one
//! that the container was created with; in CRI any, because containerd writes any reference of the image into the
//! record there, and another tenant's pull of the same bytes must not decide.

use std::path::Path;

use bulkhead_binding::VerifiedImage;
use bulkhead_model::{Confinement, CreateRequest, Digest, ImageFacts, Refusal, Rule};

use crate::{
    ExecGrant, Grant, Mode, PolicyError, Source,
    confine::{Section, built_in},
    grant::{ExecList, Granted},
    parse::{DEFAULT, File, Role, ScopeRow},
    scope::Repository,
    strict::Stricter,
};

/// What a node lets run for one tenant.
#[derive(Clone, Debug)]
pub struct Policy {
    node: File,
    tenant: Option<File>,
    hash: Digest,
}

impl Policy {
    /// The policy of a node's file, narrowed by a tenant's.
    ///
    /// # Errors
    /// Everything that is wrong with the two files.
    pub fn parse(node: &Source, tenant: Option<&Source>) -> Result<Self, PolicyError> {
        let tenant_file = tenant.map(|source| File::parse(source, Role::Tenant)).transpose();
        match (File::parse(node, Role::Node), tenant_file) {
            (Ok(node_file), Ok(tenant_file)) => {
                Ok(Self { node: node_file, tenant: tenant_file, hash: hash(node, tenant) })
            }
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

    /// SHA-256 over both texts: two policies that may differ have different hashes.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Whether the image may run, and how it is confined.
    ///
    /// # Errors
    /// The refusal, unless the mode is audit: the grant carries it then.
    pub fn admit(&self, image: &VerifiedImage, request: &CreateRequest) -> Result<Grant, Refusal> {
        let names: Vec<Named<'_>> = image
            .names()
            .iter()
            .map(String::as_str)
            .chain([image.claimed_name()])
            .filter_map(|name| self.named(name, image))
            .collect();
        let subject = subject(image, request);
        let would_refuse = match self.judge(image, &names, &subject) {
            Ok(()) => None,
            Err(refusal) => match self.mode() {
                Mode::Enforce => return Err(refusal),
                Mode::Audit => Some(refusal),
            },
        };
        let node_sections = sections(names.iter().filter_map(|name| name.node));
        let tenant_sections = sections(names.iter().filter_map(|name| name.tenant));
        let mut exec_lists = Vec::new();
        let mut confinement: Option<Confinement> = None;
        for name in &node_sections {
            let section = self.node.section(name).resolve(&built_in());
            exec_lists.push(ExecList::new(&self.node.path, name, &section.exec));
            confinement = Some(confinement.map_or_else(|| section.clone(), |other| other.stricter(&section)));
        }
        // There is always one: `sections` gives the default where no scope names another.
        let mut confinement = confinement.unwrap_or_else(|| self.node.section(DEFAULT).resolve(&built_in()));
        if let Some(tenant) = &self.tenant {
            for name in &tenant_sections {
                let section: Section = tenant.section(name);
                if let Some(patterns) = &section.exec {
                    exec_lists.push(ExecList::new(&tenant.path, name, patterns));
                }
                confinement = section.narrow(&confinement);
            }
        }
        let decisive = names.iter().find(|name| name.decides && name.node.is_some());
        Ok(Grant::new(Granted {
            confinement,
            scope: decisive.and_then(|name| name.node).map(|row| row.scope.to_string()),
            mode: self.mode(),
            policy_hash: self.hash,
            would_refuse,
            container: request.id.clone(),
            exec_lists,
        }))
    }

    /// Whether `argv` may be exec'd now in a container that was created from `image` by `created`: both are judged by
    /// this policy, which may be another than that of the create.
    ///
    /// # Errors
    /// The refusal, unless the mode is audit.
    pub fn admit_exec(
        &self,
        image: &VerifiedImage,
        created: &CreateRequest,
        argv: &[String],
    ) -> Result<ExecGrant, Refusal> {
        self.admit(image, created)?.admit_exec(argv)
    }

    fn named(&self, name: &str, image: &VerifiedImage) -> Option<Named<'_>> {
        let repository = Repository::of_name(name)?;
        let node = self.node.scope_of(&repository);
        let tenant = self.tenant.as_ref().and_then(|tenant| tenant.scope_of(&repository));
        let decides = image.in_cri() || name == image.claimed_name();
        Some(Named { repository, node, tenant, decides })
    }

    fn judge(&self, image: &VerifiedImage, names: &[Named<'_>], subject: &str) -> Result<(), Refusal> {
        let facts = image.facts();
        let deciding = || names.iter().filter(|name| name.decides);
        if !deciding().any(|name| name.node.is_some()) {
            return Err(no_scope(&self.node.path, Role::Node, image, deciding().next(), subject));
        }
        if let Some(tenant) = &self.tenant
            && !deciding().any(|name| name.node.is_some() && name.tenant.is_some())
        {
            let admitted = deciding().find(|name| name.node.is_some());
            return Err(no_scope(&tenant.path, Role::Tenant, image, admitted, subject));
        }
        for name in names {
            for (row, file) in [(name.node, Some(&self.node)), (name.tenant, self.tenant.as_ref())] {
                if let (Some(row), Some(file)) = (row, file) {
                    check_digest(row, &file.path, facts, subject)?;
                }
            }
        }
        Ok(())
    }
}

/// One name of the image and the scopes that match it.
struct Named<'p> {
    repository: Repository,
    node: Option<&'p ScopeRow>,
    tenant: Option<&'p ScopeRow>,
    /// Whether a match of this name lets the image in.
    decides: bool,
}

/// The sections that scopes name, each once; the default where there are none.
fn sections<'p>(rows: impl Iterator<Item = &'p ScopeRow>) -> Vec<&'p str> {
    let mut names: Vec<&str> = rows.map(|row| row.confine.as_str()).collect();
    if names.is_empty() {
        names.push(DEFAULT);
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn check_digest(row: &ScopeRow, path: &Path, facts: &ImageFacts, subject: &str) -> Result<(), Refusal> {
    let ScopeRow { scope, line, digests, confine: _ } = row;
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
        format!("if this build is meant, add \"{target}\" to the digests in {place}"),
    ))
}

fn no_scope(
    path: &Path,
    role: Role,
    image: &VerifiedImage,
    name: Option<&Named<'_>>,
    subject: &str,
) -> Refusal {
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
        Role::Node => ("", format!("\"{repository}\" = {{ digests = [\"{}\"] }}", image.facts().target)),
        Role::Tenant => (", the tenant's file", format!("\"{repository}\" = {{}}")),
    };
    Refusal::new(
        Rule::ImageScope,
        subject,
        format!("no scope of [image] in {path}{whose}, matches {repository}"),
        format!("if it may run, add below [image] in {path}: {line}"),
    )
}

/// `image NAME@DIGEST of container ID`.
fn subject(image: &VerifiedImage, request: &CreateRequest) -> String {
    let target = image.facts().target;
    let readable = |name: &&str| Repository::of_name(name).is_some();
    let name = [image.claimed_name()]
        .into_iter()
        .chain(image.names().iter().map(String::as_str))
        .find(readable)
        .unwrap_or(image.claimed_name());
    let name = name.split('@').next().unwrap_or(name);
    format!("image {name}@{target} of container {}", request.id)
}

/// Each text by its own hash, so that no text can be moved from one file to the other without a trace.
fn hash(node: &Source, tenant: Option<&Source>) -> Digest {
    let node = Digest::of(node.text.as_bytes());
    let tenant = tenant.map_or("none".to_owned(), |tenant| Digest::of(tenant.text.as_bytes()).to_string());
    Digest::of(format!("{node} {tenant}").as_bytes())
}

#[cfg(test)]
mod tests;
