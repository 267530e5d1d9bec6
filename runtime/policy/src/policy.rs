//! A node's and a tenant's file together, and the one way to a [`Grant`].
//!
//! Every name of the image that a scope matches is judged, and all must pass: of several names the strictest verdict
//! wins. Names that no scope matches say nothing, but one name must be matched by every file: outside of CRI the one
//! that the container was created with; in CRI any, because containerd writes any reference of the image into the
//! record there, and another tenant's pull of the same bytes must not decide.

mod fetch;
mod judge;
mod needs;

use std::{collections::BTreeSet, path::Path};

use bulkhead_binding::{VerifiedImage, VerifiedVolume};
use bulkhead_model::{
    Confinement, ContentsFacts, CreateRequest, Digest, ImageFacts, Interaction, Level, Namespace, Refusal,
    SignatureFacts, TrustMaterial,
};

pub use needs::{ContentsRules, Needs};

use self::judge::{Deciding, Image, Named, subject};
use crate::{
    ExecGrant, Grant, Mode, PolicyError, Preview, Source,
    confine::built_in,
    contents::Known,
    grant::{ExecList, Granted},
    parse::{DEFAULT, File, Role, ScopeRow},
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

/// The sections that scopes name, each once: one, and the others. The default where there is no scope.
fn sections<'p>(rows: impl Iterator<Item = &'p ScopeRow>) -> (&'p str, BTreeSet<&'p str>) {
    let mut names: BTreeSet<&str> = rows.map(|row| row.confine.as_str()).collect();
    (names.pop_first().unwrap_or(DEFAULT), names)
}

/// Each text by its own hash, so that no text can be moved from one file to the other without a trace.
fn hash(node: &Source, tenant: Option<&Source>) -> Digest {
    let node = Digest::of(node.text.as_bytes());
    let tenant = tenant.map_or("none".to_owned(), |tenant| Digest::of(tenant.text.as_bytes()).to_string());
    Digest::of(format!("{node} {tenant}").as_bytes())
}

#[cfg(test)]
mod tests;
