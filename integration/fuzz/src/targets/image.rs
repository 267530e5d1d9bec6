//! An image's index, manifest and config.
//!
//! Documents are separated by a line `---`. `@2@` in one stands for the digest of the second one after this replacement,
//! and `#2#` for its length, so that a chain of digests closes whatever else is damaged: a document may only name later
//! ones. The first is what the image's name points to.

use std::collections::BTreeMap;

use bulkhead_model::Digest;
use bulkhead_trust::{BlobError, Blobs, judge};

struct Documents(BTreeMap<Digest, Vec<u8>>);

impl Blobs for Documents {
    fn read(&mut self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        match self.0.get(digest) {
            None => Err(BlobError::Refused("there is none".to_owned())),
            Some(bytes) if bytes.len() as u64 > bytes_max => Err(BlobError::TooLarge(bytes_max)),
            Some(bytes) => Ok(bytes.clone()),
        }
    }
}

pub(crate) fn run(bytes: &[u8]) {
    let parts = super::divided(bytes);
    let mut documents = Documents(BTreeMap::new());
    let mut later: Vec<(usize, Digest, usize)> = Vec::new();
    let mut target = Digest::of(b"");
    for (at, mut part) in parts.into_iter().enumerate().rev() {
        for (number, digest, length) in &later {
            part = replaced(&part, format!("@{number}@").as_bytes(), digest.to_string().as_bytes());
            part = replaced(&part, format!("#{number}#").as_bytes(), length.to_string().as_bytes());
        }
        target = Digest::of(&part);
        later.push((at + 1, target, part.len()));
        documents.0.insert(target, part);
    }
    if let Ok(facts) = judge(&target, &mut documents) {
        assert!(facts.check(&target).is_ok(), "facts that their receiver would not believe");
        assert!(documents.0.contains_key(&facts.config) && documents.0.contains_key(&facts.manifest));
    }
}

fn replaced(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(what) {
            out.extend_from_slice(with);
            at += what.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}
