//! Who may be asked for signatures that a launch lacks.

use bulkhead_binding::VerifiedImage;
use bulkhead_model::{CreateRequest, FetchFrom, ImageFacts, Refusal, Rule};

use super::Policy;
use crate::{rule::FetchRule, scope::Repository};

impl Policy {
    /// Whether registries may be asked for signatures, by whom.
    #[must_use]
    pub fn fetch(&self) -> FetchRule {
        self.node.trust.fetch
    }

    /// Whom a launch asks for signatures: where [trust] says so and the image, or one of its volumes, is admitted but for
    /// one. The registry is that of a name that containerd has for the image, and stands in full in the scope of the
    /// node's file that matches it: no tenant names an address here.
    #[must_use]
    pub fn fetch_from(&self, image: &VerifiedImage, request: &CreateRequest) -> Vec<FetchFrom> {
        // Of every launch: nothing more is asked where nobody is to be asked.
        if self.fetch() != FetchRule::Launch {
            return Vec::new();
        }
        let lacks = |refusal: &Refusal| refusal.rule == Rule::ImageSignature;
        let lacking = match self.admit_compared(image, request) {
            Ok(grant) => grant.would_refuse().is_some_and(lacks),
            Err(refusal) => lacks(&refusal),
        };
        if !lacking {
            return Vec::new();
        }
        let names = image.names().iter().map(String::as_str);
        let own = self.fetch_of(image.facts(), [image.claimed_name()].into_iter().chain(names));
        let volumes = image.volumes().iter();
        let volumes = volumes
            .filter_map(|volume| self.fetch_of(volume.facts(), volume.names().iter().map(String::as_str)));
        own.into_iter().chain(volumes).collect()
    }

    fn fetch_of<'n>(
        &self,
        facts: &ImageFacts,
        mut names: impl Iterator<Item = &'n str>,
    ) -> Option<FetchFrom> {
        let repository = names.find_map(|name| {
            let repository = Repository::of_name(name)?;
            let scope = &self.node.scope_of(&repository)?.scope;
            (scope.names_registry() && self.requires(name)).then_some(repository)
        })?;
        Some(FetchFrom {
            target: facts.target,
            repository: repository.to_string(),
            hosts_dirs: self.node.trust.hosts_dirs.clone(),
            docker_config: self.node.trust.docker_config.clone(),
        })
    }
}
