//! Only images signed by whom policy names run: real cosign 2 and 3, real registry, real containerd.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "trust/cosign.rs"]
#[allow(dead_code, reason = "shared with the suite of the store, which saves images too")]
mod cosign;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Digests, Output, Refused, Registry, RegistryDoor, RegistryKind, Release,
    bulkhead_dir, digest_of, on_each_containerd, run, workspace,
};
use cosign::Cosign;

/// `team-a`'s images by the rule `ci`, `team-b`'s by `other`.
const POLICY: &str = "version = 1\n[image]\n\
    \"registry.test/team-a/*\" = { require = [\"ci\"], confine = \"test\" }\n\
    \"registry.test/team-b/*\" = { require = [\"other\"] }\n\
    [rule.ci]\nkeys = [\"keys/a.pub\"]\n[rule.other]\nkeys = [\"keys/b.pub\"]\n\
    [confine.test]\nexec = [\"*\"]\n";

/// A containerd with an image that is in a registry too, and two signers of whom policy knows.
struct Signers {
    bench: Bench,
    _registry: Registry,
    /// The image in the registry, by digest.
    image: String,
    a: Cosign,
    b: Cosign,
}

impl Signers {
    fn new(release: Release, version: u32) -> Self {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let dir = bench.daemon.dir();
        let registry =
            Registry::start(RegistryKind::Docker, RegistryDoor::Open, &dir.join("registry")).unwrap();
        let name = format!("{}/team-a/busybox", registry.address());
        let push = ["images", "push", "--plain-http", &format!("{name}:1"), ALLOWED];
        bench.daemon.ctr(&push).unwrap().success().unwrap();
        let image = format!("{name}@{}", bench.digests.target);
        let [a, b] = ["a", "b"].map(|name| Cosign::new(version, &dir.join(format!("cosign-{name}"))));
        let keys = bench.daemon.bulkhead_root().join("etc/bulkhead/keys");
        fs::create_dir_all(&keys).unwrap();
        fs::write(keys.join("a.pub"), a.public_key()).unwrap();
        fs::write(keys.join("b.pub"), b.public_key()).unwrap();
        bench.daemon.policy(POLICY).unwrap();
        Self { bench, _registry: registry, image, a, b }
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.bench.daemon.bulkhead_root().join("etc/bulkhead/keys").join(name)
    }

    /// Fetches into the node's store what the registry has.
    fn fetch(&self) {
        self.bulkhead(&["trust", "fetch", &self.image]).success().unwrap();
    }

    fn bulkhead(&self, words: &[&str]) -> Output {
        bulkhead(&self.bench.daemon.bulkhead_root(), words)
    }

    fn refused(&self) -> Refused {
        let refused = Refused::of(self.bench.run("no", &["/bin/true"]).unwrap()).unwrap();
        assert_eq!(refused.rule(), "image-signature", "{}", refused.line());
        refused
    }

    fn runs(&self) {
        self.bench.run("yes", &["/bin/true"]).unwrap().success().unwrap();
    }

    fn subject(&self, digests: &Digests) -> PathBuf {
        let hex = digests.target.strip_prefix("sha256:").unwrap();
        self.bench.daemon.bulkhead_root().join("var/lib/bulkhead/trust/sha256").join(hex)
    }

    fn stored(&self) -> Vec<PathBuf> {
        names(&self.subject(&self.bench.digests))
    }

    /// Inodes of the facts about signatures: a judge that was asked anew leaves another.
    fn facts(&self) -> Vec<u64> {
        let hex = self.bench.digests.target.strip_prefix("sha256:").unwrap();
        let dir = self.bench.daemon.bulkhead_root().join("var/lib/bulkhead/verdicts/signatures").join(hex);
        names(&dir).iter().map(|path| fs::metadata(path).unwrap().ino()).collect()
    }
}

fn bulkhead(root: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(bulkhead_dir().unwrap().join("bulkhead"));
    command.arg("--root").arg(root).args(words).env("DOCKER_CONFIG", root.join("none"));
    run(&mut command, Duration::from_secs(60)).unwrap()
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

/// `sha256:…` of a public key in PEM.
fn fingerprint(pem: &Path) -> String {
    let der = run(
        Command::new("openssl")
            .args(["pkey", "-pubin", "-outform", "DER", "-out"])
            .arg(pem.with_extension("der"))
            .arg("-in")
            .arg(pem),
        Duration::from_secs(60),
    );
    der.unwrap().success().unwrap();
    digest_of(&fs::read(pem.with_extension("der")).unwrap())
}

on_each_containerd! {
    fn an_image_that_the_key_of_its_scope_signed_runs_and_unsigned_or_by_another_tenants_key_it_does_not(release) {
        let signers = Signers::new(release, 3);
        let unsigned = signers.refused();
        assert!(unsigned.line().contains("no signature of it is known to this node"), "{}", unsigned.line());
        assert!(unsigned.line().contains("bulkhead trust fetch"), "{}", unsigned.line());

        signers.b.sign(&signers.image);
        signers.fetch();
        let other = signers.refused();
        assert!(other.line().contains(&fingerprint(&signers.key_file("b.pub"))), "{}", other.line());
        assert!(other.line().contains("keys/b.pub"), "{}", other.line());

        signers.a.sign(&signers.image);
        signers.fetch();
        signers.runs();
        let id = signers.bench.start_task("execs", &["/bin/sleep", "1000"]).unwrap();
        signers.bench.exec(&id, &["/bin/true"]).unwrap().success().unwrap();
        signers.bench.remove(&id).unwrap();
        signers.bench.assert_nothing_left();
    }
}

#[test]
fn cosign_2_signs_and_what_it_signed_runs() {
    let signers = Signers::new(Release::V2_1, 2);
    signers.b.sign(&signers.image);
    signers.fetch();
    assert!(signers.refused().line().contains("keys/b.pub"));
    signers.a.sign(&signers.image);
    signers.fetch();
    signers.runs();
    signers.bench.assert_nothing_left();
}

#[test]
fn signature_of_another_repository_edited_or_about_another_digest_admits_nothing() {
    let signers = Signers::new(Release::V2_1, 3);
    signers.a.sign(&signers.image);
    signers.fetch();
    signers.runs();
    let daemon = &signers.bench.daemon;

    // The same bytes under a name of team-b: both names are judged, and team-b has not signed.
    let copy = "registry.test/team-b/copy:1";
    daemon.ctr(&["images", "tag", ALLOWED, copy]).unwrap().success().unwrap();
    assert!(signers.refused().line().contains("which the rule does not name"));
    daemon.ctr(&["images", "rm", copy]).unwrap().success().unwrap();
    signers.runs();

    // Another image of the repository, beside which somebody lays this one's signature.
    let [file] = signers.stored().try_into().unwrap();
    let evil = signers.bench.import_evil("registry.test/team-a/evil:1").unwrap();
    let elsewhere = signers.subject(&evil);
    fs::create_dir_all(&elsewhere).unwrap();
    fs::copy(&file, elsewhere.join(file.file_name().unwrap())).unwrap();
    let id = daemon.id("evil");
    let words = ["run", "--rm", "--runtime", BULKHEAD, "registry.test/team-a/evil:1", &id, "/bin/true"];
    let refused = Refused::of(daemon.ctr(&words).unwrap()).unwrap();
    assert_eq!(refused.rule(), "image-signature");
    assert!(
        refused.line().contains(&format!("it is about {}", signers.bench.digests.target)),
        "{}",
        refused.line()
    );

    // Edited: under its old name, and under its own.
    let good = fs::read_to_string(&file).unwrap();
    let (before, after) = good.split_once("\"sig\":\"").unwrap();
    let bad =
        format!("{before}\"sig\":\"{}{}", if after.starts_with("MEU") { "MEQ" } else { "MEU" }, &after[3..]);
    fs::write(&file, &bad).unwrap();
    // The facts that a judge found in the true bytes are of those bytes: the name is the hash.
    let facts = daemon.bulkhead_root().join("var/lib/bulkhead/verdicts/signatures");
    fs::remove_dir_all(&facts).unwrap();
    assert!(signers.refused().line().contains("it was changed where it is stored"));
    let hex = digest_of(bad.as_bytes());
    let name = format!("{}.bundle.json", hex.strip_prefix("sha256:").unwrap());
    fs::rename(&file, file.with_file_name(&name)).unwrap();
    assert!(signers.refused().line().contains("no key of this node made it"));

    // One that is bad beside one that is good spoils nothing.
    fs::write(&file, &good).unwrap();
    signers.runs();
    signers.bench.assert_nothing_left();
}

#[test]
fn changed_policy_asks_no_judge_and_changed_keys_do() {
    let signers = Signers::new(Release::V2_1, 3);
    let daemon = &signers.bench.daemon;
    signers.a.sign(&signers.image);
    signers.fetch();
    signers.runs();
    let first = signers.facts();
    assert_eq!(first.len(), 1);

    // The same keys by other rules: the verdict changes, the facts do not.
    daemon.policy(&POLICY.replace("require = [\"ci\"]", "require = [\"other\"]")).unwrap();
    signers.refused();
    assert_eq!(signers.facts(), first);
    daemon.policy(&POLICY.replace("[rule.ci]", "[rule.ci]\ntransparency_log = \"required\"")).unwrap();
    assert!(signers.refused().line().contains("no transparency log"));
    assert_eq!(signers.facts(), first);

    // Another key: judged anew.
    daemon.policy(&POLICY.replace("\"keys/b.pub\"", "\"keys/a.pub\"")).unwrap();
    signers.runs();
    assert_eq!(signers.facts().len(), 2);

    // A key that is missing, or is none: nothing runs, and the message says which.
    daemon.policy(&POLICY.replace("keys/b.pub", "keys/nobody.pub")).unwrap();
    for (says, repair) in [("keys/nobody.pub does not exist", true), ("not one PEM block", false)] {
        let refused = Refused::of(signers.bench.run("no", &["/bin/true"]).unwrap()).unwrap();
        assert_eq!(refused.rule(), "policy");
        assert!(refused.line().contains(says), "{}", refused.line());
        let check = signers.bulkhead(&["policy", "check"]);
        assert_eq!(check.code(), 1);
        assert!(check.stdout.contains(says), "{check:?}");
        if repair {
            fs::write(daemon.bulkhead_root().join("etc/bulkhead/keys/nobody.pub"), "nobody\n").unwrap();
        }
    }
    signers.bench.assert_nothing_left();
}

const KEYLESS: &str = "version = 1\n[image]\n\
    \"registry.test/team-a/*\" = { require = [\"ci\"], confine = \"test\" }\n\
    [rule.ci]\nkeyless = [{ issuer = \"https://issuer.example\", identity = \"https://ci.example/team-a/*/release.yml@refs/tags/*\" }]\n\
    [trust]\nroots = [\"trusted_root.json\"]\nroot_age_days_max = 30\n\
    [confine.test]\nexec = [\"*\"]\n";

/// Certificates, logs and timestamps of a world of its own, made by integration/signatures/make.py.
struct World {
    bench: Bench,
    made: PathBuf,
}

impl World {
    fn new() -> Self {
        let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
        let made = bench.daemon.dir().join("made");
        let mut make = Command::new("python3");
        make.arg(workspace().join("integration/signatures/make.py")).arg(&made).arg(&bench.digests.target);
        run(&mut make, Duration::from_secs(60)).unwrap().success().unwrap();
        fs::copy(made.join("trusted_root.json"), Self::root_file(&bench)).unwrap();
        bench.daemon.policy(KEYLESS).unwrap();
        Self { bench, made }
    }

    fn root_file(bench: &Bench) -> PathBuf {
        bench.daemon.bulkhead_root().join("etc/bulkhead/trusted_root.json")
    }

    /// Lays one of the made files into the node's store, alone.
    fn store(&self, name: &str) {
        let hex = self.bench.digests.target.strip_prefix("sha256:").unwrap();
        let root = self.bench.daemon.bulkhead_root();
        let dir = root.join("var/lib/bulkhead/trust/sha256").join(hex);
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        let bytes = fs::read(self.made.join(name)).unwrap();
        let (_, suffix) = name.split_once('.').unwrap();
        let blob = digest_of(&bytes);
        fs::write(dir.join(format!("{}.{suffix}", blob.strip_prefix("sha256:").unwrap())), bytes).unwrap();
    }

    fn runs(&self) {
        self.bench.run("yes", &["/bin/true"]).unwrap().success().unwrap();
    }

    fn refused(&self, says: &str) {
        let refused = Refused::of(self.bench.run("no", &["/bin/true"]).unwrap()).unwrap();
        assert_eq!(refused.rule(), "image-signature", "{}", refused.line());
        assert!(refused.line().contains(says), "{says}: {}", refused.line());
    }
}

#[test]
fn certificate_of_the_policys_issuer_and_identity_admits_and_others_do_not() {
    let world = World::new();
    for name in ["keyless.bundle", "keyless-rekor-2.bundle", "keyless.simplesigning"] {
        world.store(&format!("good-{name}.json"));
        world.runs();
    }
    let policy = |from: &str, to: &str| world.bench.daemon.policy(&KEYLESS.replace(from, to)).unwrap();
    policy("team-a/*/release", "team-b/*/release");
    world.refused(
        "signed by https://ci.example/team-a/app/release.yml@refs/tags/v1 of https://issuer.example",
    );
    policy("https://issuer.example", "https://other.example");
    world.refused("which the rule does not name");
    policy("", "");
    world.store("good-keyless-timestamp-alone.bundle.json");
    world.refused("no transparency log");
    policy("[trust]", "transparency_log = \"optional\"\n[trust]");
    world.runs();
    world.store("good-attestation.bundle.json");
    world.refused("that is an attestation");

    policy("", "");
    world.store("good-keyless.bundle.json");
    world.runs();
    let root = fs::File::options().write(true).open(World::root_file(&world.bench)).unwrap();
    root.set_modified(SystemTime::now() - Duration::from_secs(31 * 86_400)).unwrap();
    world.refused("31 days old");
    fs::copy(world.made.join("other_root.json"), World::root_file(&world.bench)).unwrap();
    world.refused("counts for nothing");
    world.bench.assert_nothing_left();
}

#[test]
fn forged_broken_and_borrowed_evidence_admits_nothing() {
    let world = World::new();
    for (name, says) in [
        ("forged-promise.bundle", "SET"),
        ("promise-by-other-log.bundle", "SET"),
        ("inclusion-proof.bundle", "inclusion proof"),
        ("checkpoint-by-other-log.bundle", "heckpoint"),
        ("second-entry.bundle", "inclusion proof"),
        ("expired-certificate.bundle", "CertExpired"),
        ("certificate-of-other-authority.bundle", "certificate"),
        ("edited-payload.bundle", "signature"),
        ("other-digest.bundle", "it is about sha256:"),
        ("timestamp-of-other-authority.bundle", "imestamp"),
    ] {
        world.store(&format!("bad-{name}.json"));
        world.refused(says);
    }
    world.store("good-keyless.bundle.json");
    world.runs();
    world.bench.assert_nothing_left();
}
