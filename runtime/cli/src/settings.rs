//! What containerd's configuration says, in any of its versions.
//!
//! containerd itself merges imports and defaults: `containerd config dump`. Where that does not run, the file alone is
//! read, and what it leaves out is unknown.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use toml::{Table, Value};

use crate::{
    answer::Trouble,
    args::{ADDRESS, Daemon, DaemonConfig},
};

/// Runtime type of our handlers.
const RUNTIME_TYPE: &str = "io.containerd.bulkhead.v2";

/// File name of our shim, for handlers of another type that name it by its path.
const SHIM: &str = "containerd-shim-bulkhead-v2";

/// Settings that Bulkhead looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where they come from: a command, or a file alone.
    pub(crate) from: String,
    /// Image of a pod's own container.
    pub(crate) sandbox_image: Option<String>,
    /// The CRI plugin's snapshotter.
    pub(crate) snapshotter: Option<String>,
    /// Whether layers are thrown away after they were unpacked.
    pub(crate) discard_unpacked_layers: Option<bool>,
    /// Names of the handlers that are Bulkhead.
    pub(crate) handlers: Vec<String>,
    /// Socket of the API.
    pub(crate) address: Option<PathBuf>,
    /// `config_path` of the CRI plugin's registries: directories with `HOST/hosts.toml`.
    pub(crate) hosts_dirs: Vec<PathBuf>,
    /// Whether mirrors or registries stand in the configuration itself, as containerd 1.4 had them.
    pub(crate) old_registries: bool,
}

impl Settings {
    /// Asks containerd, else the file.
    pub(crate) fn read(daemon: &Daemon) -> Result<Self, Trouble> {
        Self::read_of(&daemon.config)
    }

    /// As [`Self::read`], where no socket is asked for.
    pub(crate) fn read_of(config: &DaemonConfig) -> Result<Self, Trouble> {
        let DaemonConfig { containerd_config: path, containerd } = config;
        if let Some(text) = dump(containerd, path) {
            let from = format!("{} --config {} config dump", containerd.display(), path.display());
            return Self::of_text(&text, &from, path);
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Self::of_text(&text, &format!("{} alone, without defaults", path.display()), path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { from: format!("nowhere: no {}", path.display()), ..Self::default() })
            }
            Err(source) => Err(Trouble::File { call: "read(2)", path: path.clone(), source }),
        }
    }

    /// Socket to speak to: the option, else the configuration, else containerd's default.
    pub(crate) fn socket(&self, daemon: &Daemon) -> PathBuf {
        let named = daemon.address.clone().or_else(|| self.address.clone());
        named.unwrap_or_else(|| PathBuf::from(ADDRESS))
    }

    fn of_text(text: &str, from: &str, path: &Path) -> Result<Self, Trouble> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| Trouble::Configuration {
            path: path.to_owned(),
            why: error.message().to_owned(),
        })?;
        let text = |keys: &[&str]| at(&table, keys).and_then(Value::as_str).filter(|text| !text.is_empty());
        // containerd 1.x, then 2.x. Source: containerd docs/cri/config.md.
        let old = ["plugins", "io.containerd.grpc.v1.cri"];
        let images = ["plugins", "io.containerd.cri.v1.images"];
        let runtime = ["plugins", "io.containerd.cri.v1.runtime"];
        let join = |prefix: &[&'static str], rest: &[&'static str]| [prefix, rest].concat();
        let either = |one: Vec<&'static str>, two: Vec<&'static str>| -> Option<String> {
            text(&two).or_else(|| text(&one)).map(str::to_owned)
        };
        let discard = |keys: Vec<&'static str>| at(&table, &keys).and_then(Value::as_bool);
        let handlers = [join(&old, &["containerd", "runtimes"]), join(&runtime, &["containerd", "runtimes"])]
            .iter()
            .filter_map(|keys| at(&table, keys).and_then(Value::as_table))
            .flatten()
            .filter(|(_, handler)| is_ours(handler))
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Self {
            from: from.to_owned(),
            sandbox_image: either(
                join(&old, &["sandbox_image"]),
                join(&images, &["pinned_images", "sandbox"]),
            ),
            snapshotter: either(join(&old, &["containerd", "snapshotter"]), join(&images, &["snapshotter"])),
            discard_unpacked_layers: discard(join(&images, &["discard_unpacked_layers"]))
                .or_else(|| discard(join(&old, &["containerd", "discard_unpacked_layers"]))),
            handlers,
            // From version 4 on the socket is a plugin's.
            address: either(
                vec!["grpc", "address"],
                vec!["plugins", "io.containerd.server.v1.grpc", "address"],
            )
            .map(PathBuf::from),
            // Source: containerd docs/cri/registry.md; several are separated as those of $PATH.
            hosts_dirs: either(
                join(&old, &["registry", "config_path"]),
                join(&images, &["registry", "config_path"]),
            )
            .map(|paths| paths.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect())
            .unwrap_or_default(),
            old_registries: [&old, &images].into_iter().any(|plugin| {
                ["mirrors", "configs"].into_iter().any(|name| {
                    at(&table, &join(plugin, &["registry", name]))
                        .and_then(Value::as_table)
                        .is_some_and(|registries| !registries.is_empty())
                })
            }),
        })
    }
}

/// By its type, or by the path of its shim: containerd 2.1 asks handlers of runc's type alone what they can do.
fn is_ours(handler: &Value) -> bool {
    let text = |key| handler.get(key).and_then(Value::as_str);
    let named = text("runtime_path").is_some_and(|path| Path::new(path).ends_with(SHIM));
    named || text("runtime_type") == Some(RUNTIME_TYPE)
}

fn at<'t>(table: &'t Table, keys: &[&str]) -> Option<&'t Value> {
    let (last, path) = keys.split_last()?;
    let mut table = table;
    for key in path {
        table = table.get(*key)?.as_table()?;
    }
    table.get(*last)
}

/// What `containerd config dump` prints, if it runs.
fn dump(containerd: &Path, config: &Path) -> Option<String> {
    let output =
        Command::new(containerd).arg("--config").arg(config).args(["config", "dump"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::of_text(text, "test", Path::new("config.toml")).unwrap()
    }

    #[test]
    fn settings_of_containerd_1_are_found() {
        let found = settings(
            r#"
            version = 2
            [grpc]
            address = "/run/a.sock"
            [plugins."io.containerd.grpc.v1.cri"]
            sandbox_image = "registry.example/pause:1"
            [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "overlayfs"
            discard_unpacked_layers = true
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
            [plugins."io.containerd.grpc.v1.cri".registry]
            config_path = "/a/certs.d:/b/certs.d"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.other]
            runtime_type = "io.containerd.runc.v2"
            runtime_path = "/usr/bin/containerd-shim-other-v2"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.strict]
            runtime_type = "io.containerd.bulkhead.v2"
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.users]
            runtime_type = "io.containerd.runc.v2"
            runtime_path = "/usr/local/bin/containerd-shim-bulkhead-v2""#,
        );
        assert_eq!(found.sandbox_image.as_deref(), Some("registry.example/pause:1"));
        assert_eq!(found.snapshotter.as_deref(), Some("overlayfs"));
        assert_eq!(found.discard_unpacked_layers, Some(true));
        assert_eq!(found.handlers, ["strict", "users"]);
        assert_eq!(found.address, Some(PathBuf::from("/run/a.sock")));
        assert_eq!(found.hosts_dirs, ["/a/certs.d", "/b/certs.d"].map(PathBuf::from));
        assert!(!found.old_registries);
    }

    #[test]
    fn registries_in_the_configuration_itself_are_noticed_and_empty_tables_are_none() {
        let cri = "[plugins.\"io.containerd.grpc.v1.cri\".registry";
        let mirrors =
            format!("version = 2\n{cri}.mirrors.\"docker.io\"]\nendpoint = [\"https://mirror.example\"]\n");
        assert!(settings(&mirrors).old_registries);
        assert!(!settings(&format!("version = 2\n{cri}.mirrors]\n{cri}.configs]\n")).old_registries);
    }

    #[test]
    fn settings_of_containerd_2_are_found() {
        let found = settings(
            r#"
            version = 3
            [plugins.'io.containerd.cri.v1.images']
            snapshotter = 'erofs'
            discard_unpacked_layers = false
            [plugins.'io.containerd.cri.v1.images'.registry]
            config_path = '/c/certs.d'
            [plugins.'io.containerd.cri.v1.images'.pinned_images]
            sandbox = 'registry.example/pause:2'
            [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.bulkhead]
            runtime_type = 'io.containerd.bulkhead.v2'
            [plugins.'io.containerd.server.v1.grpc']
            address = '/run/b.sock'"#,
        );
        assert_eq!(found.sandbox_image.as_deref(), Some("registry.example/pause:2"));
        assert_eq!(found.snapshotter.as_deref(), Some("erofs"));
        assert_eq!(found.discard_unpacked_layers, Some(false));
        assert_eq!(found.handlers, ["bulkhead"]);
        assert_eq!(found.address, Some(PathBuf::from("/run/b.sock")));
        assert_eq!(found.hosts_dirs, [PathBuf::from("/c/certs.d")]);
    }

    #[test]
    fn settings_that_are_left_out_are_unknown_and_broken_ones_an_error() {
        assert_eq!(settings("version = 3"), Settings { from: "test".to_owned(), ..Settings::default() });
        assert!(Settings::of_text("version = ", "test", Path::new("config.toml")).is_err());
    }
}
