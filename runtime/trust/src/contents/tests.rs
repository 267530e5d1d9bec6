#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Write,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
};

use tempfile::TempDir;

use super::*;

/// A tar of plain entries, by hand: what the field's writers would not write is wanted here.
fn tar(entries: &[(&str, u8, &str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, kind, link, content) in entries {
        tar.extend_from_slice(&header(name.as_bytes(), *kind, link.as_bytes(), content.len() as u64));
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn header(name: &[u8], kind: u8, link: &[u8], size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    let mode: &[u8] = if kind == b'5' { b"0000755\0" } else { b"0000644\0" };
    block[100..108].copy_from_slice(mode);
    // The owner is whoever runs the test: files are made without root.
    let own = fs::metadata("/proc/self").unwrap();
    let (uid, gid) = (own.uid(), own.gid());
    block[108..116].copy_from_slice(format!("{uid:07o}\0").as_bytes());
    block[116..124].copy_from_slice(format!("{gid:07o}\0").as_bytes());
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    checksum(&mut block);
    block
}

fn checksum(block: &mut [u8; 512]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A layer that holds `etc/a`, and its tar.
fn layer() -> (TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::set_permissions(dir.path().join("etc"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.path().join("etc/a"), "content").unwrap();
    fs::set_permissions(dir.path().join("etc/a"), fs::Permissions::from_mode(0o644)).unwrap();
    (dir, tar(&[("etc/", b'5', "", b""), ("etc/a", b'0', "", b"content")]))
}

/// Compares a directory with a blob that says it is `tar`.
fn look(dir: &TempDir, blob: &[u8], tar: &[u8]) -> Compared {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(blob).unwrap();
    let layer = File::open(dir.path()).unwrap();
    compare(&LayerToCompare {
        dir: layer.as_fd(),
        xattrs: &LayerXattrs::new(),
        below: Vec::new(),
        blob: &file,
        digest: Digest::of(blob),
        diff_id: Digest::of(tar),
    })
    .unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn flaw(tar: &[u8]) -> String {
    let (dir, _) = layer();
    match look(&dir, tar, tar) {
        Compared::Flaw(flaw) => flaw,
        other => panic!("{other:?}"),
    }
}

#[test]
fn layer_is_the_same_whatever_its_tar_is_compressed_with() {
    let (dir, tar) = layer();
    let (front, back) = tar.split_at(700);
    // Two members, and a frame that is to be skipped.
    let members = [gzip(front), gzip(back)].concat();
    let skipped = [b"\x50\x2a\x4d\x18\x03\x00\x00\x00xyz".as_slice(), &zstd(front), &zstd(back)].concat();
    for blob in [tar.clone(), gzip(&tar), zstd(&tar), members, skipped] {
        assert_eq!(look(&dir, &blob, &tar), Compared::Same);
    }
}

#[test]
fn blob_that_is_cut_short_or_followed_by_something_is_a_flaw() {
    let (dir, tar) = layer();
    let whole = gzip(&tar);
    for blob in
        [whole[..whole.len() - 9].to_vec(), [whole.as_slice(), b"garbage"].concat(), tar[..600].to_vec()]
    {
        let found = look(&dir, &blob, &tar);
        assert!(matches!(found, Compared::Flaw(_)), "{found:?}");
    }
    let zstd = zstd(&tar);
    assert!(matches!(look(&dir, &zstd[..zstd.len() - 5], &tar), Compared::Flaw(_)));
    // Of another config.
    assert!(matches!(look(&dir, &tar, b"other"), Compared::Flaw(why) if why.contains("its config says")));
}

#[test]
fn damaged_blob_is_named_before_its_tar() {
    let (dir, tar) = layer();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&tar[..600]).unwrap();
    let layer = File::open(dir.path()).unwrap();
    let (digest, diff_id) = (Digest::of(&tar), Digest::of(&tar));
    let xattrs = LayerXattrs::new();
    let question = LayerToCompare {
        dir: layer.as_fd(),
        xattrs: &xattrs,
        below: Vec::new(),
        blob: &file,
        digest,
        diff_id,
    };
    assert_eq!(compare(&question).unwrap(), Compared::Spoilt(Digest::of(&tar[..600])));
}

#[test]
fn paths_that_lead_out_of_the_layer_lead_nowhere_else_than_in_it() {
    let (dir, _) = layer();
    for name in ["../etc/a", "/../../etc/a", "/etc/a", "./etc/../etc/a"] {
        let tar = tar(&[("etc/", b'5', "", b""), (name, b'0', "", b"content")]);
        assert_eq!(look(&dir, &tar, &tar), Compared::Same, "{name}");
    }
    let tar =
        tar(&[("etc/", b'5', "", b""), ("out", b'2', "/proc/self/root", b""), ("out/etc/a", b'0', "", b"x")]);
    let found = look(&dir, &tar, &tar);
    assert!(matches!(found, Compared::Different { .. }), "{found:?}");
}

#[test]
fn what_containerd_would_not_unpack_is_a_flaw_with_its_reason() {
    for (entries, said) in [
        (&[("a", b'1', "nowhere", &b""[..])][..], "hard link to nothing"),
        (&[("a", b'1', "a", b"")], "hard link to nothing"),
        (&[("a", b'0', "", b"x"), ("a/b", b'0', "", b"x")], "below what is no directory"),
        (&[("a", b'2', "b", b""), ("b", b'2', "a", b""), ("a/c", b'0', "", b"")], "255 symbolic links"),
        (&[(".wh..", b'0', "", b"")], "whiteout of a directory's own name"),
        (&[("a", b'7', "", b"")], "unknown kind"),
        (&[("a", b'S', "", b"")], "unknown kind"),
    ] {
        let found = flaw(&tar(entries));
        assert!(found.contains(said), "{found}");
    }
    let mut bad = tar(&[("a", b'0', "", b"x")]);
    bad[0] = b'b';
    assert!(flaw(&bad).contains("damaged header"));
    assert!(flaw(&tar(&[("x", b'x', "", b"12 path=")])).contains("damaged PAX header"));
    let mut long = header(b"x", b'L', b"", 2 << 20).to_vec();
    long.resize(512 + (2 << 20), b'a');
    assert!(flaw(&long).contains("more than 1 MiB"));
}

/// Claims what it does not have, and has what nobody keeps.
#[test]
fn bomb_is_a_flaw_before_its_end() {
    let endless = header(b"etc/bomb", b'0', b"", 7 << 30);
    let found = flaw(&endless);
    assert!(found.contains("writes more than"), "{found}");
    // A hole of eight exabytes.
    let records =
        b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n43 GNU.sparse.realsize=9000000000000000000\n";
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    let sparse = tar(&[("x", b'x', "", records), ("etc/hole", b'0', "", &map)]);
    let found = flaw(&sparse);
    assert!(found.contains("writes more than"), "{found}");
}

#[test]
fn link_or_attribute_that_no_kernel_takes_is_a_flaw() {
    let (dir, _) = layer();
    let link = |length: usize| {
        let target = vec![b'a'; length];
        tar(&[("././@LongLink", b'K', "", &target), ("link", b'2', "", b"")])
    };
    let record = |key: &str, value: &[u8]| {
        let body = [format!(" SCHILY.xattr.{key}=").as_bytes(), value, b"\n"].concat();
        let length = (1..20).find(|digits| (body.len() + digits).to_string().len() == *digits).unwrap();
        let record = [(body.len() + length).to_string().as_bytes(), &body].concat();
        tar(&[("pax", b'x', "", &record), ("file", b'0', "", b"")])
    };
    let long = "user.".to_owned() + &"n".repeat(251);
    for (tar, why) in [
        (link(4096), "a path of more than 4095 bytes"),
        (record("user.a", &vec![b'v'; 65_537]), "a value of more than 64 KiB"),
        (record(&long, b"v"), "a name of more than 255 bytes"),
    ] {
        let found = flaw(&tar);
        assert!(found.contains(why), "{found}");
    }
    // As long as can be is another layer, and no damaged one.
    for tar in [link(4095), record("user.a", &vec![b'v'; 65_536]), record(&long[..255], b"v")] {
        assert!(matches!(look(&dir, &tar, &tar), Compared::Different { .. }));
    }
}

#[test]
#[ignore = "long"]
fn a_million_entries_are_a_flaw() {
    let mut many = Vec::new();
    for number in 0..=bulkhead_layers::LAYER_ENTRIES_MAX {
        many.extend_from_slice(&header(format!("{number}").as_bytes(), b'5', b"", 0));
    }
    let (dir, _) = layer();
    let found = look(&dir, &gzip(&many), &many);
    assert!(matches!(&found, Compared::Flaw(why) if why.contains("entries")), "{found:?}");
}

/// Whatever is made of a tar's bytes: no panic, no "the same", and an end.
#[test]
fn no_mutation_of_a_tar_is_the_same_layer() {
    let (dir, tar) = layer();
    let long = [("././@LongLink", b'L', "", &b"etc/a\0"[..]), ("etc/a", b'0', "", b"content")];
    let pax = [("x", b'x', "", &b"14 path=etc/a\n13 mtime=1.5\n"[..]), ("y", b'0', "", b"content")];
    let corpus = [
        tar,
        self::tar(&[&[("etc/", b'5', "", &b""[..])], &long[..]].concat()),
        self::tar(&[&[("etc/", b'5', "", &b""[..])], &pax[..]].concat()),
    ];
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for whole in &corpus {
        assert_eq!(look(&dir, whole, whole), Compared::Same);
        for _ in 0..400 {
            let mut mutant = whole.clone();
            for _ in 0..=random(3) {
                let at = random(mutant.len());
                match random(4) {
                    0 => mutant[at] = u8::try_from(random(256)).unwrap(),
                    1 => mutant[at] ^= 1 << random(8),
                    2 => mutant.truncate(at.max(1)),
                    _ => {
                        let block = at / 512 * 512;
                        if let Some(header) = mutant.get_mut(block..block + 512) {
                            let header: &mut [u8; 512] = header.try_into().unwrap();
                            header[random(148)] = u8::try_from(random(256)).unwrap();
                            checksum(header);
                        }
                    }
                }
                if mutant.is_empty() {
                    break;
                }
            }
            // Its hash is that of the config: only what it says can tell.
            let found = look(&dir, &mutant, &mutant);
            if found == Compared::Same {
                assert!(says_the_same(whole, &mutant), "{:?}", first_difference(whole, &mutant));
            }
            assert!(mutant == *whole || look(&dir, &mutant, whole) != Compared::Same);
        }
    }
}

/// Bytes that mean nothing: times, names of users, what fills a block, what comes after the end.
fn says_the_same(whole: &[u8], mutant: &[u8]) -> bool {
    let entries = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        let mut found = Vec::new();
        while let Ok(Some(entry)) = reader.next() {
            let mut content = Vec::new();
            let read = reader.content::<ReadError>(&entry, &mut |piece| {
                if let Piece::Bytes(bytes) = piece {
                    content.extend_from_slice(bytes);
                }
                Ok(())
            });
            let base = entry.name.strip_suffix(b"/").unwrap_or(&entry.name).to_vec();
            found.push((read.is_ok(), base, entry.kind, entry.mode, entry.uid, entry.gid, content));
        }
        // A directory that is not spoken of is made all the same.
        found.retain(|entry| !entry.1.is_empty() && !matches!(entry.2, b'g' | b'5'));
        found
    };
    let clean = |bytes: &[u8]| {
        let mut entries = entries(bytes);
        for entry in &mut entries {
            let name = String::from_utf8_lossy(&entry.1).into_owned();
            let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            entry.1 = parts.join("/").into_bytes();
        }
        entries
    };
    clean(whole) == clean(mutant)
}

fn first_difference(whole: &[u8], mutant: &[u8]) -> Option<usize> {
    whole.iter().zip(mutant).position(|(one, two)| one != two)
}

/// What [`unpack::tell`] says of a tar, without the bytes of files, and what is wrong with it.
fn told(tar: Vec<u8>) -> Result<Vec<LayerLine>, String> {
    let mut blob = tempfile::tempfile().unwrap();
    blob.write_all(&tar).unwrap();
    blob.seek(SeekFrom::Start(0)).unwrap();
    let (feeder, stream) = stream::tar();
    let mut out = Vec::new();
    let end = std::thread::scope(|scope| {
        scope.spawn(|| feeder.feed(&blob));
        unpack::tell(stream, &mut out)
    });
    assert_eq!(end.map_err(|error| error.to_string())?, Digest::of(&tar));
    let (mut lines, mut rest) = (Vec::new(), out.as_slice());
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        let line = serde_json::from_slice(&rest[..at]).unwrap();
        let bytes = if let LayerLine::File { bytes, .. } = line { bytes as usize } else { 0 };
        rest = &rest[at + 1 + bytes..];
        lines.push(line);
    }
    Ok(lines)
}

#[test]
fn entries_are_told_by_names_within_the_layer_and_devices_are_not() {
    let lines = told(tar(&[
        ("./etc/", b'5', "", b""),
        ("../../etc/passwd", b'0', "", b"x\n{}\n"),
        ("etc/link", b'2', "/outside", b""),
        ("etc/same", b'1', "../etc/passwd", b""),
        ("dev/null", b'3', "", b""),
        ("fifo", b'6', "", b""),
        ("usr/.wh.bin", b'0', "", b""),
        ("usr/.wh..wh..opq", b'0', "", b""),
        ("./", b'5', "", b""),
    ]));
    let name = |text: &str| text.as_bytes().to_vec();
    assert_eq!(
        lines.unwrap(),
        [
            LayerLine::Directory { name: name("etc"), mode: 0o755 },
            LayerLine::File { name: name("etc/passwd"), mode: 0o644, bytes: 5 },
            LayerLine::Symlink { name: name("etc/link"), to: name("/outside") },
            LayerLine::Link { name: name("etc/same"), to: name("etc/passwd") },
            LayerLine::Gone(name("usr/bin")),
            LayerLine::Opaque(name("usr")),
        ]
    );
}

#[test]
fn tar_that_is_none_is_not_told_to_its_end() {
    let whole = tar(&[("a", b'0', "", &[7; 4096])]);
    told(whole.clone()).unwrap();
    for (flawed, why) in [
        (whole[..1024].to_vec(), "ends in the middle"),
        ([b"not a header".repeat(100), whole].concat(), "damaged header"),
        (tar(&[("a/.wh..", b'0', "", b"")]), "whiteout"),
        (tar(&[("a", b'1', "..", b"")]), "hard link"),
        (tar(&[("a", b'Z', "", b"")]), "unknown kind"),
    ] {
        let error = told(flawed).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
