//! What containerd's mount manager (2.2 and later) mounts before a shim is asked, mapped back to the snapshot's own files.
//!
//! ```text
//! snapshots.Mounts   erofs …/snapshots/2/layer.erofs │ erofs …/snapshots/1/layer.erofs │ format/mkdir/overlay lowerdir={{ overlay 0 1 }}
//!                          │ mounted by the manager ──────────┘                                     │
//! request.rootfs           └────────────────────────────► overlay lowerdir=STATE/t/7/2:STATE/t/7/1 ─┘ not looked at
//! here               overlay lowerdir=…/snapshots/2/fs:…/snapshots/1/fs, each mounted by ourselves from its layer.erofs
//! ```
//! Invariant: of the request's places of layers only their number counts: what lies there is the manager's, and whoever
//! mounts over it. What is shown are the files that the snapshots of the chain have.
//! Never here: opening or mounting a file; that is `bulkhead_layers`.
//!
//! Source: `mounts` and `overlayMounts`, containerd plugins/snapshots/erofs/erofs.go; `formatString`,
//! core/mount/manager/format.go.

use std::path::{Path, PathBuf};

use bulkhead_model::Mount;

/// Name of a layer's image beside the directory that stands for it.
///
/// Source: `layerBlobPath`, containerd plugins/snapshots/erofs/erofs.go.
const IMAGE: &str = "/layer.erofs";

/// The directory beside it that every snapshot has.
///
/// Source: `prepareDirectory`, the same.
const PLACE: &str = "/fs";

/// The type of the last mount: the manager fills in its options, makes directories that they name, and leaves the overlay.
///
/// Source: `overlayMounts`, the same.
const TEMPLATES: [&str; 2] = ["format/mkdir/overlay", "format/overlay"];

const LOWER: &str = "lowerdir=";

/// The mounts of a snapshot as one: as it is where there is one that a shim is handed as it is; else an overlay of
/// the layers where their images are. Of what the manager has to do, only mounting layers is known.
///
/// # Errors
/// Says what else the manager would have to do, or what else the snapshot is.
pub fn one_mount(mounts: &[Mount]) -> Result<Mount, String> {
    match Managed::of(mounts)? {
        Some(managed) => Ok(managed.overlay()),
        None => match mounts {
            [mount] => Ok(mount.clone()),
            _ => Err(format!("its snapshot has {} mounts; one of layers is known", mounts.len())),
        },
    }
}

/// A snapshot whose layers the manager mounts.
#[derive(Debug)]
pub(crate) struct Managed<'a> {
    /// Directories that stand for the layers, the highest first.
    layers: Vec<String>,
    /// What the shim is handed, but for its `lowerdir`; none for a view of a single layer, of which nothing is left for
    /// a shim to mount.
    template: Option<&'a Mount>,
}

impl<'a> Managed<'a> {
    /// Takes a snapshot's mounts apart; none where they are not the manager's.
    pub(crate) fn of(mounts: &'a [Mount]) -> Result<Option<Self>, String> {
        let is_managed = |mount: &Mount| mount.kind.contains('/') || mount.kind == "erofs";
        let Some((last, before)) = mounts.split_last().filter(|_| mounts.iter().any(is_managed)) else {
            return Ok(None);
        };
        if last.kind == "erofs" && before.is_empty() {
            return Ok(Some(Self { layers: vec![place(last)?], template: None }));
        }
        if !TEMPLATES.contains(&last.kind.as_str()) || last.target != Path::new("") {
            return Err(format!(
                "its snapshot is a mount of type {:?}, which containerd's mount manager makes and nobody here knows",
                last.kind
            ));
        }
        let layers = before.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let mut named = 0;
        for option in &last.options {
            if let Some(lower) = option.strip_prefix(LOWER) {
                named += 1;
                let all = match layers.len() {
                    1 => lower == "{{ mount 0 }}",
                    count => lower == format!("{{{{ overlay 0 {} }}}}", count.saturating_sub(1)),
                };
                if !all {
                    return Err(format!(
                        "its snapshot's layers are {lower:?}, which are not its mounts in their order"
                    ));
                }
            } else if option.contains("{{") || option.starts_with("X-containerd.") {
                return Err(format!(
                    "its snapshot is mounted with {option:?}, which containerd's mount manager would have to see to"
                ));
            }
        }
        if named != 1 {
            return Err("its snapshot's overlay does not name its layers once".to_owned());
        }
        Ok(Some(Self { layers, template: Some(last) }))
    }

    /// What to mount.
    pub(crate) fn overlay(&self) -> Mount {
        let lower = format!("{LOWER}{}", self.layers.join(":"));
        let (source, options) = match self.template {
            None => ("overlay".to_owned(), vec![lower, "ro".to_owned()]),
            Some(template) => (template.source.clone(), self.filled_in(template, &lower)),
        };
        Mount { kind: "overlay".to_owned(), source, target: PathBuf::new(), options }
    }

    /// What the shim must have been handed, with the layers where `asked` says that the manager has mounted them.
    pub(crate) fn handed(&self, asked: &[Mount]) -> Result<Vec<Mount>, String> {
        let Some(template) = self.template else { return Ok(Vec::new()) };
        let lower = asked.iter().flat_map(|mount| &mount.options).find(|option| option.starts_with(LOWER));
        let lower = lower.ok_or("the request's overlay has no lowerdir")?;
        let places: Vec<&str> = lower.strip_prefix(LOWER).unwrap_or_default().split(':').collect();
        if places.len() != self.layers.len() || !places.iter().all(|place| place.starts_with('/')) {
            return Err(format!(
                "the request mounts {} directories, its snapshot has {} layers",
                places.len(),
                self.layers.len()
            ));
        }
        let options = self.filled_in(template, lower);
        let kind = "overlay".to_owned();
        Ok(vec![Mount { kind, source: template.source.clone(), target: PathBuf::new(), options }])
    }

    fn filled_in(&self, template: &Mount, lower: &str) -> Vec<String> {
        let fill =
            |option: &String| if option.starts_with(LOWER) { lower.to_owned() } else { option.clone() };
        template.options.iter().map(fill).collect()
    }
}

/// The directory that stands for the layer of a mount: containerd's own snapshots have one beside each image.
fn place(mount: &Mount) -> Result<String, String> {
    let Mount { kind, source, target, options } = mount;
    if kind != "erofs" || target != Path::new("") {
        return Err(format!(
            "its snapshot has a mount of type {kind:?} below its layers: a file system of a container's own in a file \
             (default_size of the erofs snapshotter), say"
        ));
    }
    for option in options {
        let what = match option.split_once('=').map_or(option.as_str(), |(key, _)| key) {
            // The file is mounted read-only here whatever is said, and by no loop device.
            "ro" | "loop" => continue,
            "device" => "several layers are merged into one image, in which they cannot be told apart",
            "X-containerd.dmverity" => "it is to be read through dm-verity, which is not set up here",
            _ => "that is not known here",
        };
        return Err(format!("its layer {source} is mounted with {option:?}: {what}"));
    }
    let dir = source.strip_suffix(IMAGE).filter(|dir| dir.starts_with('/'));
    let dir =
        dir.filter(|dir| !dir.contains([':', ',', '\\', '"']) && !dir.split('/').any(|name| name == ".."));
    let dir = dir.ok_or_else(|| {
        format!("its layer {source} is no layer.erofs of a snapshot: out of a cache of layers, say")
    })?;
    Ok(format!("{dir}{PLACE}"))
}

#[cfg(test)]
mod tests;
