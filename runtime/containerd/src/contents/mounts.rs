//! The directories of layers in the mounts of a snapshot.

use std::path::PathBuf;

use bulkhead_model::Mount;

/// Where the layers of a container are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    /// The lowest first.
    pub(crate) dirs: Vec<PathBuf>,
    /// The container's own, if it can write.
    pub(crate) own: Option<PathBuf>,
}

/// Reads what containerd's overlayfs snapshotter gives: an overlay, or, of a single layer that is only read, a bind; and
/// what its EROFS snapshotter gives, before or after the mount manager.
///
/// Source: containerd plugins/snapshots/overlay/overlay.go, `mounts`.
pub(crate) fn layers(mounts: &[Mount], count: usize) -> Result<Layers, String> {
    let mount = bulkhead_binding::one_mount(mounts)?;
    let value =
        |name: &str| mount.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    let layers = match mount.kind.as_str() {
        "overlay" => {
            // Overlayfs takes `\` for an escape, and `::` for layers of data alone: containerd writes neither.
            let lower = value("lowerdir").ok_or("the overlay has no lowerdir")?;
            if lower.contains('\\') || lower.contains("::") || lower.contains('"') {
                return Err("the overlay's lowerdir is none that containerd writes".to_owned());
            }
            // The last of several counts for one kernel, all of them for another.
            let many = |name: &str| {
                mount.options.iter().filter(|option| option.split('=').next() == Some(name)).count() > 1
            };
            if ["lowerdir+", "datadir+"].iter().any(|name| value(name).is_some())
                || ["lowerdir", "upperdir"].into_iter().any(many)
            {
                return Err("the overlay has layers that containerd does not write".to_owned());
            }
            Layers {
                dirs: lower.split(':').rev().map(PathBuf::from).collect(),
                own: value("upperdir").map(PathBuf::from),
            }
        }
        "bind" if mount.options.iter().any(|option| option == "ro") => {
            Layers { dirs: vec![PathBuf::from(&mount.source)], own: None }
        }
        "bind" => {
            return Err(
                "the snapshot is a copy of all layers in one directory (the native snapshotter's), which \
                        cannot be told apart by layer"
                    .to_owned(),
            );
        }
        other => return Err(format!("the snapshot is a mount of type {other:?}")),
    };
    if layers.dirs.len() != count {
        return Err(format!(
            "the snapshot mounts {} directories, the image has {count} layers",
            layers.dirs.len()
        ));
    }
    match layers.dirs.iter().chain(&layers.own).find(|dir| !dir.is_absolute()) {
        None => Ok(layers),
        Some(dir) => Err(format!("the layer {} is no absolute path", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mount(kind: &str, options: &[&str]) -> Vec<Mount> {
        vec![Mount {
            kind: kind.to_owned(),
            source: "/s/1/fs".to_owned(),
            target: PathBuf::new(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }]
    }

    #[test]
    fn layers_are_read_from_the_bottom_with_the_containers_own() {
        let found =
            layers(&mount("overlay", &["index=off", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"]), 2);
        let own = Some("/s/3/fs".into());
        assert_eq!(found.unwrap(), Layers { dirs: vec!["/s/1/fs".into(), "/s/2/fs".into()], own });
        let found = layers(&mount("bind", &["ro", "rbind"]), 1).unwrap();
        assert_eq!(found, Layers { dirs: vec!["/s/1/fs".into()], own: None });
    }

    #[test]
    fn mounts_that_show_other_directories_than_one_per_layer_are_said_so() {
        for (kind, options, count) in [
            ("overlay", &["lowerdir=/s/2/fs:/s/1/fs"][..], 3),
            ("overlay", &["lowerdir=/s/2/fs::/data"], 2),
            ("overlay", &["lowerdir=/s/2\\:x/fs:/s/1/fs"], 2),
            ("overlay", &["lowerdir=2/fs:1/fs"], 2),
            ("overlay", &["lowerdir=/s/2/fs:/s/1/fs", "lowerdir+=/evil"], 2),
            ("overlay", &["lowerdir=/s/2/fs:/s/1/fs", "lowerdir=/evil:/s/1/fs"], 2),
            ("overlay", &["lowerdir=/s/2/fs:/s/1/fs", "upperdir=/s/3/fs", "upperdir=/evil"], 2),
            ("overlay", &["upperdir=/s/3/fs"], 1),
            ("bind", &["rw", "rbind"], 1),
            ("bind", &["ro", "rbind"], 2),
            ("erofs", &["ro"], 1),
        ] {
            assert!(layers(&mount(kind, options), count).is_err(), "{kind} {options:?}");
        }
    }
}
