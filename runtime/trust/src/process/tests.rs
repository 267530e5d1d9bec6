#![allow(clippy::unwrap_used)]

use super::*;

/// What the judge says when `input` is all that the caller ever says.
fn lines_for(input: &[u8]) -> Vec<JudgeLine> {
    let mut output = Vec::new();
    serve(input, &mut output).unwrap();
    output.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn question(target: &Digest) -> Vec<u8> {
    let question = JudgeQuestion { version: JUDGE_VERSION, target: *target, about: JudgeAbout::Image };
    [serde_json::to_vec(&question).unwrap(), b"\n".to_vec()].concat()
}

fn blob(bytes: &[u8]) -> Vec<u8> {
    let line = serde_json::to_vec(&BlobLine::Bytes(bytes.len() as u64)).unwrap();
    [line, b"\n".to_vec(), bytes.to_vec()].concat()
}

#[test]
fn facts_come_after_the_blobs_that_were_asked_for() {
    let layer = Digest::of(b"layer");
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":5}}]}}"#,
        Digest::of(config.as_bytes()),
        config.len()
    );
    let target = Digest::of(manifest.as_bytes());
    let input = [question(&target), blob(manifest.as_bytes()), blob(config.as_bytes())].concat();
    let lines = lines_for(&input);
    assert_eq!(lines.len(), 3);
    assert!(matches!(&lines[0], JudgeLine::Blob { digest, .. } if *digest == target));
    assert!(matches!(&lines[2], JudgeLine::Facts(facts) if facts.diff_ids == [layer]));

    let cut = lines_for(&input[..input.len() - 1]);
    assert!(matches!(&cut[2], JudgeLine::Failed(why) if why.contains("ended")), "{cut:?}");
}

#[test]
fn flaw_is_told_apart_from_a_blob_that_cannot_be_had() {
    let target = Digest::of(b"{}");
    let lines = lines_for(&[question(&target), blob(b"{}")].concat());
    assert!(matches!(&lines[1], JudgeLine::Flaw(_)), "{lines:?}");
    let missing = b"{\"failed\":\"content not found\"}\n".to_vec();
    let lines = lines_for(&[question(&target), missing].concat());
    assert!(matches!(&lines[1], JudgeLine::Failed(why) if why.contains("content not found")), "{lines:?}");
    let lines = lines_for(&[question(&target), b"\"too-large\"\n".to_vec()].concat());
    assert!(matches!(&lines[1], JudgeLine::Flaw(_)), "{lines:?}");
    let lines = lines_for(&[question(&target), blob(b"[]")].concat());
    assert!(matches!(&lines[1], JudgeLine::Failed(why) if why.contains("hashes to")), "{lines:?}");
}

#[test]
fn question_of_another_version_or_none_is_not_answered() {
    let target = Digest::of(b"x");
    let other = String::from_utf8(question(&target)).unwrap().replace("\"version\":3", "\"version\":2");
    let unknown = String::from_utf8(question(&target)).unwrap().replace('}', ",\"tenant\":\"x\"}");
    for input in [other.as_bytes(), unknown.as_bytes(), b"", b"\n", b"judge this\n", &question(&target)[..20]]
    {
        let lines = lines_for(input);
        assert!(matches!(lines[..], [JudgeLine::Failed(_)]), "{lines:?}");
    }
}

#[test]
fn endless_line_ends_the_talk() {
    let lines = lines_for(&vec![b'x'; JUDGE_LINE_BYTES_MAX * 2]);
    assert!(matches!(&lines[..], [JudgeLine::Failed(why)] if why.contains("too long")), "{lines:?}");
}

#[test]
fn more_bytes_than_were_asked_for_are_not_taken() {
    let target = Digest::of(b"x");
    let input = [question(&target), b"{\"bytes\":99999999}\n".to_vec()].concat();
    assert!(matches!(&lines_for(&input)[1], JudgeLine::Flaw(_)));
}
