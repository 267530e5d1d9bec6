//! What a first look at a layer costs beside `sha256sum` of the same files on all cores, and a receipt beside `find`.
//!
//! `contents-time LAYER_DIR BLOB [RUNS]`: the directory that a tar was unpacked into, and the tar, compressed or not.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    fs::File,
    io::{Read, Seek},
    os::fd::AsFd,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bulkhead_layers::Receipt;
use bulkhead_model::{Digest, DigestOf};
use bulkhead_trust::{LayerToCompare, LayerXattrs, compare};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [dir, blob, runs @ ..] = arguments.as_slice() else {
        eprintln!("contents-time LAYER_DIR BLOB [RUNS]");
        std::process::exit(2);
    };
    let runs: usize = runs.first().map_or(5, |runs| runs.parse().unwrap());
    let layer = File::open(dir).unwrap();
    let mut file = File::open(blob).unwrap();
    let digest = hash(&mut file);
    let diff_id = match blob.ends_with(".gz") {
        false => digest,
        true => {
            let mut gzip = Command::new("gzip").args(["-dc", blob]).stdout(Stdio::piped()).spawn().unwrap();
            let diff_id = hash(gzip.stdout.as_mut().unwrap());
            gzip.wait().unwrap();
            diff_id
        }
    };
    let xattrs = LayerXattrs::new();
    let first = |()| {
        file.rewind().unwrap();
        let question = LayerToCompare {
            dir: layer.as_fd(),
            xattrs: &xattrs,
            below: Vec::new(),
            blob: &file,
            digest,
            diff_id,
        };
        println!("{:?}", compare(&question).unwrap());
    };
    let first = time(runs, first);
    let sums = time(runs, |()| {
        shell(&format!("find {dir} -type f -print0 | xargs -0 -n 64 -P \"$(nproc)\" sha256sum >/dev/null"));
    });
    let receipt = time(runs, |()| {
        Receipt::of(layer.as_fd()).unwrap();
    });
    let find =
        time(runs, |()| shell(&format!("find {dir} -printf '%p %i %s %m %U %G %T@ %C@\\n' >/dev/null")));
    for (name, subject, baseline) in [("first look", first, sums), ("receipt", receipt, find)] {
        let ratio = subject.as_secs_f64() / baseline.as_secs_f64();
        println!("{name:<12} {subject:>10.1?}   baseline {baseline:>10.1?}   ratio {ratio:.2}");
    }
}

/// The median.
fn time(runs: usize, mut what: impl FnMut(())) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let started = Instant::now();
            what(());
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn shell(text: &str) {
    assert!(Command::new("sh").args(["-c", text]).status().unwrap().success());
}

fn hash(input: &mut impl Read) -> Digest {
    let (mut hash, mut buffer) = (DigestOf::new(), vec![0; 1 << 20]);
    loop {
        match input.read(&mut buffer).unwrap() {
            0 => return hash.finish(),
            length => hash.add(&buffer[..length]),
        }
    }
}
