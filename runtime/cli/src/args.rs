//! What may be typed.

use std::path::PathBuf;

use bulkhead_model::{ContainerId, Digest, Namespace};
use clap::{Parser, Subcommand, ValueHint};

/// Where containerd listens when no one says otherwise.
///
/// Source: `DefaultAddress`, containerd defaults/defaults_unix.go.
pub(crate) const ADDRESS: &str = "/run/containerd/containerd.sock";

/// Where containerd's configuration is when no one says otherwise.
///
/// Source: `DefaultConfigDir`, containerd defaults/defaults_unix.go.
pub(crate) const CONFIG: &str = "/etc/containerd/config.toml";

/// Asks what Bulkhead asks before a container runs, and prepares a node for it.
///
/// Exit status: 0 yes, 1 refused, 2 usage, 3 failed.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Look for /etc/bulkhead, /var/lib/bulkhead and /run/bulkhead below DIR [env: BULKHEAD_ROOT]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) root: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How containerd is configured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DaemonConfig {
    /// containerd's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG, value_hint = ValueHint::FilePath)]
    pub(crate) containerd_config: PathBuf,
    /// containerd's executable: it merges and completes its configuration itself
    #[arg(long, value_name = "PROGRAM", default_value = "containerd", value_hint = ValueHint::CommandName)]
    pub(crate) containerd: PathBuf,
}

impl DaemonConfig {
    /// Where it is when nobody says otherwise.
    pub(crate) fn of_the_node() -> Self {
        Self { containerd_config: CONFIG.into(), containerd: "containerd".into() }
    }
}

/// Which containerd.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Daemon {
    #[command(flatten)]
    pub(crate) config: DaemonConfig,
    /// containerd's socket [default: what its configuration says]
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub(crate) address: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a first policy: nothing runs by it but the node's own pause image
    Init(Daemon),
    /// Say what this kernel and containerd have, what Bulkhead needs, and what to do about the rest
    Doctor(Daemon),
    /// Judge or explain policy files
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Verify an image, show what proves each link, and say whether policy would let it run
    Verify {
        /// The image's name or digest in containerd, as `ctr images ls` shows them, or an OCI layout: oci:DIR[:TAG]
        image: String,
        /// The name that scopes are matched with [default: what containerd or the layout calls it]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// containerd's namespace; that of Kubernetes is k8s.io
        #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
        namespace: Namespace,
        /// Whose file narrows the node's [default: the namespace]
        #[arg(long, value_name = "NAMESPACE")]
        tenant: Option<Namespace>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Keep signatures of images on this node, and look at them
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Judge images as soon as containerd has them, so that their first launch need not wait; fetch their signatures
    /// where policy lets it
    Watch(WatchOptions),
    /// Say which system calls a command of an image can make, from its files alone, and why
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Say which calls a container was denied, over which paths it stumbled, and what would allow them
    Explain {
        /// Id of the container
        container: ContainerId,
        /// containerd's namespace; that of Kubernetes is k8s.io
        #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
        namespace: Namespace,
        /// What it wrote, `-` for standard input [default: the log of a pod's container]
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Print the completion script of a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for man(1)
    Man,
    #[command(hide = true)]
    Judge,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Judge this node's policy and every tenant's, owners and modes included
    Check {
        /// Judge the text of this file in place of the node's; owner and mode are not looked at
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// And of this one as a tenant's
        #[arg(long, value_name = "FILE", requires = "file", value_hint = ValueHint::FilePath)]
        tenant: Option<PathBuf>,
    },
    /// Ask the policy about each image of a table, and compare with what the table expects
    Test {
        /// TOML: [[image]] with name, digest, manifest, tenant, signed_by, expect, rule
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Ask this policy, with tenants' files and keys beside it, in place of the node's; owners are not looked at
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        policy: Option<PathBuf>,
    },
    /// Print the lines that the pods of a manifest need: a Deployment, StatefulSet, DaemonSet, Job, CronJob or Pod
    FromManifest {
        /// YAML, one document or several
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print the reference of the policy language
    Explain,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Keep the signatures in OCI layouts, tarballs of them (`cosign save` makes both), or sigstore bundle files
    Import {
        /// Directory or file
        #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
    },
    /// Fetch the signatures of an image from its registry and keep them
    Fetch {
        /// The image's name: registry/repository, with a tag, a digest or both
        image: String,
        #[command(flatten)]
        registry: RegistryOptions,
        #[command(flatten)]
        config: DaemonConfig,
    },
    /// List what is kept: files, by the digest of the image that they say they are about
    List {
        /// Of this image alone: the digest of its index or manifest
        digest: Option<Digest>,
    },
    /// Remove what is kept of an image
    Remove {
        /// Digest of the image's index or manifest
        digest: Digest,
        /// This file alone
        #[arg(long, value_name = "DIGEST")]
        file: Option<Digest>,
    },
    /// Remove what is kept of images that containerd has no more: signatures, facts of judges, receipts of layers
    Sweep {
        /// Leave signatures that were kept within so many days: those of images that are not pulled yet, say
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        days: u64,
        #[command(flatten)]
        daemon: Daemon,
    },
}

/// What is watched, and how registries are reached.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WatchOptions {
    /// Look at every image once and end: 0 all are admitted, 1 one is refused, 3 one could not be judged
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    #[command(flatten)]
    pub(crate) registry: RegistryOptions,
}

/// How registries are reached.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RegistryOptions {
    /// containerd's directory with HOST/hosts.toml: mirrors, certificates [default: its `config_path`, then
    /// /etc/containerd/certs.d]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) hosts_dir: Option<PathBuf>,
    /// Docker's configuration with passwords [default: $DOCKER_CONFIG/config.json, then ~/.docker/config.json]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) docker_config: Option<PathBuf>,
    /// Speak HTTP where no hosts.toml says how
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// How many seconds it may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Work out the profile of a command; nothing of the image is executed
    Generate(Box<GenerateOptions>),
    /// Print a profile
    Show {
        /// A profile that `generate` wrote
        #[arg(value_name = "PROFILE", value_hint = ValueHint::FilePath)]
        profile: PathBuf,
    },
    /// Say which functions make a system call, or what the rules give on a file, and why
    Why {
        /// Name of the system call, or path of a file in the image
        #[arg(value_name = "SYSCALL|PATH")]
        what: String,
        /// A profile that `generate` wrote
        #[arg(value_name = "PROFILE", value_hint = ValueHint::FilePath)]
        profile: PathBuf,
    },
    /// Say what a second profile allows more (+) and less (-) than a first
    Diff {
        /// The first
        #[arg(value_name = "BEFORE", value_hint = ValueHint::FilePath)]
        before: PathBuf,
        /// The second
        #[arg(value_name = "AFTER", value_hint = ValueHint::FilePath)]
        after: PathBuf,
    },
    /// Print a profile in the format of another runtime
    Export {
        /// A profile that `generate` wrote
        #[arg(value_name = "PROFILE", value_hint = ValueHint::FilePath)]
        profile: PathBuf,
        /// Which format
        #[arg(long, value_enum, default_value = "oci")]
        format: ExportFormat,
        /// Name of the Security Profiles Operator's resource
        #[arg(long, default_value = "generated", value_parser = resource_name)]
        name: String,
    },
    /// Take a profile of another runtime: seccomp JSON of OCI's or Docker's form, without what the baseline denies
    Import {
        /// The JSON
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Write the profile to FILE
        #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
}

/// A name as Kubernetes takes them: a DNS subdomain.
///
/// Source: RFC 1123; k8s.io/apimachinery pkg/util/validation, `IsDNS1123Subdomain`.
fn resource_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        label.starts_with(plain) && label.ends_with(plain) && label.chars().all(|c| plain(c) || c == '-')
    };
    let good = text.len() <= 253 && text.split('.').all(label);
    if good {
        Ok(text.to_owned())
    } else {
        Err("lower case letters, digits, '-' and '.' name a resource".to_owned())
    }
}

/// What is run of which files, and where the profile goes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GenerateOptions {
    /// An image of containerd's, by name or digest; or oci:DIR[:TAG], an OCI image layout; or the root directory of an
    /// unpacked one, or its top layer
    #[arg(value_name = "IMAGE|oci:DIR[:TAG]|DIR", value_hint = ValueHint::DirPath)]
    pub(crate) source: String,
    /// containerd's namespace; that of Kubernetes is k8s.io
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: Namespace,
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// A layer below, overlayfs whiteouts respected; the nearest first
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) lower: Vec<PathBuf>,
    /// A variable of the command's environment: PATH and what loaders and interpreters read count
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The command's working directory [default: that of the image, else /]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// A command that may be exec'd besides, such as a probe
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Vec<String>,
    /// Digest of the image, for the profile's key
    #[arg(long, value_name = "DIGEST")]
    pub(crate) image: Option<String>,
    /// Analyse every file anew
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Write the profile to FILE
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// The command: entrypoint and arguments [default: those of the image]
    #[arg(last = true, value_name = "ARGV")]
    pub(crate) argv: Vec<String>,
}

/// Formats of other runtimes.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// `linux.seccomp` of config.json
    Oci,
    /// `docker run --security-opt seccomp=FILE`
    Docker,
    /// A SeccompProfile of the Security Profiles Operator
    Spo,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_two_arguments_of_a_command_have_one_name() {
        Args::command().debug_assert();
        let args =
            Args::parse_from(["bulkhead", "--root", "/r", "profile", "generate", "name:1", "--", "/a"]);
        let Command::Profile(ProfileCommand::Generate(options)) = args.command else {
            panic!("another command")
        };
        assert_eq!((args.root, options.source.as_str()), (Some(PathBuf::from("/r")), "name:1"));
    }
}
