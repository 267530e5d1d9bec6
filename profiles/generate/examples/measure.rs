//! Generates the profile of a command of an image and prints what it took:
//! `measure [--show] [--exec COMMAND]… ROOT[:LOWER] -- ARGV`.
//!
//! Cold is with nothing kept, warm with the analysis of each file at hand, both in the processor's seconds. `--show`
//! prints the profile instead, and makes it once.

#![allow(clippy::unwrap_used)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::Path,
};

use bulkhead_generate::{Cache, Command, Layer, Limits, NoCache, Profile, Root, generate};

#[derive(Default)]
struct Kept(RefCell<HashMap<String, Vec<u8>>>);

impl Cache for Kept {
    fn get(&self, hash: &str) -> Option<Vec<u8>> {
        self.0.borrow().get(hash).cloned()
    }

    fn put(&self, hash: &str, bytes: &[u8]) {
        self.0.borrow_mut().insert(hash.to_owned(), bytes.to_owned());
    }
}

/// What this thread has had of the processor. Source: Documentation/scheduler/sched-stats.rst.
fn seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn made(layers: &str, command: &Command, cache: &dyn Cache) -> (Profile, f64) {
    let limits = Limits::everyday();
    let began = seconds();
    let layers = layers.split(':').map(|layer| Layer::open(Path::new(layer)).unwrap()).collect();
    let root = Root::overlay(layers, &limits);
    (generate(&root, None, command, cache, &limits).unwrap(), seconds() - began)
}

fn main() {
    let mut command = Command {
        argv: Vec::new(),
        path: ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(str::to_owned).to_vec(),
        cwd: "/".to_owned(),
        loader_environment: BTreeMap::new(),
        exec: Vec::new(),
    };
    let (mut show, mut root) = (false, String::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--show" => show = true,
            "--exec" => {
                command.exec.push(words.next().unwrap().split_whitespace().map(str::to_owned).collect())
            }
            "--" => command.argv = words.by_ref().collect(),
            _ => root = word,
        }
    }
    let (profile, cold) = made(&root, &command, &NoCache);
    if show {
        println!("{}", serde_json::to_string(&profile).unwrap());
        return;
    }
    let kept = Kept::default();
    made(&root, &command, &kept);
    let (_, warm) = made(&root, &command, &kept);
    let bytes: usize = kept.0.borrow().values().map(Vec::len).sum();
    let mb = profile.elf_bytes as f64 / 1e6;
    println!(
        "{}: {} calls, {} unresolved, {mb:.1} MB of ELF, cold {cold:.2} s ({:.1} s per 100 MB), warm {warm:.3} s, {:.1} MB kept{}",
        command.argv[0],
        profile.rows.len(),
        profile.unresolved.len(),
        cold / mb * 100.0,
        bytes as f64 / 1e6,
        profile.widened.as_deref().map_or_else(String::new, |why| format!(", baseline: {why}")),
    );
}
