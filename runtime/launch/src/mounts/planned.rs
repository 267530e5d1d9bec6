//! One mount of a spec, as it is to be made.

use std::path::Path;

use bulkhead_model::IdExtent;
use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::{Level, Links, Planned, ShownIds, Sources, What, When, copy_up::Top};
use crate::{LaunchError, blind};

/// What is to be done about it; `index` is its place in the list.
pub(super) fn planned(
    index: usize,
    mount: &Mount,
    level: Level,
    sources: &Sources<'_>,
    task_dir: &Path,
) -> Result<Planned, LaunchError> {
    let destination = mount.destination().clone();
    let mut options = mount.options().clone().unwrap_or_default();
    let kind = mount.typ().clone().unwrap_or_default();
    let source = mount.source().clone().ok_or(LaunchError::Plan("a mount without a source"))?;
    let is_bind = kind == "bind" || options.iter().any(|option| option == "bind" || option == "rbind");
    let image = sources.images.iter().find(|volume| volume.source == source);
    let what = match image {
        Some(volume) if is_bind => {
            What::Image { volume: volume.clone(), dir: task_dir.join("images").join(index.to_string()) }
        }
        _ if is_bind => {
            let links = if level == Level::Compatible && source != blind::cgroup_view(task_dir) {
                Links::Node
            } else {
                let above = sources.roots.iter().filter(|root| source.starts_with(root));
                let root = above.max_by_key(|root| root.components().count()).unwrap_or(&source);
                Links::NodeAsFarAs(root.clone())
            };
            What::Bind { path: source, links }
        }
        _ => {
            if destination == Path::new("/dev") {
                // It is filled yet.
                options.retain(|option| option != "ro" && option != "rro");
            }
            let source = source.into_os_string().into_string();
            let source = source.map_err(|_| LaunchError::Plan("a source that is no text"))?;
            What::FileSystem { kind, source }
        }
    };
    // One that is the container's user's has the image's mode; /tmp stays everybody's.
    let top = match options.iter().any(|option| option.starts_with("uid=")) {
        true => Top::Mode,
        false => Top::Nothing,
    };
    let top = match level {
        Level::Hardened => top,
        Level::Compatible if options.iter().any(|option| option.starts_with("mode=")) => Top::Nothing,
        Level::Compatible => Top::Mode,
    };
    let copy_up = sources.copied_up.contains(&destination).then_some(top);
    let ids = match level {
        // All of them show the same.
        Level::Hardened => None,
        Level::Compatible => shown_ids(mount),
    };
    Ok(Planned { destination, what, options, copy_up, ids, when: When::First })
}

fn shown_ids(mount: &Mount) -> Option<ShownIds> {
    let extent = |mapping: &LinuxIdMapping| IdExtent {
        inside: mapping.container_id(),
        outside: mapping.host_id(),
        count: mapping.size(),
    };
    let list = |list: &Option<Vec<LinuxIdMapping>>| list.iter().flatten().map(extent).collect::<Vec<_>>();
    let (uids, gids) = (list(mount.uid_mappings()), list(mount.gid_mappings()));
    let recursive = mount.options().iter().flatten().any(|option| option == "ridmap");
    (!uids.is_empty()).then_some(ShownIds { uids, gids, recursive })
}
