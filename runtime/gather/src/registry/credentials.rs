//! Passwords, from docker's `config.json`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Read as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{GatherError, blobs::open};

/// Largest `config.json`, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// How many credential helpers are named.
const HELPERS_SAID_MAX: usize = 8;

/// Passwords by registry. Never printed.
#[derive(Default)]
pub(super) struct Credentials {
    auths: BTreeMap<String, Auth>,
    notes: Vec<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.auths.keys()).finish()
    }
}

/// Source: docker/cli, cli/config/configfile/file.go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    pub(super) fn read(path: Option<&Path>) -> Result<Self, GatherError> {
        let Some(path) = path.filter(|path| path.exists()) else { return Ok(Self::default()) };
        let mut text = Vec::new();
        open(path)?
            .take(CONFIG_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(GatherError::file("read(2)", path))?;
        // serde_json's message quotes no value.
        let config: Config = serde_json::from_slice(&text).map_err(|error| GatherError::Configuration {
            path: path.to_owned(),
            why: format!("line {}, column {}: no config.json of docker's", error.line(), error.column()),
        })?;
        let mut notes = Vec::new();
        let helpers = config.creds_store.iter().chain(config.cred_helpers.values());
        let names: BTreeSet<String> = helpers
            .map(|name| name.chars().filter(|c| !c.is_control()).take(40).collect::<String>())
            .map(|name| format!("docker-credential-{name}"))
            .take(HELPERS_SAID_MAX)
            .collect();
        if !names.is_empty() {
            notes.push(format!(
                "{}: {} would be run as root, so it is not; passwords are taken from `auths` alone: write one there \
                 (docker login with a --config directory of its own that names no helper), or import the signatures",
                path.display(),
                names.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        let plain = |name: String| {
            let name = name.trim_start_matches("https://").trim_start_matches("http://");
            name.split('/').next().unwrap_or_default().to_owned()
        };
        let auths = config.auths.into_iter().map(|(name, auth)| (plain(name), auth)).collect();
        Ok(Self { auths, notes })
    }

    /// What was not used.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// `user:password` for a registry, in base64: what follows `Basic `.
    pub(super) fn of(&self, host: &str) -> Option<String> {
        let names: &[&str] =
            if host == "docker.io" { &["index.docker.io", "docker.io", "registry-1.docker.io"] } else { &[] };
        let auth = [host].iter().chain(names).find_map(|name| self.auths.get(*name))?;
        match auth {
            Auth { auth: Some(auth), .. } if !auth.is_empty() => {
                STANDARD.decode(auth).is_ok_and(|text| text.contains(&b':')).then(|| auth.clone())
            }
            Auth { username: Some(user), password: Some(password), .. } => {
                Some(STANDARD.encode(format!("{user}:{password}")))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(text: &str) -> Result<Credentials, GatherError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Credentials::read(Some(file.path()))
    }

    #[test]
    fn password_is_found_by_the_registrys_name_in_any_spelling() {
        let found = of(r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},
                "r.example:5000":{"username":"u","password":"p"},"broken.example":{"auth":"%"}}}"#)
        .unwrap();
        assert_eq!(found.of("docker.io").as_deref(), Some("dTpw"));
        assert_eq!(found.of("r.example:5000").as_deref(), Some("dTpw"));
        assert_eq!(found.of("r.example"), None);
        assert_eq!(found.of("broken.example"), None);
    }

    #[test]
    fn broken_file_is_an_error_without_its_secrets_and_helpers_are_not_run() {
        let Err(error) = of(r#"{"auths":{"a":{"auth":"c2VjcmV0"}}"#) else { panic!() };
        assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
        let helped = of(r#"{"credsStore":"desktop","credHelpers":{"r.example":"ecr-login"}}"#).unwrap();
        let [note] = helped.notes() else { panic!("{:?}", helped.notes()) };
        assert!(note.contains("docker-credential-desktop, docker-credential-ecr-login"), "{note}");
        assert!(Credentials::read(Some(Path::new("/no/such/config.json"))).unwrap().of("a").is_none());
    }

    #[test]
    fn password_is_not_in_what_is_printed_for_debugging() {
        let found = of(r#"{"auths":{"a":{"username":"u","password":"hunter2"}}}"#).unwrap();
        assert_eq!(format!("{found:?}"), r#"{"a"}"#);
    }
}
