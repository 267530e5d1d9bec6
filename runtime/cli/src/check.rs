//! `bulkhead policy check`: every problem of every file, with its place and a fix.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_model::{Layout, Namespace};
use bulkhead_node::{FILE_BYTES_MAX, NodeError, TrustedFile, load_material, read_trusted, tenants_dir};
use bulkhead_policy::{Mode, Policy, Problem, Source};
use bulkhead_trust::signature::{MaterialError, Verifier};
use serde_json::{Value, json};

use crate::answer::{Answer, Trouble, full};

/// A problem of a file's text, or of the file itself.
enum Found {
    Text(Problem),
    File { path: PathBuf, what: String, fix: String },
}

impl Found {
    fn file(path: &Path, error: &NodeError) -> Self {
        Found::File { path: path.to_owned(), what: full(error), fix: error.fix() }
    }

    fn text(&self) -> String {
        match self {
            Found::Text(Problem { path, line, column, what, fix }) => {
                format!("{}:{line}:{column}: {what}\n  fix: {fix}", path.display())
            }
            Found::File { path, what, fix } => format!("{}: {what}\n  fix: {fix}", path.display()),
        }
    }

    fn json(&self) -> Value {
        match self {
            Found::Text(Problem { path, line, column, what, fix }) => {
                json!({ "file": path, "line": line, "column": column, "what": what, "fix": fix })
            }
            Found::File { path, what, fix } => json!({ "file": path, "what": what, "fix": fix }),
        }
    }
}

/// This node's policy and all tenants'.
pub(crate) fn node(layout: &Layout) -> Result<Answer, Trouble> {
    let path = layout.policy_file();
    let mut found = Vec::new();
    let node = match read_trusted(layout, &path) {
        Ok(file) => Some(source(file)),
        Err(NodeError::Missing(_)) => {
            found.push(Found::File {
                path: path.clone(),
                what: "there is no policy, so nothing runs".to_owned(),
                fix: "bulkhead init".to_owned(),
            });
            None
        }
        Err(error) => {
            found.push(Found::file(&path, &error));
            None
        }
    };
    let mut tenants = Vec::new();
    let dir = tenants_dir(&path);
    // The launch looks at the directory even where there is no file for its tenant.
    if let Err(error) = read_trusted(layout, &dir.join("none"))
        && !matches!(error, NodeError::Missing(_))
    {
        found.push(Found::file(&dir, &error));
        return Ok(judge(node, tenants, found, Some(layout)));
    }
    for path in tenant_files(&dir)? {
        match read_tenant(layout, &path) {
            Ok(file) => tenants.push(file),
            Err(problem) => found.push(problem),
        }
    }
    Ok(judge(node, tenants, found, Some(layout)))
}

/// The text of one file, and of another as a tenant's: not the keys and roots that they name, which lie where the text
/// will.
pub(crate) fn files(node: &Path, tenant: Option<&Path>) -> Result<Answer, Trouble> {
    let tenants = tenant.map(plain).transpose()?;
    Ok(judge(Some(plain(node)?), tenants.into_iter().collect(), Vec::new(), None))
}

fn judge(
    node: Option<Source>,
    tenants: Vec<Source>,
    mut found: Vec<Found>,
    in_place: Option<&Layout>,
) -> Answer {
    let mut mode = None;
    let mut compatible: Vec<(String, String)> = Vec::new();
    if let Some(node) = &node {
        match Policy::parse(node, None) {
            Ok(policy) => {
                mode = Some(policy.mode());
                compatible = policy.compatible_sections().map(|(name, to)| (name.to_owned(), to)).collect();
                found.extend(in_place.into_iter().flat_map(|layout| signers(layout, &policy)));
            }
            Err(error) => found.extend(error.problems().cloned().map(Found::Text)),
        }
    }
    // A tenant's text is judged beside an empty node's, so that no problem is told twice.
    let empty = Source { path: PathBuf::new(), text: "version = 1".to_owned() };
    for tenant in &tenants {
        match Policy::parse(&empty, Some(tenant)) {
            Ok(policy) => found.extend(in_place.into_iter().flat_map(|layout| signers(layout, &policy))),
            Err(error) => found.extend(error.problems().cloned().map(Found::Text)),
        }
    }
    let files: Vec<&Path> = node.iter().chain(&tenants).map(|source| source.path.as_path()).collect();
    let mode = mode.map(|mode| match mode {
        Mode::Enforce => "enforce",
        Mode::Audit => "audit",
    });
    let problems: Vec<Value> = found.iter().map(Found::json).collect();
    let sections: Vec<Value> =
        compatible.iter().map(|(name, to)| json!({ "section": name, "namespaces": to })).collect();
    let json = json!({ "files": files, "mode": mode, "compatible": sections, "problems": problems });
    if found.is_empty() {
        let files = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        let mut text = format!("good: {files}");
        if mode == Some("audit") {
            text.push_str("\nnote: mode is audit: what would be refused runs, and is only recorded");
        }
        for (name, to) in &compatible {
            text.push_str(&format!(
                "\nnote: [confine.{name}] is at level compatible for {to}: what a request asks for is granted as runc \
                 would, root of the node included"
            ));
        }
        return Answer::yes(text, json);
    }
    let count = found.len();
    let text: Vec<String> = found.iter().map(Found::text).collect();
    let summary = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
    Answer::refused(format!("{}\n{summary}: nothing runs by this policy", text.join("\n")), json)
}

/// What is wrong with the keys and roots that a policy names.
fn signers(layout: &Layout, policy: &Policy) -> Vec<Found> {
    let material = match load_material(layout, &layout.config_dir(), policy) {
        Ok(material) => material,
        Err(error) => return error.problems().cloned().map(Found::Text).collect(),
    };
    let unusable = |name: &str, error: MaterialError| Found::File {
        path: layout.config_dir().join(name),
        what: error.to_string(),
        fix: "replace it, or take its name out of the policy".to_owned(),
    };
    let keys = material.keys.iter().filter_map(|(name, key)| {
        Verifier::new(std::slice::from_ref(key), &[]).err().map(|error| unusable(name, error))
    });
    let roots = material.roots.iter().filter_map(|(name, root)| {
        Verifier::new(&[], std::slice::from_ref(&root.bytes)).err().map(|error| unusable(name, error))
    });
    keys.chain(roots).collect()
}

fn source(TrustedFile { path, text }: TrustedFile) -> Source {
    Source { path, text }
}

/// Everything in the tenants' directory, sorted; nothing where there is none.
fn tenant_files(dir: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let failed = |source| Trouble::File { call: "readdir(3)", path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn read_tenant(layout: &Layout, path: &Path) -> Result<Source, Found> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let namespace = name.strip_suffix(".toml").map(str::parse::<Namespace>);
    if !matches!(namespace, Some(Ok(_))) {
        return Err(Found::File {
            path: path.to_owned(),
            what: "its name is not that of a namespace and .toml, so it narrows no one".to_owned(),
            fix: "rename it to NAMESPACE.toml, or move it elsewhere".to_owned(),
        });
    }
    read_trusted(layout, path).map(source).map_err(|error| Found::file(path, &error))
}

/// A file as it is: whoever asks about a text need not have put it into place yet.
pub(crate) fn plain(path: &Path) -> Result<Source, Trouble> {
    use std::io::Read as _;
    let failed = |call, source| Trouble::File { call, path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(|error| failed("open(2)", error))?;
    let mut text = String::new();
    let size =
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| failed("read(2)", error))?;
    if size as u64 > FILE_BYTES_MAX {
        return Err(failed("read(2)", std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Source { path: path.to_owned(), text })
}
