//! Every key of a policy file: the one table that the parser, its messages and `bulkhead policy explain` share.
//!
//! A key whose feature is not built yet stands here too: it refuses all, and says so, rather than be unknown.

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Top level.
    File,
    /// `[trust]`.
    Trust,
    /// `[rule.NAME]`.
    Rule,
    /// An entry of `keyless`.
    Keyless,
    /// A scope of `[image]`.
    Image,
    /// `[confine.NAME]`.
    Confine,
    /// `landlock = { … }`.
    Landlock,
    /// An entry of `exec`.
    Exec,
    /// An entry of `host_paths`.
    HostPath,
}

impl Table {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Table::File => "the file",
            Table::Trust => "[trust]",
            Table::Rule => "[rule.NAME]",
            Table::Keyless => "an entry of keyless",
            Table::Image => "a scope of [image]",
            Table::Confine => "[confine.NAME]",
            Table::Landlock => "landlock",
            Table::Exec => "an entry of exec",
            Table::HostPath => "an entry of host_paths",
        }
    }
}

/// Whether this version does what a key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    Yes,
    /// Refuses all.
    NotYet,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) table: Table,
    pub(crate) name: &'static str,
    pub(crate) built: Built,
    /// What may be written.
    pub(crate) accepts: &'static str,
    /// What holds when it is not written: TOML, or empty where there is no default.
    pub(crate) default: &'static str,
    /// Which of two values is the stricter: what a node's and a tenant's file come to.
    pub(crate) stricter: &'static str,
    pub(crate) meaning: &'static str,
}

const fn key(
    table: Table,
    name: &'static str,
    accepts: &'static str,
    default: &'static str,
    stricter: &'static str,
    meaning: &'static str,
) -> Key {
    Key { table, name, built: Built::Yes, accepts, default, stricter, meaning }
}

const fn not_yet(table: Table, name: &'static str, meaning: &'static str) -> Key {
    Key { table, name, built: Built::NotYet, accepts: "", default: "", stricter: "", meaning }
}

/// All keys, in the order of the reference.
pub(crate) const KEYS: &[Key] = &[
    key(Table::File, "version", "1", "", "", "required, first: the language of this file"),
    key(
        Table::File,
        "mode",
        r#""enforce" | "audit""#,
        r#""enforce""#,
        "enforce",
        "audit runs what would be refused, and records it; it is for trying a policy out",
    ),
    key(
        Table::File,
        "image",
        "table of scopes",
        "{}",
        "both files must admit",
        "which images may run; no scope matches: refused",
    ),
    key(
        Table::File,
        "confine",
        "table of sections",
        "{}",
        "key by key",
        "[confine.default] is for every image; a named section says what differs",
    ),
    key(
        Table::File,
        "kubelet_root",
        "absolute path",
        r#""/var/lib/kubelet""#,
        "the node's file alone",
        "the kubelet's --root-dir: below it volumes of this pod are mounted, and nothing else",
    ),
    key(
        Table::File,
        "rule",
        "table of rules",
        "{}",
        "both files' rules must be passed",
        "[rule.NAME] says who must have signed an image; a scope names it in `require`",
    ),
    key(
        Table::File,
        "trust",
        "table",
        "{}",
        "the node's file alone",
        "[trust] names the trusted roots by which certificates, logs and timestamps are verified",
    ),
    not_yet(Table::Rule, "attestation", "vulnerability scans, provenance, SBOMs"),
    not_yet(Table::File, "detect", "[detect]: what to do about what a container does"),
    key(
        Table::Image,
        "digests",
        r#"["sha256:…", …]"#,
        "",
        "both lists must hold the image",
        "of the index that the name points to, or of this platform's manifest; in the node's file this, `require`, or \
         both are required, and both must hold",
    ),
    key(
        Table::Image,
        "require",
        r#"["RULE", …]"#,
        "",
        "all rules of both files",
        "each of these [rule.NAME] of the same file must be passed by a signature of the index or of this platform's \
         manifest",
    ),
    key(Table::Image, "confine", r#""NAME""#, r#""default""#, "key by key", "the section [confine.NAME]"),
    key(
        Table::Image,
        "contents",
        r#""chain" | "receipt" | "rehash""#,
        r#""chain""#,
        "rehash, then receipt",
        "how the files below the root are proven: chain by containerd's names; receipt by comparing each layer with its \
         tar when it is first seen, and then at each launch that nothing has changed; rehash by comparing for each \
         launch. The last two want the layers' blobs, and the overlayfs snapshotter or, on Linux 6.12 or later, the EROFS one of containerd 2.1 and later; of an image volume as of the image that runs. A scope with require has receipt \
         for a default: a signature is about what was signed, not about its name",
    ),
    key(
        Table::Trust,
        "roots",
        r#"["trusted_root.json", …]"#,
        "",
        "",
        "files beside this one: sigstore's trusted_root.json, of the public instance or of your own. Needed for \
         certificates, log entries and timestamps; without one a log entry of a key's signature is not looked at",
    ),
    key(
        Table::Trust,
        "root_age_days_max",
        "1 to 3650",
        "",
        "",
        "how long ago a root may have been written: what an older one vouches for does not count. Not written: no limit",
    ),
    key(
        Table::Trust,
        "fetch",
        r#""never" | "watch" | "launch""#,
        r#""never""#,
        "",
        "whether registries are asked for signatures without a person who says so: watch lets `bulkhead watch` ask for \
         those of images that containerd announces and a scope requires a rule of; launch lets a launch ask as well that \
         lacks one, where the scope names the registry in full (no * in its place): it waits some seconds, then it is \
         UNAVAILABLE, and what was found is there for the next try",
    ),
    key(
        Table::Trust,
        "hosts_dirs",
        "[absolute paths]",
        "",
        "",
        "directories with HOST/hosts.toml by which a launch reaches registries. Not written: config_path of containerd's \
         /etc/containerd/config.toml, else /etc/containerd/certs.d",
    ),
    key(
        Table::Trust,
        "docker_config",
        "absolute path",
        "",
        "",
        "docker's config.json with the passwords that a launch may use. Not written: none",
    ),
    key(
        Table::Rule,
        "keys",
        r#"["keys/NAME.pub", …]"#,
        "",
        "",
        "public keys in PEM, files beside this one: ECDSA P-256 and P-384, Ed25519, RSA. A signature by one of them \
         passes the rule",
    ),
    key(
        Table::Rule,
        "keyless",
        r#"[{ issuer = "…", identity = "…" }, …]"#,
        "",
        "",
        "certificates of an authority of [trust]: a signature whose certificate matches both of one entry passes the rule",
    ),
    key(
        Table::Rule,
        "transparency_log",
        r#""required" | "optional""#,
        "",
        "required",
        "whether a log of [trust] must have the signature. Not written: required for keyless, optional for keys",
    ),
    key(
        Table::Keyless,
        "issuer",
        "pattern",
        "",
        "",
        "required: who vouches for the identity; its host has no star",
    ),
    key(
        Table::Keyless,
        "identity",
        "pattern",
        "",
        "",
        "required: the certificate's only alternative name. `*` is anything between two slashes, `**` anything",
    ),
    key(
        Table::Confine,
        "level",
        r#""hardened" | "compatible""#,
        r#""hardened""#,
        "hardened; a tenant's file that writes another key than exec and hooks comes to hardened",
        "compatible grants what the request asks for as runc would, root of the node included: for infrastructure \
         pods. The node's file alone, never [confine.default]; needs namespaces; of the other keys only exec and \
         hooks hold",
    ),
    key(
        Table::Confine,
        "namespaces",
        r#"["NAMESPACE", …] | ["*"]"#,
        "",
        "",
        "whose containers a compatible section is for; those of other tenants are hardened. Required there, and \
         nowhere else",
    ),
    key(
        Table::Confine,
        "user",
        r#""non-root" | { force = N }"#,
        r#""non-root""#,
        "non-root; two different N come to non-root",
        "non-root refuses uid 0, gid 0 and root's groups; force replaces root by uid and gid N",
    ),
    key(
        Table::Confine,
        "user_namespace",
        r#""shifted" | "root-only" | "request""#,
        r#""request""#,
        "shifted, then root-only",
        "a pod's ids: shifted gives it 65536 of the node's that nobody else has, every mount id-mapped or refused; \
         root-only makes root nobody on the node, on any kernel; request is hostUsers of the pod",
    ),
    key(
        Table::Confine,
        "root",
        r#""read-only" | "writable""#,
        r#""read-only""#,
        "read-only",
        "whether the image's files may change; nosuid and nodev always",
    ),
    key(
        Table::Confine,
        "tmpfs",
        "[paths]",
        r#"["/tmp", "/var/tmp", "/run"]"#,
        "the paths in both",
        "small tmpfs mounts: nosuid, nodev, noexec; what the image has there is copied, and belongs to the container's uid",
    ),
    key(
        Table::Confine,
        "writable",
        "[paths]",
        "[]",
        "the paths in both",
        "more tmpfs mounts of the same kind, owned by the container's uid",
    ),
    key(
        Table::Confine,
        "tmpfs_bytes_max",
        "bytes, from 4096",
        "67_108_864",
        "the smaller",
        "size limit of each of these mounts",
    ),
    key(
        Table::Confine,
        "tmpfs_inodes_max",
        "a number, from 1",
        "16_384",
        "the smaller",
        "inode limit of each of these mounts",
    ),
    key(
        Table::Confine,
        "memfd",
        r#""denied" | "allowed""#,
        r#""denied""#,
        "denied",
        "memfd_create(2): memory that can be executed goes round noexec and Landlock",
    ),
    key(
        Table::Confine,
        "seccomp",
        r#""baseline" | "generated-when-ready" | "generated" | "sha256:…""#,
        r#""baseline""#,
        "sha256:…, then generated, then generated-when-ready; two different hashes come to none",
        "baseline is the written profile; generated is that of the command, worked out from the image's files, and \
         narrower. generated refuses while it is being worked out (UNAVAILABLE: try again) and what it cannot be worked \
         out for; generated-when-ready takes the baseline then; a hash takes no other than that. A request's own \
         profile narrows each of them. docs/profiles.md",
    ),
    key(
        Table::Confine,
        "landlock",
        "{ floor_abi, files, tcp_bind, tcp_connect, scope }",
        "{}",
        "key by key",
        "Landlock beyond the mounts",
    ),
    key(
        Table::Confine,
        "exec",
        r#"["COMMAND", ["WORD", …], { command, stdin, tty }, …]"#,
        "[]",
        "the commands in both, with what both give them",
        "what may be exec'd in a running container: probes, hooks and kubectl exec are the same call. A command alone \
         gets neither standard input nor a terminal (probes and hooks have none)",
    ),
    key(
        Table::Confine,
        "host_paths",
        "[{ path, access }]",
        "[]",
        "the directories in both",
        "host directories, and what is below them, that a request may mount",
    ),
    key(
        Table::Confine,
        "hooks",
        "[paths]",
        "[]",
        "the paths in both",
        "root-owned programs of the host that a request may name as OCI hooks",
    ),
    key(
        Table::Confine,
        "pids_max",
        "a number, from 1",
        "4096",
        "the smaller",
        "most processes and threads of a container at once",
    ),
    key(
        Table::Confine,
        "pod_security",
        r#""tightened" | "restricted""#,
        r#""tightened""#,
        "restricted",
        "what becomes of a pod's container that Pod Security \"restricted\" would not have, but can be made to meet it \
         (capabilities not dropped, no seccomp profile, allowPrivilegeEscalation, procMount: Unmasked and the like): \
         tightened runs it as if it had asked for no more; restricted refuses it with the control's name, static pods \
         included. What cannot be tightened is refused by both",
    ),
    key(
        Table::Confine,
        "executable",
        "[paths]",
        "[]",
        "the paths in both",
        "places in the container (of tmpfs, writable or a volume) whose mounts are not noexec: for libraries that \
         programs unpack to /tmp, and for hooks and plug-ins in volumes. Whoever can write there can run what they wrote",
    ),
    key(
        Table::Confine,
        "identity",
        r#""filled-in" | "as-is""#,
        r#""filled-in""#,
        "as-is",
        "filled-in gives a uid that the image does not know a line in /etc/passwd and /etc/group, with /tmp for a HOME",
    ),
    key(
        Table::Confine,
        "init",
        "true | false",
        "false",
        "true",
        "true makes a small init the container's first process: it runs the program, hands signals on to it (a program \
         without a handler ignores SIGTERM as process 1) and waits for orphans. It is confined as the program is, which is \
         allowed its dozen calls",
    ),
    key(
        Table::Confine,
        "volumes",
        r#""tmpfs" | "read-only""#,
        r#""tmpfs""#,
        "read-only",
        "what becomes of VOLUMEs that the image declares and the request mounts nothing on: tmpfs makes each one of the \
         kind of writable, with what the image has there; read-only leaves them as they are. In Kubernetes containerd \
         mounts them itself",
    ),
    not_yet(Table::Confine, "capabilities", "anything but []: a container has none"),
    not_yet(Table::Confine, "isolation", r#"anything but "shared-kernel": a microVM"#),
    key(
        Table::Landlock,
        "floor_abi",
        "1 to 7",
        "1",
        "the higher",
        "oldest Landlock ABI that a launch may rely on; an older kernel runs nothing",
    ),
    key(
        Table::Landlock,
        "files",
        r#""baseline" | "generated-when-ready" | "generated" | "sha256:…""#,
        r#""baseline""#,
        "sha256:…, then generated, then generated-when-ready; two different hashes come to none",
        "which files of the image may be executed and read: baseline is all of them; generated is the programs and libraries \
         that the command and exec need, and data, so that a shell or curl that only lies in the image can be neither. The \
         words are those of seccomp. docs/profiles.md",
    ),
    key(
        Table::Landlock,
        "tcp_bind",
        r#""any" | "exposed" | "none" | [ports]"#,
        r#""any""#,
        "fewer ports; exposed and a list come to what is in both",
        "TCP ports that may be bound; exposed is those that the image EXPOSEs, 0 in a list is any free port. Anything but any \
         raises floor_abi to 4, the first that has it",
    ),
    key(
        Table::Landlock,
        "tcp_connect",
        r#""any" | "none" | [ports]"#,
        r#""any""#,
        "fewer ports",
        "TCP ports, of whatever host, that may be connected to; anything but any raises floor_abi to 4, the first that has it",
    ),
    key(
        Table::Landlock,
        "scope",
        r#"["signals", "abstract-sockets"]"#,
        "[]",
        "what is in either",
        "what reaches no process but the children of the one that is started, raises floor_abi to 6. An exec is no child of the \
         container's first process: it cannot signal that one then, as a preStop hook wants to",
    ),
    key(Table::Exec, "command", r#""COMMAND" | ["WORD", …]"#, "", "", "required: as in the list itself"),
    key(
        Table::Exec,
        "stdin",
        "true | false",
        "false",
        "false",
        "whether it may have standard input (kubectl exec -i; ctr task exec always asks for it)",
    ),
    key(
        Table::Exec,
        "tty",
        "true | false",
        "false",
        "false",
        "whether it may have a terminal (kubectl exec -t)",
    ),
    key(
        Table::HostPath,
        "path",
        "absolute path",
        "",
        "",
        "required; not / itself, no .., no symlink followed",
    ),
    key(
        Table::HostPath,
        "access",
        r#""read-only" | "read-write""#,
        r#""read-only""#,
        "read-only",
        "how it may be mounted",
    ),
];

/// The keys of one table, in the order of the reference.
pub(crate) fn keys_of(table: Table) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.table == table)
}

/// The key of that name, if there is one.
pub(crate) fn find(table: Table, name: &str) -> Option<&'static Key> {
    keys_of(table).find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_once_in_its_table() {
        for (index, key) in KEYS.iter().enumerate() {
            let twice = KEYS[..index].iter().any(|other| other.table == key.table && other.name == key.name);
            assert!(!twice, "{:?} {}", key.table, key.name);
        }
    }
}
