//! `bulkhead policy test FILE`: a table of images, and what policy has to say of each. Nothing is asked but the policy.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bulkhead_model::{
    Digest, ImageFacts, ImageUser, Layout, LogEvidence, Namespace, PublicKey, Refusal, RootFile, Signature,
    SignatureFacts, SignatureFormat, Signer, TrustMaterial,
};
use bulkhead_node::{load_policy, tenants_dir};
use bulkhead_policy::{NamedFile, NamedKind, Policy};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answer::{Answer, Trouble},
    check::plain,
};

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    image: Vec<Row>,
}

/// One image, and what is expected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    /// Of its index or manifest; where there is none, one that no list has.
    digest: Option<Digest>,
    /// Of its manifest, where `digest` is an index's.
    manifest: Option<Digest>,
    tenant: Option<Namespace>,
    #[serde(default)]
    signed_by: Vec<SignedBy>,
    expect: Expected,
    /// The rule that has to refuse it.
    rule: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Expected {
    Admitted,
    Refused,
}

/// Whose good signature the image has. A key that the policy does not name is a stranger's.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum SignedBy {
    Key { key: String, log: Option<String> },
    Certificate { issuer: String, identity: String, root: String },
}

/// What became of a row.
struct Outcome {
    name: String,
    found: String,
    wanted: String,
    refusal: Option<Refusal>,
}

impl Outcome {
    fn as_expected(&self) -> bool {
        self.found == self.wanted
    }
}

pub(crate) fn test(layout: &Layout, file: &Path, policy: Option<&Path>) -> Result<Answer, Trouble> {
    let wrong = |why: String| Trouble::Configuration { path: file.to_owned(), why };
    let table: Table = toml::from_str(&plain(file)?.text)
        .map_err(|error| wrong(error.to_string().lines().collect::<Vec<_>>().join(" ")))?;
    let mut outcomes = Vec::new();
    for row in &table.image {
        if row.rule.is_some() && row.expect == Expected::Admitted {
            return Err(wrong(format!(
                "{}: `rule` says which one refuses, and it is expected to be admitted",
                row.name
            )));
        }
        outcomes.push(outcome(layout, row, policy)?);
    }
    Ok(report(&outcomes))
}

fn outcome(layout: &Layout, row: &Row, file: Option<&Path>) -> Result<Outcome, Trouble> {
    let wanted = match (row.expect, &row.rule) {
        (Expected::Admitted, _) => "admitted".to_owned(),
        (Expected::Refused, None) => "refused".to_owned(),
        (Expected::Refused, Some(rule)) => format!("refused by {rule}"),
    };
    let tenant = match &row.tenant {
        Some(tenant) => tenant.clone(),
        None => "default".parse().map_err(|_| Trouble::Configuration {
            path: PathBuf::from("tenant"),
            why: "is none".to_owned(),
        })?,
    };
    let policy = match file {
        None => load_policy(layout, None, &tenant),
        Some(file) => read_policy(file, &tenant)?,
    };
    let verdict = policy.and_then(|policy| {
        let (facts, signatures) = facts(row, policy.material());
        policy.preview(&facts, Some(&signatures), &row.name, &tenant)
    });
    let refusal = match verdict {
        // In audit mode what would be refused counts as refused: the table is about what policy says.
        Ok(preview) => preview.would_refuse().cloned(),
        Err(refusal) => Some(refusal),
    };
    let found = match (&refusal, &row.rule) {
        (None, _) => "admitted".to_owned(),
        (Some(_), None) => "refused".to_owned(),
        (Some(refusal), Some(_)) => format!("refused by {}", refusal.rule.anchor()),
    };
    Ok(Outcome { name: row.name.clone(), found, wanted, refusal })
}

fn report(outcomes: &[Outcome]) -> Answer {
    let mut lines = Vec::new();
    for outcome in outcomes {
        let Outcome { name, found, wanted, refusal } = outcome;
        if outcome.as_expected() {
            lines.push(format!("ok    {name}: {found}"));
        } else {
            lines.push(format!("WRONG {name}: {found}, expected: {wanted}"));
            lines.extend(refusal.as_ref().map(Refusal::to_string));
        }
    }
    let wrong = outcomes.iter().filter(|outcome| !outcome.as_expected()).count();
    lines.push(format!("{} as expected, {wrong} not", outcomes.len() - wrong));
    let rows: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            let Outcome { name, found, wanted, refusal } = outcome;
            let refusal = refusal.as_ref().map(crate::answer::refusal_json);
            json!({ "name": name, "found": found, "expected": wanted, "ok": outcome.as_expected(), "refusal": refusal })
        })
        .collect();
    let json = json!({ "images": rows, "wrong": wrong });
    if wrong == 0 { Answer::yes(lines.join("\n"), json) } else { Answer::refused(lines.join("\n"), json) }
}

/// An image as the row describes it.
fn facts(row: &Row, material: &TrustMaterial) -> (ImageFacts, SignatureFacts) {
    let target = row.digest.unwrap_or_else(|| Digest::of(b"an image that no list has"));
    let facts = ImageFacts {
        target,
        manifest: row.manifest.unwrap_or(target),
        config: target,
        diff_ids: Vec::new(),
        layers: Vec::new(),
        user: ImageUser::default(),
        volumes: Default::default(),
        exposed: Default::default(),
    };
    let root_of =
        |name: &str| material.roots.get(name).map_or(Digest::of(name.as_bytes()), |root| root.digest);
    let signatures = row.signed_by.iter().enumerate().map(|(number, signed)| {
        let (signer, log) = match signed {
            SignedBy::Key { key, log } => {
                let known = material.keys.get(key);
                let fingerprint = known.map_or(Digest::of(key.as_bytes()), PublicKey::fingerprint);
                (Signer::Key { fingerprint }, log.as_deref().map(root_of))
            }
            SignedBy::Certificate { issuer, identity, root } => {
                let root = root_of(root);
                (Signer::Certificate { issuer: issuer.clone(), identity: identity.clone(), root }, Some(root))
            }
        };
        Signature {
            blob: Digest::of(format!("signature {number}").as_bytes()),
            subject: target,
            format: SignatureFormat::Bundle,
            signer,
            log: log.map(|root| LogEvidence { log_id: String::new(), index: 0, integrated_at: None, root }),
            timestamp: None,
            predicate_type: None,
            repository: None,
        }
    });
    (facts, SignatureFacts { signatures: signatures.collect(), rejected: Vec::new() })
}

/// A policy that is not in place yet, with its tenant's file and the keys and roots beside it; owners are not looked at.
fn read_policy(file: &Path, tenant: &Namespace) -> Result<Result<Policy, Refusal>, Trouble> {
    let node = plain(file)?;
    let beside = tenants_dir(file).join(format!("{tenant}.toml"));
    let tenant = if beside.exists() { Some(plain(&beside)?) } else { None };
    let policy = match Policy::parse(&node, tenant.as_ref()) {
        Ok(policy) => policy,
        Err(error) => return Ok(Err(error.into())),
    };
    let dir = file.parent().unwrap_or(Path::new("."));
    let mut material = TrustMaterial::default();
    for NamedFile { kind, name, .. } in policy.named_files() {
        let path = dir.join(&name);
        let text = plain(&path)?.text;
        match kind {
            NamedKind::Key => {
                let key = PublicKey::from_pem(&text)
                    .map_err(|error| Trouble::Key { path: path.clone(), why: error.to_string() })?;
                material.keys.insert(name, key);
            }
            NamedKind::Root => {
                let failed = |source| Trouble::File { call: "stat(2)", path: path.clone(), source };
                let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(failed)?;
                let age = SystemTime::now().duration_since(written).unwrap_or_default();
                material.roots.insert(name, RootFile::new(text.into_bytes(), age));
            }
        }
    }
    Ok(Ok(policy.with_material(material)))
}
