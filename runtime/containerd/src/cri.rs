//! The records that containerd's CRI plugin keeps in the extensions of its containers.
//!
//! containerd wrote the envelope; the pod's author wrote some of the text in it. Only what is named here is read.

use std::{collections::HashMap, path::PathBuf};

use bulkhead_binding::{CriContainer, CriRecord, VolumeClaim};
use bulkhead_model::{Digest, Namespace};
use serde::Deserialize;

use crate::Failure;

/// The containerd namespace that the CRI plugin works in.
///
/// Source: `K8sContainerdNamespace`, containerd internal/cri/constants/constants.go.
const NAMESPACE: &str = "k8s.io";
/// Source: containerd internal/cri/labels/labels.go.
const CONTAINER: &str = "io.cri-containerd.container.metadata";
const SANDBOX: &str = "io.cri-containerd.sandbox.metadata";

/// Source: `versionedMetadata`, containerd internal/cri/store/container/metadata.go. Written by Go's JSON encoder from
/// Kubernetes' CRI types, so that unknown fields are many and not an error.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioned {
    version: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    image_ref: String,
    config: Option<Config>,
    #[serde(default)]
    log_path: PathBuf,
}

#[derive(Deserialize)]
struct Config {
    image: Option<Image>,
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
struct Image {
    #[serde(default)]
    image: String,
    #[serde(default)]
    user_specified_image: String,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(default)]
    container_path: PathBuf,
    #[serde(default)]
    host_path: PathBuf,
    image: Option<Image>,
}

/// Reads the record of container `id`, if the CRI plugin made it.
pub(crate) fn record<'a, T>(
    namespace: &Namespace,
    id: &str,
    extensions: &'a HashMap<String, T>,
    value: impl Fn(&'a T) -> &'a [u8],
) -> Result<CriRecord, Failure> {
    if namespace.as_str() != NAMESPACE {
        return Ok(CriRecord::None);
    }
    match (extensions.get(CONTAINER), extensions.contains_key(SANDBOX)) {
        (None, false) => Ok(CriRecord::None),
        (None, true) => Ok(CriRecord::Sandbox),
        (Some(record), false) => container(value(record))
            .map(CriRecord::Container)
            .map_err(|field| Failure::Answer { call: "containers.Get", subject: id.to_owned(), field }),
        (Some(_), true) => {
            Err(Failure::Answer { call: "containers.Get", subject: id.to_owned(), field: "CRI record" })
        }
    }
}

/// Where the CRI plugin writes the output of container `id`, if it made it.
pub(crate) fn log_path<'a, T>(
    namespace: &Namespace,
    id: &str,
    extensions: &'a HashMap<String, T>,
    value: impl Fn(&'a T) -> &'a [u8],
) -> Result<Option<PathBuf>, Failure> {
    let Some(record) = extensions.get(CONTAINER).filter(|_| namespace.as_str() == NAMESPACE) else {
        return Ok(None);
    };
    let metadata = metadata(value(record));
    let path = metadata.map(|metadata| metadata.log_path).map_err(|field| Failure::Answer {
        call: "containers.Get",
        subject: id.to_owned(),
        field,
    })?;
    Ok(Some(path).filter(|path| path.is_absolute()))
}

fn metadata(json: &[u8]) -> Result<Metadata, &'static str> {
    let Versioned { version, metadata } =
        serde_json::from_slice(json).map_err(|_| "CRI container metadata")?;
    if version != "v1" {
        return Err("version of its CRI container metadata (v1 is known)");
    }
    Ok(metadata)
}

fn container(json: &[u8]) -> Result<CriContainer, &'static str> {
    let metadata = metadata(json)?;
    let config =
        metadata.image_ref.parse::<Digest>().map_err(|_| "ImageRef in its CRI container metadata")?;
    let (image, mounts) =
        metadata.config.map_or((None, Vec::new()), |Config { image, mounts }| (image, mounts));
    let image_volumes = mounts
        .into_iter()
        .filter_map(|Mount { container_path, host_path, image }| {
            // Go writes an empty message for some versions' absent one: no image, no path, no volume.
            let Image { image, user_specified_image } = image?;
            let name = if user_specified_image.is_empty() { image } else { user_specified_image };
            let host_path = Some(host_path).filter(|path| !path.as_os_str().is_empty());
            (!name.is_empty()).then_some(VolumeClaim { name, destination: container_path, host_path })
        })
        .collect();
    let requested_name = image.and_then(|image| normalise(&image.user_specified_image));
    Ok(CriContainer { config, requested_name, image_volumes })
}

/// An image reference in full, as containerd keeps names: `nginx` is `docker.io/library/nginx:latest`.
///
/// Source: `ParseDockerRef`, github.com/distribution/reference: a digest drops the tag.
pub(crate) fn normalise(text: &str) -> Option<String> {
    let is_id = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if text.is_empty() || is_id || text.parse::<Digest>().is_ok() {
        return None;
    }
    let (first, rest) = text.split_once('/').unwrap_or(("", text));
    let is_domain =
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase());
    let (domain, path) = match (is_domain, first) {
        (true, "index.docker.io") => ("docker.io", rest.to_owned()),
        (true, domain) => (domain, rest.to_owned()),
        (false, _) => ("docker.io", text.to_owned()),
    };
    let path = if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
    let (name, digest) = match path.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (path.as_str(), None),
    };
    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    Some(match digest {
        Some(digest) => format!("{domain}/{repository}@{digest}"),
        None => format!("{domain}/{repository}:{tag}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(namespace: &str, extensions: &[(&str, &str)]) -> Result<CriRecord, Failure> {
        let extensions: HashMap<String, Vec<u8>> =
            extensions.iter().map(|(key, json)| ((*key).to_owned(), json.as_bytes().to_vec())).collect();
        record(&namespace.parse().unwrap(), "c", &extensions, Vec::as_slice)
    }

    fn metadata(config: &str) -> String {
        format!(
            r#"{{"Version":"v1","Metadata":{{"ID":"c","SandboxID":"s","ImageRef":"{}","Config":{config},"LogPath":"/x"}}}}"#,
            Digest::of(b"config")
        )
    }

    #[test]
    fn container_record_names_config_volumes_and_what_the_pod_asked_for() {
        let json = metadata(
            r#"{"image":{"image":"sha256:00","user_specified_image":"nginx"},
                "mounts":[{"container_path":"/a","host_path":"/b"},
                          {"container_path":"/m","host_path":"/h",
                           "image":{"image":"sha256:11","user_specified_image":"models:1"}},
                          {"container_path":"/n","image":{}},
                          {"container_path":"/o","image":{"image":"models:2"}}]}"#,
        );
        let CriRecord::Container(record) = read("k8s.io", &[(CONTAINER, &json)]).unwrap() else { panic!() };
        assert_eq!(record.config, Digest::of(b"config"));
        assert_eq!(record.requested_name.as_deref(), Some("docker.io/library/nginx:latest"));
        let volume = |name: &str, at: &str, host: Option<&str>| VolumeClaim {
            name: name.to_owned(),
            destination: at.into(),
            host_path: host.map(Into::into),
        };
        let volumes = [volume("models:1", "/m", Some("/h")), volume("models:2", "/o", None)];
        assert_eq!(record.image_volumes, volumes);
    }

    #[test]
    fn log_is_where_cri_says_and_only_cri() {
        let json = metadata("{}");
        let extensions = HashMap::from([(CONTAINER.to_owned(), json.into_bytes())]);
        let at =
            |namespace: &str| log_path(&namespace.parse().unwrap(), "c", &extensions, Vec::as_slice).unwrap();
        assert_eq!(at("k8s.io"), Some("/x".into()));
        assert_eq!(at("default"), None);
    }

    #[test]
    fn extensions_count_only_in_the_namespace_of_cri() {
        let json = metadata("{}");
        assert_eq!(read("default", &[(CONTAINER, &json)]).unwrap(), CriRecord::None);
        assert_eq!(read("k8s.io", &[]).unwrap(), CriRecord::None);
        assert_eq!(read("k8s.io", &[(SANDBOX, "{}")]).unwrap(), CriRecord::Sandbox);
        assert!(matches!(read("k8s.io", &[(CONTAINER, &json)]).unwrap(), CriRecord::Container(_)));
    }

    #[test]
    fn record_that_cannot_be_read_is_an_error_and_not_no_record() {
        let good = metadata("{}");
        for json in ["", "{}", &good.replace("\"v1\"", "\"v2\""), &good.replace("sha256:", ""), &good[1..]] {
            assert!(read("k8s.io", &[(CONTAINER, json)]).is_err(), "{json}");
        }
        assert!(read("k8s.io", &[(CONTAINER, &good), (SANDBOX, "{}")]).is_err());
    }

    #[test]
    fn references_are_completed_as_containerd_completes_them() {
        for (text, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("team/app:2", "docker.io/team/app:2"),
            ("localhost/app", "localhost/app:latest"),
            ("registry.example:5000/a/b:1", "registry.example:5000/a/b:1"),
            ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("a.example/b:1@sha256:00", "a.example/b@sha256:00"),
        ] {
            assert_eq!(normalise(text).as_deref(), Some(full), "{text}");
        }
        let id = Digest::of(b"x");
        for text in ["", &id.to_string(), &id.hex()] {
            assert_eq!(normalise(text), None, "{text}");
        }
    }
}
