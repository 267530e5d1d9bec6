//! Where an image may be pulled from: containerd's `hosts.toml`.
//!
//! Source: containerd docs/hosts.md.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{Access, endpoint::Endpoint, endpoint::is_file};
use crate::{GatherError, blobs::open};

/// Largest `hosts.toml`, in bytes.
const HOSTS_BYTES_MAX: u64 = 256 * 1024;

/// Most addresses for one registry.
const ENDPOINTS_MAX: usize = 16;

/// The addresses to ask for images of `host`, in containerd's order: mirrors, then the registry itself.
pub(super) fn endpoints(host: &str, access: &Access) -> Result<Vec<Endpoint>, GatherError> {
    for dir in access.hosts_dirs.iter().flat_map(|dir| candidates(dir, host)) {
        let file = dir.join("hosts.toml");
        if is_file(&file) {
            let mut text = String::new();
            open(&file)?
                .take(HOSTS_BYTES_MAX)
                .read_to_string(&mut text)
                .map_err(GatherError::file("read(2)", &file))?;
            return parse(&text, &file, host, access.plain_http);
        }
        // Docker's form: certificates alone.
        let ca = authorities(&dir);
        if !ca.is_empty() {
            return Ok(vec![Endpoint { ca, ..bare(host, access.plain_http) }]);
        }
    }
    Ok(vec![bare(host, access.plain_http)])
}

/// Directories that are about a host, the first that exists counts.
///
/// Source: `hostDirectory`, containerd core/remotes/docker/config/config_unix.go.
fn candidates(dir: &Path, host: &str) -> Vec<PathBuf> {
    let escaped = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => Some(dir.join(format!("{name}_{port}_"))),
        _ => None,
    };
    escaped.into_iter().chain([dir.join(host), dir.join("_default")]).filter(|dir| dir.is_dir()).collect()
}

fn authorities(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "crt") && is_file(path))
        .collect();
    found.sort();
    found.truncate(ENDPOINTS_MAX);
    found
}

/// The registry itself, where nothing is configured.
fn bare(host: &str, plain_http: bool) -> Endpoint {
    let address = if host == "docker.io" { "registry-1.docker.io" } else { host };
    // containerd speaks HTTP with registries of the same host.
    let scheme = if plain_http || is_local(host) { "http" } else { "https" };
    endpoint(format!("{scheme}://{address}/v2"), host)
}

/// Source: `MatchLocalhost`, containerd core/remotes/docker/registry.go.
fn is_local(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|local| host.strip_prefix(local).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}

fn endpoint(base: String, host: &str) -> Endpoint {
    Endpoint {
        base,
        host: host.to_owned(),
        ca: Vec::new(),
        client: None,
        skip_verify: false,
        headers: Vec::new(),
    }
}

fn parse(text: &str, path: &Path, host: &str, plain_http: bool) -> Result<Vec<Endpoint>, GatherError> {
    let wrong = |why: String| GatherError::Configuration { path: path.to_owned(), why };
    let root = DeTable::parse(text).map_err(|error| wrong(error.message().to_owned()))?.into_inner();
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    if let Some(hosts) = root.get("host") {
        let hosts = hosts.get_ref().as_table().ok_or_else(|| wrong("`host` is no table".to_owned()))?;
        // The order of the file is that of asking.
        let mut hosts: Vec<_> = hosts.iter().collect();
        hosts.sort_by_key(|(key, _)| key.span().start);
        for (key, keys) in hosts {
            let keys = keys.get_ref().as_table();
            let keys = keys.ok_or_else(|| wrong(format!("host {:?} is no table", key.get_ref())))?;
            if let Some(one) = read_host(key.get_ref(), keys, dir, plain_http).map_err(wrong)? {
                found.push(one);
            }
        }
    }
    let last = match root.get("server").map(|server| server.get_ref().as_str()) {
        None => Some(bare(host, plain_http)),
        Some(Some(server)) => read_host(server, &root, dir, plain_http).map_err(wrong)?,
        Some(None) => return Err(wrong("`server` is no text".to_owned())),
    };
    let last = last.map(|last| Endpoint { host: host.to_owned(), ..last });
    let last = last.filter(|last| !found.iter().any(|other| other.base == last.base));
    found.extend(last);
    found.truncate(ENDPOINTS_MAX);
    Ok(found)
}

/// One host of the file; `None` where it is not for pulling.
fn read_host(
    url: &str,
    keys: &DeTable<'_>,
    dir: &Path,
    plain_http: bool,
) -> Result<Option<Endpoint>, String> {
    let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
    let list = |value: &DeValue<'_>| -> Option<Vec<String>> {
        match value {
            DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect(),
            other => Some(vec![text(other)?]),
        }
    };
    let flag = |name: &str| match keys.get(name).map(|value| value.get_ref()) {
        None => Ok(false),
        Some(DeValue::Boolean(truth)) => Ok(*truth),
        Some(_) => Err(format!("`{name}` of {url:?} is neither true nor false")),
    };
    if let Some(value) = keys.get("capabilities") {
        let words =
            list(value.get_ref()).ok_or_else(|| format!("`capabilities` of {url:?} is no list of texts"))?;
        if !words.iter().any(|word| word == "pull") {
            return Ok(None);
        }
    }
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("{}://{url}", if plain_http || is_local(url) { "http" } else { "https" })
    };
    let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
    let host = rest.split('/').next().unwrap_or_default().to_owned();
    if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains('@') {
        return Err(format!("{url:?} is no address of a registry"));
    }
    let trimmed = url.trim_end_matches('/');
    let base = if flag("override_path")? || trimmed.ends_with("/v2") {
        trimmed.to_owned()
    } else {
        format!("{trimmed}/v2")
    };
    let mut found = endpoint(base, &host);
    found.skip_verify = flag("skip_verify")?;
    if let Some(value) = keys.get("ca") {
        let paths = list(value.get_ref()).ok_or_else(|| format!("`ca` of {url:?} is no list of paths"))?;
        found.ca = paths.iter().map(|path| dir.join(path)).collect();
    }
    if let Some(value) = keys.get("client") {
        let wrong = || format!("`client` of {url:?} is no path and no pair of paths");
        let pair = match value.get_ref() {
            DeValue::Array(items) => match items.first().map(|item| item.get_ref()) {
                Some(pair @ DeValue::Array(_)) => list(pair).ok_or_else(wrong)?,
                _ => list(value.get_ref()).ok_or_else(wrong)?.into_iter().take(1).collect(),
            },
            other => list(other).ok_or_else(wrong)?,
        };
        let mut paths = pair.iter().filter(|path| !path.is_empty()).map(|path| dir.join(path));
        let certificate = paths.next().ok_or_else(wrong)?;
        found.client = Some((certificate, paths.next()));
    }
    if let Some(headers) = keys.get("header").and_then(|value| value.get_ref().as_table()) {
        for (name, values) in headers {
            let wrong = || format!("header {:?} of {url:?} is no text", name.get_ref());
            for value in list(values.get_ref()).ok_or_else(wrong)? {
                found.headers.push((name.get_ref().to_string(), value));
            }
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(text: &str) -> Result<Vec<Endpoint>, GatherError> {
        parse(text, Path::new("/certs/registry.example/hosts.toml"), "registry.example", false)
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file_and_the_registry_last() {
        let found = of(r#"
            server = "https://upstream.example"
            [host."https://z.example"]
            capabilities = ["pull", "resolve"]
            ca = "z.crt"
            client = [["z.cert", "z.key"]]
            [host."http://a.example/base/"]
            override_path = true
            skip_verify = true
            [host."http://a.example/base/".header]
            x-of = ["us"]
            [host."https://push.example"]
            capabilities = ["push"]"#)
        .unwrap();
        let bases: Vec<&str> = found.iter().map(|one| one.base.as_str()).collect();
        assert_eq!(bases, ["https://z.example/v2", "http://a.example/base", "https://upstream.example/v2"]);
        assert_eq!(found[0].ca, [PathBuf::from("/certs/registry.example/z.crt")]);
        let pair = found[0].client.clone().unwrap();
        assert_eq!(pair.1, Some(PathBuf::from("/certs/registry.example/z.key")));
        assert_eq!((found[0].skip_verify, found[1].skip_verify), (false, true));
        assert_eq!(found[1].headers, [("x-of".to_owned(), "us".to_owned())]);
        assert_eq!(found[2].host, "registry.example");
    }

    #[test]
    fn file_that_is_not_understood_is_an_error_and_not_another_registry() {
        for text in [
            "server = 1",
            "server = \"ftp://a\"",
            "server = \"https://user:secret@a\"",
            "host = 1",
            "[host.\"https://a\"]\nskip_verify = \"yes\"",
            "[host.\"https://a\"]\nca = [1]",
            "[host",
        ] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn registry_of_this_host_is_spoken_to_without_tls_and_others_are_not() {
        for (host, base) in [
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.0.0.1:1", "http://127.0.0.1:1/v2"),
            ("localhost.example", "https://localhost.example/v2"),
            ("registry.example", "https://registry.example/v2"),
            ("docker.io", "https://registry-1.docker.io/v2"),
        ] {
            assert_eq!(bare(host, false).base, base);
        }
        assert_eq!(bare("registry.example", true).base, "http://registry.example/v2");
    }
}
