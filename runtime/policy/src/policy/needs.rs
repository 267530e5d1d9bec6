//! What has to be found out about an image before it is judged: who signed it, and whether its files are its layers'.

use bulkhead_binding::{VerifiedImage, VerifiedVolume};
use bulkhead_model::{ContentsFacts, ContentsRule, CreateRequest, Refusal};

use super::Policy;
use crate::{Grant, parse::ScopeRow, scope::Repository, strict::Stricter as _};

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

impl Policy {
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
    pub(super) fn admit_compared(
        &self,
        image: &VerifiedImage,
        request: &CreateRequest,
    ) -> Result<Grant, Refusal> {
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
}
