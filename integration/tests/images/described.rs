//! An image of integration/images: how it is built, what it is, what its users write, and what is expected of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use bulkhead_integration::{Image, Layer, run, workspace};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `image.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    /// The published image that it is like, and which habit of it matters.
    pub(crate) like: String,
    /// What its layer lies upon.
    #[serde(default)]
    pub(crate) base: Base,
    /// A container that ends by itself, with 0.
    #[serde(default)]
    pub(crate) job: bool,
    /// `config` of the OCI image config.
    config: Map<String, Value>,
    /// Run as it says, in a pod that asks for nothing.
    #[serde(default)]
    pub(crate) says: Expected,
    /// What its users write into a restricted pod.
    pub(crate) pod: Pod,
    pub(crate) check: Check,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Base {
    #[default]
    Debian,
    None,
}

/// What it needs beyond its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    /// Lines of `[confine.NAME]`; it does not run without them.
    #[serde(default)]
    pub(crate) lines: Vec<String>,
    /// Why no lines help.
    pub(crate) cannot: Option<String>,
    /// Why it does not run under runc.
    pub(crate) runc: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pod {
    /// runAsUser and runAsGroup.
    pub(crate) user: i64,
    /// Where it has empty volumes.
    #[serde(default)]
    pub(crate) volumes: BTreeSet<String>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    #[serde(default)]
    lines: Vec<String>,
    cannot: Option<String>,
    runc: Option<String>,
}

impl Pod {
    pub(crate) fn expected(&self) -> Expected {
        Expected { lines: self.lines.clone(), cannot: self.cannot.clone(), runc: self.runc.clone() }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    /// Which image asks it.
    #[serde(default)]
    pub(crate) client: Client,
    /// Asks it from another container of its pod, in bash: `http PORT PATH`, `say PORT TEXT`, or a program.
    pub(crate) ask: Option<String>,
    #[serde(default)]
    pub(crate) answer: String,
    /// What it writes to its output when it is ready, where nobody can ask it.
    pub(crate) said: Option<String>,
    /// The signal at which it reads its configuration again.
    pub(crate) reload: Option<String>,
    /// What it says then: one of these, with | between.
    pub(crate) reloaded: Option<String>,
    /// Seconds in which it must be ready: a first start may initialise a database, on a machine that does more.
    #[serde(default = "within")]
    pub(crate) within: u64,
    /// Seconds until it is killed.
    #[serde(default = "grace")]
    pub(crate) grace: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Client {
    #[default]
    Base,
    #[serde(rename = "self")]
    Itself,
}

fn grace() -> i64 {
    20
}

fn within() -> u64 {
    150
}

fn dir() -> PathBuf {
    workspace().join("integration/images")
}

impl Described {
    pub(crate) fn read(name: &str) -> Self {
        let path = dir().join(name).join("image.toml");
        let text = fs::read_to_string(&path).unwrap();
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// All there are, by name.
    pub(crate) fn all() -> BTreeMap<String, Self> {
        let entries = fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap());
        let dirs = entries.filter(|entry| entry.path().join("image.toml").exists());
        dirs.map(|entry| entry.file_name().into_string().unwrap())
            .map(|name| (name.clone(), Self::read(&name)))
            .collect()
    }

    /// Builds it where it is not there yet, under the name `as_name`.
    pub(crate) fn image(&self, name: &str, as_name: &str) -> Image {
        run(Command::new(dir().join("build.sh")).arg(name), Duration::from_secs(600))
            .unwrap()
            .success()
            .unwrap();
        let layers = match self.base {
            Base::Debian => vec![layer("base"), layer(name)],
            Base::None => vec![layer(name)],
        };
        let mut config = self.config.clone();
        let env = config.entry("Env").or_insert_with(|| json!([])).as_array_mut().unwrap();
        if !env.iter().any(|entry| entry.as_str().unwrap().starts_with("PATH=")) {
            env.insert(0, PATH.into());
        }
        Image::of_config(as_name, layers, config)
    }

    /// The image that asks: what all others lie upon.
    pub(crate) fn client(name: &str) -> Image {
        Image::of_config(name, vec![layer("base")], Map::from_iter([("Env".to_owned(), json!([PATH]))]))
    }
}

fn layer(name: &str) -> Layer {
    Layer::of_tar(fs::read(workspace().join(format!("target/deps/images/{name}.tar"))).unwrap())
}
