//! What may be changed below a container, and how it is taken back.

use std::{
    collections::BTreeMap,
    fs::{self, File, FileTimes},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{XattrFlags, lsetxattr};

/// One edit.
pub(crate) struct Edit {
    pub(crate) what: &'static str,
    /// Of the image's layers, from 0.
    pub(crate) layer: usize,
    pub(crate) make: fn(&Path),
    /// What is named.
    pub(crate) path: &'static str,
    /// What is said of it.
    pub(crate) said: &'static str,
}

const fn edit(
    what: &'static str,
    layer: usize,
    make: fn(&Path),
    path: &'static str,
    said: &'static str,
) -> Edit {
    Edit { what, layer, make, path, said }
}

/// All of them. Layer 2 is that of plain shapes, 3 has whiteouts.
pub(crate) fn all() -> Vec<Edit> {
    vec![
        edit(
            "bytes, mtime put back",
            2,
            |dir| rewrite(&dir.join("s/owned"), b"other"),
            "/s/owned",
            "has other bytes",
        ),
        edit("bytes of a large file", 2, edit_large, "/s/large", "has other bytes"),
        edit("a byte in a hole", 2, |dir| poke(&dir.join("s/sparse"), 100), "/s/sparse", "has other bytes"),
        edit(
            "a longer file",
            2,
            |dir| fs::write(dir.join("s/empty"), "x").unwrap(),
            "/s/empty",
            "has 1 bytes",
        ),
        edit(
            "an added file",
            2,
            |dir| fs::write(dir.join("s/more"), "x").unwrap(),
            "/s/more",
            "is not in the image",
        ),
        edit(
            "an added directory",
            0,
            |dir| fs::create_dir(dir.join("zzz")).unwrap(),
            "/zzz",
            "is not in the image",
        ),
        edit(
            "a removed file",
            2,
            |dir| fs::remove_file(dir.join("s/user")).unwrap(),
            "/s/user",
            "is missing",
        ),
        edit("a mode", 2, |dir| mode(&dir.join("s/owned"), 0o4640), "/s/owned", "has mode 4640"),
        edit(
            "a mode of a directory",
            2,
            |dir| mode(&dir.join("s/sticky"), 0o777),
            "/s/sticky",
            "has mode 0777",
        ),
        edit(
            "an owner",
            2,
            |dir| chown(dir.join("s/one"), Some(7), None).unwrap(),
            "/s/one",
            "belongs to 7:0",
        ),
        edit("a capability", 2, |dir| capability(&dir.join("s/owned")), "/s/owned", "security.capability"),
        edit(
            "an attribute's value",
            2,
            |dir| xattr(&dir.join("s/user"), "user.note", b"other"),
            "/s/user",
            "another value",
        ),
        edit(
            "a directory made opaque",
            2,
            |dir| xattr(&dir.join("s"), "trusted.overlay.opaque", b"y"),
            "/s",
            "trusted.overlay.opaque",
        ),
        edit(
            "a redirect",
            3,
            |dir| xattr(&dir.join("hidden"), "trusted.overlay.redirect", b"/bin"),
            "/hidden",
            "redirect",
        ),
        edit("a broken hard link", 2, break_link, "/s/one", "hard links"),
        edit("a hard link swapped", 2, swap_link, "/s/capable", "hard links"),
        edit("a symbolic link", 2, relink, "/s/symlink", "points to"),
        edit("a file for a symbolic link", 2, unlink_to_file, "/s/dangling", "is a file"),
        edit("a device's number", 2, other_device, "/s/null", "is device 1:1"),
        edit(
            "a whiteout more",
            3,
            |dir| node(&dir.join("bin"), &["c", "0", "0"]),
            "/bin",
            "is not in the image",
        ),
        edit("a whiteout less", 3, |dir| fs::remove_file(dir.join("gone")).unwrap(), "/gone", "is missing"),
        edit(
            "an implied directory",
            3,
            |dir| mode(&dir.join("below/dir/new"), 0o777),
            "/below/dir/new",
            "has mode 0777",
        ),
        edit("the top", 2, |dir| mode(dir, 0o777), "/", "has mode 0777"),
    ]
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn xattr(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn capability(path: &Path) {
    xattr(path, "security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// Leaves the mtime as it was.
fn rewrite(path: &Path, bytes: &[u8]) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(before)).unwrap();
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), before);
}

fn poke(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    rewrite(path, &bytes);
}

fn edit_large(dir: &Path) {
    poke(&dir.join("s/large"), 2_500_000);
}

fn break_link(dir: &Path) {
    fs::remove_file(dir.join("s/three")).unwrap();
    fs::copy(dir.join("s/two"), dir.join("s/three")).unwrap();
}

/// The same content, of another inode.
fn swap_link(dir: &Path) {
    fs::hard_link(dir.join("s/capable"), dir.join("s/zz")).unwrap();
}

fn relink(dir: &Path) {
    fs::remove_file(dir.join("s/symlink")).unwrap();
    symlink("/etc/shadow", dir.join("s/symlink")).unwrap();
}

fn unlink_to_file(dir: &Path) {
    fs::remove_file(dir.join("s/dangling")).unwrap();
    fs::write(dir.join("s/dangling"), "../../../nowhere").unwrap();
}

fn other_device(dir: &Path) {
    fs::remove_file(dir.join("s/null")).unwrap();
    node(&dir.join("s/null"), &["c", "1", "1"]);
    mode(&dir.join("s/null"), 0o666);
}

fn node(path: &Path, words: &[&str]) {
    assert!(Command::new("mknod").arg(path).args(words).status().unwrap().success());
}

/// A copy of a layer.
pub(crate) struct Kept {
    copy: PathBuf,
}

impl Kept {
    pub(crate) fn of(layer: &Path) -> Self {
        let copy = layer.with_file_name("kept");
        copy_all(layer, &copy);
        Self { copy }
    }

    /// Puts the copy's files back into the same directory.
    pub(crate) fn restore(self, layer: &Path) {
        for entry in fs::read_dir(layer).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => fs::remove_dir_all(entry.path()).unwrap(),
                false => fs::remove_file(entry.path()).unwrap(),
            }
        }
        copy_all(&self.copy, layer);
        fs::remove_dir_all(&self.copy).unwrap();
        let (was, is) = (links(layer), fs::metadata(layer).unwrap().mode() & 0o7777);
        assert!(!was.is_empty() && is == 0o755, "{is:o}");
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let from = format!("{}/.", from.display());
    assert!(Command::new("cp").args(["-a", &from]).arg(to).status().unwrap().success());
}

fn links(dir: &Path) -> BTreeMap<PathBuf, u64> {
    fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(|entry| (entry.path(), entry.metadata().unwrap().nlink()))
        .collect()
}
