//! A layer's blob: gzip, Zstandard or a bare tar, against a directory.

use std::{
    fs::{self, File},
    io::Write as _,
    os::fd::AsFd as _,
};

use bulkhead_model::Digest;
use bulkhead_trust::{Compared, LayerToCompare, LayerXattrs, compare};

/// Two directories: a layer and the one below it, with a few of the names that the corpus has.
fn layers() -> &'static [File; 2] {
    static LAYERS: std::sync::OnceLock<[File; 2]> = std::sync::OnceLock::new();
    LAYERS.get_or_init(|| match make() {
        Ok(layers) => layers,
        Err(error) => panic!("a directory to compare with: {error}"),
    })
}

fn make() -> std::io::Result<[File; 2]> {
    let open = |name: &str| -> std::io::Result<File> {
        let dir = super::scratch()?.join(name);
        fs::create_dir_all(dir.join("etc"))?;
        fs::write(dir.join("etc/a"), "content")?;
        match std::os::unix::fs::symlink("a", dir.join("etc/link")) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(dir)
    };
    Ok([open("upper")?, open("lower")?])
}

pub(crate) fn run(bytes: &[u8]) {
    let attempt = || -> std::io::Result<()> {
        let mut blob = tempfile::tempfile()?;
        blob.write_all(bytes)?;
        let [upper, lower] = layers();
        let none = LayerXattrs::new();
        let digest = Digest::of(bytes);
        for below in [vec![], vec![(lower.as_fd(), &none)]] {
            // The name of a bare tar is its own; of a compressed one nothing hashes to, and all of it is read.
            let layer = LayerToCompare {
                dir: upper.as_fd(),
                xattrs: &none,
                below,
                blob: &blob,
                digest,
                diff_id: digest,
            };
            if let Ok(Compared::Same) = compare(&layer) {
                let said = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
                assert!(said(b"etc/a") && said(b"content"), "the same as a tar that does not speak of it");
            }
        }
        Ok(())
    };
    if let Err(error) = attempt() {
        panic!("a file for the blob: {error}");
    }
}
