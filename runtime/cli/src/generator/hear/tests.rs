#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, collections::BTreeMap, thread};

use bulkhead_model::Digest;

use super::*;

#[derive(Default)]
struct Kept(RefCell<BTreeMap<String, usize>>);

impl Cache for Kept {
    fn get(&self, _hash: &str) -> Option<Vec<u8>> {
        None
    }

    fn put(&self, hash: &str, bytes: &[u8]) {
        self.0.borrow_mut().insert(hash.to_owned(), bytes.len());
    }
}

fn question() -> ProfileQuestion {
    let digest = Digest::of(b"");
    ProfileQuestion {
        config: digest,
        chain: digest,
        layers: Vec::new(),
        argv: Vec::new(),
        path: String::new(),
        cwd: String::new(),
        environment: BTreeMap::new(),
        exec: Vec::new(),
        volumes: BTreeSet::new(),
        generator: String::new(),
        baseline: digest,
    }
}

fn hear_for(time: Duration, child: impl FnOnce(UnixStream) + Send + 'static) -> (io::Result<Worked>, Kept) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = thread::spawn(move || {
        // As a child does: one that is gone before it is asked is another story.
        let mut asked = String::new();
        BufReader::new(&theirs).read_line(&mut asked).unwrap();
        child(theirs);
    });
    let kept = Kept::default();
    let heard = hear(ours, &question(), &kept, Instant::now() + time);
    child.join().unwrap();
    (heard, kept)
}

fn line(line: &Line) -> Vec<u8> {
    let mut text = serde_json::to_vec(line).unwrap();
    text.push(b'\n');
    text
}

fn profile(calls: BTreeSet<String>, bytes: u64) -> Vec<u8> {
    of_arguments(calls, CallArguments::new(), bytes)
}

fn of_arguments(calls: BTreeSet<String>, arguments: CallArguments, bytes: u64) -> Vec<u8> {
    let files = FileRules::default();
    line(&Line::Profile { calls, arguments, widened: None, files, files_widened: None, bytes })
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn values_that_profiles_do_not_name_are_dropped_and_those_that_they_do_are_kept() {
    let calls = ["ioctl", "read", "socket"].map(str::to_owned);
    let of = |arguments: &[(u8, &[u32])]| {
        arguments
            .iter()
            .map(|(arg, values)| (*arg, values.iter().copied().collect()))
            .collect::<BTreeMap<_, _>>()
    };
    let said = CallArguments::from([
        ("ioctl".to_owned(), of(&[(1, &[0x5401]), (2, &[1])])),
        ("read".to_owned(), of(&[(0, &[1])])),
        // Bits that are not compared; and no value at all.
        ("socket".to_owned(), of(&[(0, &[]), (1, &[0x8_0001])])),
        ("madvise".to_owned(), of(&[(2, &[4])])),
    ]);
    let line = of_arguments(calls.into(), said, 0);
    let (worked, _) = hear_for(MINUTE, move |mut to| to.write_all(&line).unwrap());
    let kept = CallArguments::from([("ioctl".to_owned(), of(&[(1, &[0x5401])]))]);
    assert_eq!(worked.unwrap().arguments, kept);
}

#[test]
fn child_that_calls_the_whole_baseline_narrow_is_not_believed_and_one_that_names_less_is() {
    let mut calls = baseline_calls();
    let all = profile(calls.clone(), 0);
    let (heard, _) = hear_for(MINUTE, move |mut to| to.write_all(&all).unwrap());
    assert!(heard.unwrap().widened.unwrap().contains("every call"));

    calls.pop_first();
    let less = profile(calls, 0);
    let (heard, _) = hear_for(MINUTE, move |mut to| to.write_all(&less).unwrap());
    assert_eq!(heard.unwrap().widened, None);
}

#[test]
fn rule_of_a_child_that_reaches_more_than_a_file_leaves_none_and_one_for_a_file_is_heard() {
    for (path, flaw) in [("/", true), ("/etc/../..", true), ("/usr/bin/true", false)] {
        let files = FileRules { execute: BTreeSet::from([path.into()]), read: BTreeSet::new() };
        let said = line(&Line::Profile {
            calls: BTreeSet::new(),
            arguments: CallArguments::new(),
            widened: None,
            files: files.clone(),
            files_widened: None,
            bytes: 0,
        });
        let (heard, _) = hear_for(MINUTE, move |mut to| to.write_all(&said).unwrap());
        let heard = heard.unwrap();
        assert_eq!(heard.files_widened.is_some(), flaw, "{path}");
        assert_eq!(heard.files == files, !flaw, "{path}");
    }
}

#[test]
fn analysis_beyond_a_childs_total_is_dropped_and_its_profile_is_heard() {
    let (heard, kept) = hear_for(MINUTE, |mut to| {
        let half = usize::try_from(PUT_BYTES_MAX / 2 + 1).unwrap();
        for hash in ["a".repeat(64), "b".repeat(64)] {
            to.write_all(&line(&Line::Put { hash, bytes: half as u64 })).unwrap();
            to.write_all(&vec![0; half]).unwrap();
        }
        to.write_all(&profile(BTreeSet::new(), 0)).unwrap();
    });
    heard.unwrap();
    assert_eq!(kept.0.borrow().keys().cloned().collect::<Vec<_>>(), ["a".repeat(64)]);
}

#[test]
fn reasons_beyond_their_size_are_a_failure() {
    let (heard, _) = hear_for(MINUTE, |mut to| {
        to.write_all(&profile(BTreeSet::new(), REASONS_BYTES_MAX + 1)).unwrap();
    });
    assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn child_that_says_a_byte_now_and_then_is_heard_until_its_time_is_up() {
    let (heard, _) = hear_for(Duration::from_millis(200), |mut to| {
        while to.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn child_that_ends_without_an_answer_is_said_to_have_ended() {
    let (heard, _) = hear_for(MINUTE, drop);
    let error = heard.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (io::ErrorKind::UnexpectedEof, "it ended without an answer")
    );
}
