//! Files from outside, damaged at random places: each is read to an answer, whatever it says.

#![allow(clippy::unwrap_used)]

use std::{fs, io::Write as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bulkhead_gather::{GatherError, import};
use bulkhead_model::{Digest, SIGNATURE_BYTES_MAX};

/// Most damaged copies of one file.
const COPIES: u64 = 1500;

/// Numbers that are the same each time.
///
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap()
    }
}

/// A copy with a few bytes changed, cut out, doubled, or cut off.
fn damaged(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    const WORDS: [&[u8]; 8] =
        [b"\"", b"{", b"[", b"null", b"-1", b"\0", b"99999999999999999999", b"\xff\xfe"];
    let mut copy = bytes.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(copy.len());
        let end = (at + dice.below(40)).min(copy.len());
        match dice.below(5) {
            0 => copy[at..end].iter_mut().for_each(|byte| *byte ^= 0x55),
            1 => drop(copy.drain(at..end)),
            2 => drop(copy.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
            3 => {
                let again = copy[at..end].to_vec();
                drop(copy.splice(at..at, again));
            }
            _ => copy.truncate(at.max(1)),
        }
        if copy.is_empty() {
            copy.push(b'{');
        }
    }
    copy
}

fn bundle(about: &[u8]) -> Vec<u8> {
    let statement = format!(r#"{{"subject":[{{"digest":{{"sha256":"{}"}}}}]}}"#, Digest::of(about).hex());
    let payload = STANDARD.encode(statement);
    format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{{"payload":"{payload}"}}}}"#
    )
    .into_bytes()
}

/// A tarball with a layout that has a bundle and a signature of cosign 2, a bundle that no index lists, as cosign 3 saves
/// it, and a manifest that no index lists and that is about nothing.
fn tarball() -> Vec<u8> {
    let (bundle, saved, aimless) = (bundle(b"image"), bundle(b"another"), bundle(b"a third"));
    let payload =
        format!(r#"{{"critical":{{"image":{{"docker-manifest-digest":"{}"}}}}}}"#, Digest::of(b"image"));
    let layer = |kind: &str, bytes: &[u8]| {
        format!(
            r#"{{"layers":[{{"mediaType":"{kind}","digest":"{}","annotations":{{"dev.cosignproject.cosign/signature":"c2ln"}}}}]}}"#,
            Digest::of(bytes)
        )
    };
    let one = layer("application/vnd.dev.sigstore.bundle.v0.3+json", &bundle);
    let two = layer("application/vnd.dev.cosign.simplesigning.v1+json", payload.as_bytes());
    let three = layer("application/vnd.dev.sigstore.bundle.v0.3+json", &saved);
    let subject = format!(r#"{{"subject":{{"digest":"{}"}},"#, Digest::of(b"another"));
    let three = three.replacen('{', &subject, 1);
    let four = layer("application/vnd.dev.sigstore.bundle.v0.3+json", &aimless);
    let index = format!(
        r#"{{"manifests":[{{"digest":"{}"}},{{"digest":"{}"}}]}}"#,
        Digest::of(one.as_bytes()),
        Digest::of(two.as_bytes())
    );
    let mut tar = tar::Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    put("index.json", index.as_bytes());
    let manifests = [&one, &two, &three, &four].map(String::as_bytes);
    for blob in [&bundle[..], &saved, &aimless, payload.as_bytes()].into_iter().chain(manifests) {
        put(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    tar.into_inner().unwrap()
}

fn read(path: &Path, bytes: &[u8]) -> Result<usize, GatherError> {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    let harvest = import(path)?;
    for found in &harvest.found {
        assert!(found.bytes.len() as u64 <= SIGNATURE_BYTES_MAX);
    }
    Ok(harvest.found.len())
}

#[test]
fn damaged_bundles_and_layouts_are_read_to_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for (whole, files) in [(bundle(b"image"), 1), (tarball(), 3)] {
        assert_eq!(read(&path, &whole).unwrap(), files, "the file as it was is good");
        let mut dice = Dice(1);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..COPIES {
            match read(&path, &damaged(&whole, &mut dice)) {
                Ok(found) if found == files => good += 1,
                Ok(_) | Err(_) => bad += 1,
            }
        }
        assert!(bad > COPIES / 2, "{good} of {COPIES} damaged copies were taken for good");
    }
}
