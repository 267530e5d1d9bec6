//! What judges and workers answer, and what is kept of it: a judge has read an attacker's bytes, and is believed no
//! further than its line is checked.

use bulkhead_model::{
    ContentsLine, Digest, ImageFacts, JudgeLine, SignatureFacts, SignatureQuestion, WalkLine,
};

pub(crate) fn run(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        if let Ok(JudgeLine::Facts(facts)) = serde_json::from_slice::<JudgeLine>(line) {
            believed(&facts);
        }
        if let Ok(facts) = serde_json::from_slice::<ImageFacts>(line) {
            believed(&facts);
        }
        if let Ok(facts) = serde_json::from_slice::<SignatureFacts>(line) {
            let question = SignatureQuestion { files: Vec::new(), keys: Vec::new(), roots: Vec::new() };
            // Nothing was asked: nobody has signed.
            assert!(facts.signatures.is_empty() || facts.check(&question).is_err());
        }
        drop(serde_json::from_slice::<ContentsLine>(line));
        drop(serde_json::from_slice::<WalkLine>(line));
    }
}

fn believed(facts: &ImageFacts) {
    let other = Digest::of(b"another image");
    assert!(facts.target == other || facts.check(&other).is_err(), "facts about another image");
    if facts.check(&facts.target).is_ok() {
        assert_eq!(facts.layers.len(), facts.diff_ids.len());
    }
}
