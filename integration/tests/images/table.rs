//! The table: target/reports/images.json, and docs/images.md where it is asked for.

use std::{fs, path::PathBuf};

use bulkhead_integration::{merge_report, workspace};
use serde_json::{Value, json};

use crate::{described::Described, trial::Ran};

const HEAD: &str = "# Everyday images

Images like published ones, built from Debian's packages with the published ones' users, entrypoints, paths, volumes and
signals (`integration/images/`), run by `integration/tests/images.rs` under runc and under Bulkhead: asked for what they
serve, told to read their configuration again, stopped. Written by `BULKHEAD_WRITE_DOCS=1 cargo test -p
bulkhead-integration --test images -- --include-ignored`.

- **As it says**: a pod that names the image and nothing else. An image that starts as root is refused (`user`) until the
  node's policy says as whom it may run instead.
- **Restricted pod**: runAsUser, drop ALL, no privilege escalation, RuntimeDefault, readOnlyRootFilesystem, and the empty
  volumes that its users give it.
- **unchanged**: a policy that has the image's digest and nothing else, and the same answers, reload and end as under runc.

";

/// What an image came to.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) described: &'a Described,
    pub(crate) says: Compared,
    pub(crate) pod: Compared,
}

/// One setting under both runtimes.
pub(crate) struct Compared {
    pub(crate) runc: Ran,
    /// With the lines that it needs.
    pub(crate) bulkhead: Ran,
    pub(crate) lines: Vec<String>,
    pub(crate) cannot: Option<String>,
    /// Why it does not run under runc.
    pub(crate) not_under_runc: Option<String>,
}

impl Compared {
    fn outcome(&self) -> &'static str {
        match (&self.cannot, self.lines.as_slice()) {
            (Some(_), _) => "cannot",
            (None, []) => "unchanged",
            (None, _) => "with lines",
        }
    }

    fn value(&self) -> Value {
        json!({ "outcome": self.outcome(), "policy_lines": self.lines, "why": self.cannot,
            "runc": self.runc.shown(), "why_not_under_runc": self.not_under_runc, "bulkhead": self.bulkhead.shown() })
    }
}

/// Adds the row, and writes the page from all rows where it is asked for.
pub(crate) fn write(row: &Row<'_>) {
    let Row { name, described, says, pod } = row;
    let value = json!({ "image": name, "like": described.like, "outcome": pod.outcome(), "policy_lines": pod.lines,
        "restricted": pod.value(), "as_it_says": says.value() });
    let path = merge_report("images", &["image"], &[value]).unwrap();
    if std::env::var_os("BULKHEAD_WRITE_DOCS").is_some() {
        let report: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        fs::write(page(), text(report["rows"].as_array().unwrap())).unwrap();
    }
}

pub(crate) fn page() -> PathBuf {
    workspace().join("docs/images.md")
}

fn text(rows: &[Value]) -> String {
    let mut rows: Vec<&Value> = rows.iter().collect();
    rows.sort_by_key(|row| row["image"].as_str().unwrap().to_owned());
    let unchanged = rows.iter().filter(|row| row["outcome"] == "unchanged").count();
    let mut text = format!(
        "{HEAD}{unchanged} of {} run unchanged in a restricted pod.\n\n\
         | image | restricted pod | under Bulkhead | under runc | as it says |\n|---|---|---|---|---|\n",
        rows.len()
    );
    for row in &rows {
        let (pod, says) = (&row["restricted"], &row["as_it_says"]);
        let cell = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        text += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            cell(&row["image"]),
            needs(pod),
            cell(&pod["bulkhead"]),
            match pod["why_not_under_runc"].as_str() {
                Some(why) => format!("{}: {why}", cell(&pod["runc"])),
                None => cell(&pod["runc"]),
            },
            needs(says)
        );
    }
    text += "\nWhat each is like:\n\n";
    for row in &rows {
        text += &format!("- `{}`: {}.\n", row["image"].as_str().unwrap(), row["like"].as_str().unwrap());
    }
    text
}

/// The cell that a row of the page has for it; the page is held against what images say of themselves.
fn needs(value: &Value) -> String {
    let lines: Vec<String> = value["policy_lines"].as_array().into_iter().flatten().map(code).collect();
    match value["outcome"].as_str().unwrap() {
        "cannot" => format!("**cannot**: {}", value["why"].as_str().unwrap()),
        "with lines" => lines.join("<br>"),
        other => other.to_owned(),
    }
}

fn code(line: &Value) -> String {
    format!("`{}`", line.as_str().unwrap())
}

/// The start of the line that the page must have for an image.
pub(crate) fn expected_line(name: &str, described: &Described) -> String {
    let expected = described.pod.expected();
    let compared = Compared {
        runc: Ran::Failed(String::new()),
        bulkhead: Ran::Failed(String::new()),
        lines: expected.lines,
        cannot: expected.cannot,
        not_under_runc: None,
    };
    format!("| `{name}` | {} |", needs(&compared.value()))
}
