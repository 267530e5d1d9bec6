//! The policy of this node for one tenant, read as it is now.

use std::path::{Path, PathBuf};

use bulkhead_model::{Layout, Namespace, ROOT_VARIABLE, Refusal, Rule};
use bulkhead_policy::{Policy, Source};

use crate::{NodeError, TrustedFile, load_material, read_trusted};

/// The layout below `BULKHEAD_ROOT`, or `/`. Whoever sets the environment of a privileged process is trusted.
#[must_use]
pub fn layout_from_environment() -> Layout {
    Layout::below(
        std::env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty()).unwrap_or_else(|| "/".into()),
    )
}

/// The directory of the tenants' files that belong to a node's file: beside it.
#[must_use]
pub fn tenants_dir(node_file: &Path) -> PathBuf {
    node_file.parent().unwrap_or(Path::new("/")).join("tenants")
}

/// The policy for the tenant `namespace`: `node_file`, or the layout's own where containerd names none, narrowed by
/// the tenant's file beside it, if there is one; with the keys and roots that the two name.
///
/// # Errors
/// [`Rule::Policy`], when there is no node's file, or when either file cannot be trusted, read or understood.
pub fn load_policy(
    layout: &Layout,
    node_file: Option<&Path>,
    namespace: &Namespace,
) -> Result<Policy, Refusal> {
    let node_file = node_file.map_or_else(|| layout.policy_file(), Path::to_owned);
    let node = node_source(layout, &node_file)?;
    let tenant_file = tenants_dir(&node_file).join(format!("{namespace}.toml"));
    let tenant = match read_trusted(layout, &tenant_file) {
        Ok(file) => Some(source(file)),
        Err(NodeError::Missing(_)) => None,
        Err(error) => return Err(refuse(&tenant_file, &error)),
    };
    parse(layout, &node_file, &node, tenant.as_ref())
}

/// The node's policy alone, where nobody has said for whom: what no tenant may run, none may.
///
/// # Errors
/// As [`load_policy`].
pub fn load_node_policy(layout: &Layout) -> Result<Policy, Refusal> {
    let node_file = layout.policy_file();
    parse(layout, &node_file, &node_source(layout, &node_file)?, None)
}

fn parse(
    layout: &Layout,
    node_file: &Path,
    node: &Source,
    tenant: Option<&Source>,
) -> Result<Policy, Refusal> {
    let policy = Policy::parse(node, tenant)?;
    let material = load_material(layout, node_file.parent().unwrap_or(Path::new("/")), &policy)?;
    Ok(policy.with_material(material))
}

fn node_source(layout: &Layout, node_file: &Path) -> Result<Source, Refusal> {
    match read_trusted(layout, node_file) {
        Ok(file) => Ok(source(file)),
        Err(NodeError::Missing(_)) => Err(no_policy(layout, node_file)),
        Err(error) => Err(refuse(node_file, &error)),
    }
}

fn source(file: TrustedFile) -> Source {
    let TrustedFile { path, text } = file;
    Source { path, text }
}

fn no_policy(layout: &Layout, path: &Path) -> Refusal {
    let root = if layout.root() == Path::new("/") {
        String::new()
    } else {
        format!(" --root {}", layout.root().display())
    };
    Refusal::new(
        Rule::Policy,
        "there is no policy, so nothing runs",
        format!("{} does not exist", path.display()),
        format!("write one: bulkhead init{root}"),
    )
}

fn refuse(path: &Path, error: &NodeError) -> Refusal {
    let cause = std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
    Refusal::new(
        Rule::Policy,
        format!("policy {} cannot be trusted, so nothing runs", path.display()),
        format!("{error}{cause}"),
        error.fix(),
    )
}

#[cfg(test)]
mod tests;
