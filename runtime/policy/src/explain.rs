//! The reference of the policy language: one page, from the table that the parser uses.

use std::fmt::Write as _;

use crate::keys::{Built, KEYS, Table, keys_of};

const HEAD: &str = r#"# Policy

`/etc/bulkhead/policy.toml` is the node's; without it nothing runs (`bulkhead init` writes a first one).
`/etc/bulkhead/tenants/NAMESPACE.toml` narrows it for one tenant: the namespace of the pod in Kubernetes, else that of
containerd; what no file can be named after (CRI takes any text) is written %20. Both, and every directory above them,
belong to root and can be written by root alone.
This page is what `bulkhead policy explain` prints; `bulkhead policy check` judges the files.

```toml
version = 1
mode = "enforce"
[image]
"registry.k8s.io/pause"      = { digests = ["sha256:…"] }
"registry.example/team-a/**" = { require = ["signed-by-ci"], confine = "web" }
[rule.signed-by-ci]
keys = ["keys/team-a.pub"]
keyless = [{ issuer = "https://token.actions.githubusercontent.com", identity = "https://github.com/team-a/*/.github/workflows/release.yml@refs/tags/*" }]
[trust]
roots = ["trusted_root.json"]
[confine.default]
tmpfs_bytes_max = 16_777_216
[confine.web]
writable = ["/var/cache/nginx"]
exec = ["nginx -s quit", ["sh", "-c", "cat /etc/nginx/nginx.conf"], "/bin/health *", { command = "sh", stdin = true, tty = true }]
```

## Rules of reading

- **Strict.** An unknown key, a key whose feature is not built yet, a value that a key does not accept, a file that
  others than root can write: nothing runs, and the message says file, line and fix.
- **Which image.** The digest in a list is that of the index that the image's name points to, or of this platform's
  manifest: both were proven from bytes. A tag proves nothing and is not asked.
- **Who signed.** A scope names the rules in `require` that its images must pass, each by one signature of the index or of
  this platform's manifest: that ties the repository to its signers, for a signature itself may carry no repository.
  Signatures are read from the node's own store (`bulkhead trust`); no launch asks the network. A key passes with or
  without a log entry unless `transparency_log` says otherwise; a certificate must be in a log. Keys and roots are files
  below this file's directory, of root's alone; one that is missing or broken refuses all. Changing a rule counts for the
  next launch, and signatures are verified anew only when a signature, key or root has changed. An attestation is no
  signature.
- **Which scope.** A scope is a repository without tag and digest, its registry written out
  (`docker.io/library/nginx`). `*` is one part between slashes, `**` at the end one part or more. Of several scopes of
  one file that match, the first difference from the left decides: a literal part beats `*`, `*` beats `**`. No scope
  matches: refused. A port is part of the registry's name.
- **Several names.** An image that has several names in containerd is judged by each that a scope matches, and all
  must pass; of their sections each key takes the strictest. Names that no scope matches say nothing. The name that
  the container was created with must be matched; in Kubernetes any name will do, because containerd records any.
- **Node and tenant.** An image must pass both files, by one and the same name; `version` stands in both. A scope in a
  tenant's file may leave out `digests` and `require` (`"registry.k8s.io/pause" = {}`): the node's decide then. Rules of
  one file are unknown to the other; `[trust]` is the node's. Pods need their
  pause image in the tenant's file too. A key that a tenant's section does not write stays as the node has it; one that
  it writes counts only where it is stricter.
- **Sections.** `[confine.default]` holds for every image; a scope may name another section, which says only what
  differs from it. What neither says is as below. The exec gate looks at the policy of the moment of the exec.
- **The compatible level.** For pods that run the node (network and storage plugins, exporters, kube-proxy) a section may
  say `level = "compatible"`: what the request asks for is granted as runc would grant it, root of the node included. It
  takes a scope of the node's file that names the section, the digests of that scope and `namespaces`; the pause image
  of privileged pods needs it too. Images, `exec`, `hooks` and the verdicts are judged as ever; docs/threat-model.md says
  what is given up. `bulkhead policy check` names every such section.

  ```toml
  [image]
  "registry.example/cni/**" = { digests = ["sha256:…"], confine = "infra" }
  [confine.infra]
  level = "compatible"
  namespaces = ["kube-system"]
  exec = ["/bin/cni-agent status"]
  ```
- **Commands.** A text in `exec` is split into words as a shell would, nothing is expanded; an array has its words
  already. Each word is literal; `*` as the last stands for any rest, `["*"]` allows every command, with
  standard input and terminal; any other gets those where its entry says so. `sh *` is every command too. Without a slash a word is looked up in the PATH that the exec brings: name the whole path.
"#;

/// The reference, in Markdown: `bulkhead policy explain`, and docs/policy.md.
#[must_use]
pub fn explain() -> String {
    let mut page = HEAD.to_owned();
    for (table, title) in [
        (Table::File, "The file"),
        (Table::Image, "A scope of `[image]`"),
        (Table::Rule, "A rule `[rule.NAME]`"),
        (Table::Keyless, "An entry of `keyless`"),
        (Table::Trust, "`[trust]`"),
        (Table::Confine, "A section `[confine.NAME]`"),
        (Table::Landlock, "`landlock = { … }`"),
        (Table::Exec, "An entry of `exec`"),
        (Table::HostPath, "An entry of `host_paths`"),
    ] {
        section(&mut page, table, title);
    }
    page.push_str("\n## Not built yet\n\nEach of these refuses all:\n\n");
    for key in KEYS.iter().filter(|key| key.built == Built::NotYet) {
        line(&mut page, format_args!("- `{}` in {}: {}", key.name, key.table.title(), key.meaning));
    }
    page
}

fn section(page: &mut String, table: Table, title: &str) {
    line(page, format_args!("\n## {title}\n"));
    for key in keys_of(table).filter(|key| key.built == Built::Yes) {
        line(page, format_args!("- `{} = {}`", key.name, key.accepts));
        line(page, format_args!("  {}.", key.meaning));
        let mut notes = Vec::new();
        if !key.default.is_empty() {
            notes.push(format!("Default `{}`.", key.default));
        }
        if !key.stricter.is_empty() {
            notes.push(format!("Stricter: {}.", key.stricter));
        }
        if !notes.is_empty() {
            line(page, format_args!("  {}", notes.join(" ")));
        }
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail: its `write_str` returns Ok always.
    if page.write_fmt(text).is_ok() {
        page.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BLESS=1 cargo test -p bulkhead-policy` writes the page.
    #[test]
    fn page_in_docs_is_what_explain_prints() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, explain()).expect("writes docs/policy.md");
        }
        let page = std::fs::read_to_string(path).expect("reads docs/policy.md");
        assert!(page == explain(), "docs/policy.md is old: BLESS=1 cargo test -p bulkhead-policy");
    }
}
