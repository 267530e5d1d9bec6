//! What all gates cost a launch about whose image everything is known, beside one whose policy asks for a digest alone.
//!
//! The record says how long the gates took; launches under the two policies take turns. The signature is made by openssl,
//! in cosign 2's form.

use std::{fs, path::Path, process::Command, time::Duration};

use bulkhead_integration::{HarnessError, digest_of, run};
use serde_json::Value;

use crate::{
    interrupt,
    row::{Findings, SUBJECT},
    series::Series,
    stage::Stage,
    wrong,
};

/// The gates that a policy with a digest alone has.
const BASELINE: &str = "digest-only";

/// How long openssl may take.
const WITHIN: Duration = Duration::from_secs(20);

/// Pairs of launches, the judges' work being done before.
pub(crate) fn gates(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let daemon = stage.daemon();
    sign(stage)?;
    let manifest = &stage.bench.digests.manifest;
    let all = format!(
        "version = 1\n[image]\n\"registry.test/team-a/*\" = {{ digests = [\"{manifest}\"], require = [\"ci\"], contents = \
         \"receipt\" }}\n[rule.ci]\nkeys = [\"keys/ci.pub\"]\n[confine.default]\nexec = [\"*\"]\n"
    );
    let digest = format!(
        "version = 1\n[image]\n\"registry.test/team-a/*\" = {{ digests = [\"{manifest}\"], contents = \"chain\" }}\n\
         [confine.default]\nexec = [\"*\"]\n"
    );
    let subject = stage.subject()?;
    let mut series = Series::default();
    // The first round warms both.
    for round in 0..=stage.settings.runs {
        for (who, policy) in [(SUBJECT, &all), (BASELINE, &digest)] {
            interrupt::check()?;
            daemon.policy(policy)?;
            stage.run_true(subject, &format!("warm{round}"))?;
            let (milliseconds, judges) = last(&daemon.bulkhead_root())?;
            if round > 0 {
                if judges != 0 {
                    return Err(wrong("a launch that starts no judge", judges.to_string()));
                }
                series.add(who, milliseconds);
            }
        }
    }
    stage.bench.allow("exec = [\"*\"]")?;
    series.rows("gates-warm", "ms", findings);
    Ok(())
}

/// Launches for which the signature is judged anew beside such for which it is not: what a judge of one adds.
pub(crate) fn cold(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let daemon = stage.daemon();
    sign(stage)?;
    let manifest = &stage.bench.digests.manifest;
    daemon.policy(&format!(
        "version = 1\n[image]\n\"registry.test/team-a/*\" = {{ digests = [\"{manifest}\"], require = [\"ci\"], contents = \
         \"receipt\" }}\n[rule.ci]\nkeys = [\"keys/ci.pub\"]\n[confine.default]\nexec = [\"*\"]\n"
    ))?;
    let (subject, mut series) = (stage.subject()?, Series::default());
    let facts = daemon.bulkhead_root().join("var/lib/bulkhead/verdicts/signatures");
    for round in 0..=stage.settings.runs {
        for (who, expected) in [(SUBJECT, 1), ("warm", 0)] {
            interrupt::check()?;
            if who == SUBJECT && round > 0 {
                fs::remove_dir_all(&facts).map_err(HarnessError::at("remove", &facts))?;
            }
            stage.run_true(subject, &format!("cold{round}"))?;
            let (milliseconds, judges) = last(&daemon.bulkhead_root())?;
            if round > 0 {
                if judges != expected {
                    return Err(wrong("so many judges", format!("{judges}, not {expected}")));
                }
                series.add(who, milliseconds);
            }
        }
    }
    stage.bench.allow("exec = [\"*\"]")?;
    series.rows("gates-cold-keyed", "ms", findings);
    Ok(())
}

/// How long the gates of the last launch took, in milliseconds, and how many judges it has started.
pub(super) fn last(root: &Path) -> Result<(f64, u64), HarnessError> {
    let path = root.join("var/lib/bulkhead/audit/verdicts.jsonl");
    let text = read(&path)?;
    let line: Value = text
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| wrong("a verdict on record", text.clone()))?;
    match (line["timings_us"]["gates"].as_f64(), line["judges"].as_u64()) {
        (Some(gates), Some(judges)) => Ok((gates / 1000.0, judges)),
        _ => Err(wrong("timings on record", line.to_string())),
    }
}

/// A key for policy, and its signature of the allowed image in the node's store.
fn sign(stage: &Stage) -> Result<(), HarnessError> {
    let root = stage.daemon().bulkhead_root();
    let (keys, target) = (root.join("etc/bulkhead/keys"), &stage.bench.digests.target);
    let store = root.join("var/lib/bulkhead/trust/sha256").join(target.trim_start_matches("sha256:"));
    for dir in [&keys, &store] {
        fs::create_dir_all(dir).map_err(HarnessError::at("create", dir))?;
    }
    let dir = stage.daemon().dir();
    let openssl = |words: &str| -> Result<String, HarnessError> {
        let mut command = Command::new("openssl");
        Ok(run(command.args(words.split(' ')).current_dir(dir), WITHIN)?.success()?.stdout)
    };
    let payload = format!(
        "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"\"}},\"image\":{{\"docker-manifest-digest\":\"{target}\"}},\
         \"type\":\"cosign container image signature\"}},\"optional\":null}}"
    );
    write(&dir.join("payload.json"), payload.as_bytes())?;
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ci.key")?;
    write(&keys.join("ci.pub"), openssl("pkey -in ci.key -pubout")?.as_bytes())?;
    openssl("dgst -sha256 -sign ci.key -out signature payload.json")?;
    let file = serde_json::json!({
        "payload": openssl("base64 -A -in payload.json")?.trim(),
        "signature": openssl("base64 -A -in signature")?.trim(),
    });
    let text = file.to_string();
    let name = format!("{}.simplesigning.json", digest_of(text.as_bytes()).trim_start_matches("sha256:"));
    write(&store.join(name), text.as_bytes())
}

fn read(path: &Path) -> Result<String, HarnessError> {
    fs::read_to_string(path).map_err(HarnessError::at("read", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), HarnessError> {
    fs::write(path, bytes).map_err(HarnessError::at("write", path))
}
