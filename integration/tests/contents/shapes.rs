//! Layers of every shape that containerd unpacks.

use std::io::Write as _;

use bulkhead_integration::{Image, Layer, UID};
use tar::{Builder, EntryType, Header};

/// A tar in the making.
pub(crate) struct Tar(Builder<Vec<u8>>);

/// What an entry is.
pub(crate) enum Kind<'a> {
    Dir,
    File(&'a [u8]),
    Link(&'a str),
    Symlink(&'a str),
    Device(EntryType, u32, u32),
    Fifo,
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// One entry; `records` go into a PAX header before it.
    pub(crate) fn add(
        &mut self,
        path: &str,
        mode: u32,
        owner: u64,
        kind: Kind<'_>,
        records: &[(&str, &[u8])],
    ) -> &mut Self {
        if !records.is_empty() {
            self.0.append_pax_extensions(records.iter().copied()).unwrap();
        }
        let mut header = Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_600_000_000);
        let mut bytes: &[u8] = b"";
        match kind {
            Kind::Dir => header.set_entry_type(EntryType::Directory),
            Kind::File(content) => bytes = content,
            Kind::Link(to) => {
                header.set_entry_type(EntryType::Link);
                self.0.append_link(&mut header, path, to).unwrap();
                return self;
            }
            Kind::Symlink(to) => {
                header.set_entry_type(EntryType::Symlink);
                self.0.append_link(&mut header, path, to).unwrap();
                return self;
            }
            Kind::Device(kind, major, minor) => {
                header.set_entry_type(kind);
                header.set_device_major(major).unwrap();
                header.set_device_minor(minor).unwrap();
            }
            Kind::Fifo => header.set_entry_type(EntryType::Fifo),
        }
        header.set_size(bytes.len() as u64);
        if path.starts_with('/') {
            // The crate would not write such a name.
            let name = header.as_old_mut();
            name.name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            self.0.append(&header, bytes).unwrap();
        } else {
            self.0.append_data(&mut header, path, bytes).unwrap();
        }
        self
    }

    pub(crate) fn dir(&mut self, path: &str, mode: u32) -> &mut Self {
        self.add(path, mode, 0, Kind::Dir, &[])
    }

    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.add(path, 0o644, 0, Kind::File(content), &[])
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    pub(crate) fn layer(self) -> Layer {
        Layer::of_tar(self.bytes())
    }
}

/// cap_net_bind_service=ep, as the kernel keeps it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An image with busybox below and three layers of shapes: gzip, Zstandard, none.
pub(crate) fn image(name: &str) -> Image {
    let mut image = Image::busybox(name, &UID.to_string()).unwrap();
    image.layers = image.layers.into_iter().map(|layer| layer.in_gzip().unwrap()).collect();
    image.with(plain().layer().in_zstd()).with(upper().layer().in_gzip().unwrap()).with(odd().layer())
}

fn plain() -> Tar {
    let mut tar = Tar::new();
    let long = format!("s/{}/{}", "d".repeat(120), "f".repeat(200));
    let many: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    tar.dir("./", 0o700).dir("s", 0o755).dir("s/sticky", 0o1777);
    tar.add("s/suid", 0o4755, 0, Kind::File(b"#!"), &[]);
    tar.add("s/owned", 0o640, 1234, Kind::File(b"owned"), &[]);
    tar.add("s/large", 0o644, 0, Kind::File(&many), &[]);
    tar.file("s/empty", b"").file(&long, b"long").file("s/\u{e4}\u{f6}", b"unicode");
    tar.file("s/one", b"several names").add("s/two", 0o600, 7, Kind::Link("s/one"), &[]);
    tar.add("s/three", 0o644, 0, Kind::Link("./s/two"), &[]);
    tar.add("s/symlink", 0o777, 5, Kind::Symlink("/etc/passwd"), &[]);
    tar.add("s/dangling", 0o777, 0, Kind::Symlink("../../../nowhere"), &[]);
    tar.add("s/fifo", 0o600, 0, Kind::Fifo, &[]);
    tar.add("s/null", 0o666, 0, Kind::Device(EntryType::Char, 1, 3), &[]);
    tar.add("s/block", 0o660, 6, Kind::Device(EntryType::Block, 8, 513), &[]);
    tar.add("s/capable", 0o755, 0, Kind::File(b"x"), &[("SCHILY.xattr.security.capability", &CAPABILITY)]);
    tar.add(
        "s/user",
        0o644,
        0,
        Kind::File(b"x"),
        &[("SCHILY.xattr.user.note", b"a value"), ("mtime", b"1.5")],
    );
    // A chown takes the capability of a file away, that of its second name too.
    tar.add("s/lost", 0o755, 0, Kind::File(b"y"), &[("SCHILY.xattr.security.capability", &CAPABILITY)]);
    tar.add("s/lost2", 0o755, 0, Kind::Link("s/lost"), &[]);
    // Not containerd's to set.
    tar.add("s/trusted", 0o755, 0, Kind::Dir, &[("SCHILY.xattr.trusted.overlay.opaque", b"y")]);
    // A file of 1 MiB with eight bytes in its middle.
    let sparse = b"1\n524288\n8\n";
    let mut content = sparse.to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"in a sea");
    tar.add(
        "GNUSparseFile.0/sparse",
        0o644,
        0,
        Kind::File(&content),
        &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s/sparse"),
            ("GNU.sparse.realsize", b"1048576"),
        ],
    );
    tar.dir("below", 0o750).add(
        "below/dir",
        0o2711,
        42,
        Kind::Dir,
        &[("SCHILY.xattr.user.note", b"of a dir")],
    );
    tar.file("below/dir/a", b"a").file("below/dir/b", b"b").dir("gone", 0o755).file("gone/file", b"");
    tar.dir("hidden", 0o755).file("hidden/one", b"1").file("hidden/two", b"2");
    tar
}

/// Whiteouts, and directories that only the layer below speaks of.
fn upper() -> Tar {
    let mut tar = Tar::new();
    // Its parents are below/dir's owner, mode and attributes.
    tar.file("below/dir/new/c", b"c").file("below/dir/.wh.a", b"").file(".wh.gone", b"");
    tar.dir("hidden", 0o711).file("hidden/.wh..wh..opq", b"").file("hidden/three", b"3");
    // The same paths again: the last one counts.
    tar.file("again", b"first").file("again", b"last");
    tar.dir("turned", 0o755).file("turned/inside", b"x").file("turned", b"a file now");
    tar.file("turned2", b"a file").dir("turned2", 0o700).file("turned2/inside", b"x");
    tar.dir("twice", 0o700).file("twice/kept", b"x").add("twice", 0o750, 9, Kind::Dir, &[]);
    // A whiteout and then the file.
    tar.file("s/.wh.one", b"").file("s/one", b"new");
    // Through a symbolic link of the same layer.
    tar.dir("real", 0o755).add("link", 0o777, 0, Kind::Symlink("real"), &[]).file("link/through", b"x");
    tar
}

/// What few write, and containerd takes.
fn odd() -> Tar {
    let mut tar = Tar::new();
    tar.file("/absolute", b"x").file("./dot/./file", b"x").file("dot//double", b"x");
    // Docker's AUFS files are whiteouts like others.
    tar.dir(".wh..wh.aufs", 0o700).dir(".wh..wh.plnk", 0o700);
    // A name that is linked and then replaced: its second name keeps the first content.
    tar.file("x", b"first").add("y", 0o644, 0, Kind::Link("x"), &[]).file("x", b"other");
    tar.file("p", b"same").add("q", 0o644, 0, Kind::Link("p"), &[]).file("p", b"same");
    // Hard links to symbolic ones, and an old archive's directory.
    tar.add("sym", 0o777, 0, Kind::Symlink("x"), &[]).add("sym2", 0o777, 0, Kind::Link("sym"), &[]);
    let mut header = Header::new_old();
    header.set_path("old/").unwrap();
    header.set_mode(0o711);
    header.set_entry_type(EntryType::new(0));
    header.set_size(0);
    header.set_cksum();
    tar.0.get_mut().write_all(header.as_bytes()).unwrap();
    // An owner too large for octal digits.
    tar.add("far", 0o644, 3_000_000_000, Kind::File(b"x"), &[]);
    let mut global = Header::new_ustar();
    global.set_path("pax_global_header").unwrap();
    global.set_entry_type(EntryType::XGlobalHeader);
    let record = b"19 comment=nothing\n";
    global.set_size(record.len() as u64);
    global.set_cksum();
    tar.0.append(&global, &record[..]).unwrap();
    tar.file("last", b"x");
    tar
}
