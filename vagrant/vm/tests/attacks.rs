//! What Debian's kernels have and the development machine's has not: the techniques of integration/attacks that have nothing
//! to bite there.

#![allow(clippy::unwrap_used, missing_docs)]

mod guest;

use std::{collections::BTreeMap, fs};

use bulkhead_integration::{BULKHEAD, Entry, Image, Layer, RUNC, UID, bulkhead_dir, heard};
use guest::bench;
use serde_json::Value;

/// For Bulkhead.
const IMAGE: &str = "registry.test/team-a/attacker:1";

/// For a runc that denies nothing.
const OF_ROOT: &str = "registry.test/elsewhere/attacker:1";

/// The techniques to try, which the table of attacks leaves to these machines.
fn techniques() -> Vec<String> {
    let known: toml::Table = include_str!("../../../integration/attacks/known.toml").parse().unwrap();
    known["machines"].as_table().unwrap().keys().cloned().collect()
}

/// Whether each bit, with the evidence.
fn said(text: &str) -> BTreeMap<String, (bool, String)> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines
        .map(|line| (word(&line, "name"), (word(&line, "outcome") == "succeeded", word(&line, "by"))))
        .collect()
}

#[test]
fn what_bites_on_this_kernel_under_runc_is_stopped_as_init_and_by_exec() {
    let attacker = fs::read(bulkhead_dir().unwrap().join("attacker")).unwrap();
    let layer = Layer::of(&[Entry::File("bin/attacker", 0o755, &attacker)]).unwrap();
    bench().daemon.import(&Image::busybox(OF_ROOT, "0").unwrap().with(layer.clone())).unwrap();
    let image = Image::busybox(IMAGE, &UID.to_string()).unwrap().with(layer);
    let digest = bench().daemon.import(&image).unwrap().manifest;
    bench().allow_digests(&[&digest], "exec = [\"*\"]").unwrap();
    let run = |name: &str, options: &[&str], image: &str, command: &[&str]| {
        let id = bench().daemon.id(name);
        let words = [&["run"], options, &[image, &id], command].concat();
        (bench().daemon.ctr(&words).unwrap().success().unwrap(), id)
    };
    let techniques = techniques();
    let names: Vec<&str> = techniques.iter().map(String::as_str).collect();
    let attack = [&["/bin/attacker", "run"], names.as_slice()].concat();

    let runc = || Ok(run("runc", &["--rm", "--runtime", RUNC, "--privileged"], OF_ROOT, &attack).0.stdout);
    let runc = said(&heard(RUNC, runc).unwrap());
    let init = said(&run("init", &["--rm", "--runtime", BULKHEAD], IMAGE, &attack).0.stdout);
    let (_, id) = run("exec", &["-d", "--runtime", BULKHEAD], IMAGE, &["/bin/attacker", "pause"]);
    let exec = said(&bench().exec(&id, &attack).unwrap().success().unwrap().stdout);
    bench().remove(&id).unwrap();

    for name in names {
        println!("{name}: runc {:?}, init {:?}, exec {:?}", runc[name], init[name], exec[name]);
        assert!(runc[name].0, "{name} proves nothing here: {runc:?}");
        assert!(!init[name].0 && !exec[name].0, "{name}: {init:?} {exec:?}");
    }
}
