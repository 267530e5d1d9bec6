//! One HTTP request: counted, waited for with a deadline, and led astray by nobody.
//!
//! ```text
//! url ─► resolve ─► every address allowed? ─► connect ─► head (64 kB) ─► body (limit, deadline)
//!   ▲                                                       │
//!   └── same scheme, at most 5 times, password left behind ─┘ redirect
//! ```

use std::{
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use ureq::{
    Agent,
    config::Config,
    http::Uri,
    tls::TlsConfig,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::endpoint::Endpoint;
use crate::GatherError;

/// Most redirects that are followed for one request.
const REDIRECTS_MAX: u32 = 5;

/// Longest address that a redirect may name, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;

/// What all requests of one fetch may use.
#[derive(Debug)]
pub(super) struct Budget {
    began: Instant,
    time_max: Duration,
    bytes_left: u64,
    bytes_max: u64,
}

impl Budget {
    pub(super) fn new(time_max: Duration, bytes_max: u64) -> Self {
        Self { began: Instant::now(), time_max, bytes_left: bytes_max, bytes_max }
    }

    fn time_left(&self, what: &str) -> Result<Duration, GatherError> {
        let left = self.time_max.saturating_sub(self.began.elapsed());
        if left.is_zero() { Err(self.slow(what)) } else { Ok(left) }
    }

    fn slow(&self, what: &str) -> GatherError {
        GatherError::Slow { what: what.to_owned(), after: self.time_max }
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) digest: Option<String>,
    pub(super) link: Option<String>,
    pub(super) authenticate: Option<String>,
}

/// Speaks to one registry, and to where it redirects.
#[derive(Debug)]
pub(super) struct Http {
    /// The address that the node's own configuration names.
    base: Uri,
    configured: Agent,
    /// For every other host: what `hosts.toml` says of the registry does not hold there.
    elsewhere: Agent,
}

impl Http {
    /// For a registry that the node's own configuration names.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, GatherError> {
        let base = parse(&endpoint.base)?;
        let config = |tls: TlsConfig| {
            Config::builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .max_idle_connections(4)
                .proxy(None)
                .user_agent(concat!("bulkhead/", env!("CARGO_PKG_VERSION")))
                .tls_config(tls)
                .build()
        };
        let agent = |loopback, tls| {
            let guard = Guard { inner: DefaultResolver::default(), loopback };
            Agent::with_parts(config(tls), DefaultConnector::default(), guard)
        };
        // A registry of this host may lead to this host: any other may not.
        let local = base.host().is_some_and(is_loopback);
        let configured = agent(true, endpoint.tls()?);
        let elsewhere = agent(local, endpoint.tls_elsewhere()?);
        Ok(Self { base, configured, elsewhere })
    }

    /// GETs `url`. `authorization` goes to this host alone.
    pub(super) fn get(
        &self,
        url: &str,
        headers: &[(String, String)],
        authorization: Option<&str>,
        bytes_max: u64,
        budget: &mut Budget,
    ) -> Result<Answer, GatherError> {
        self.follow(url, headers, authorization, bytes_max, budget)
    }

    /// GETs an address that a registry named.
    pub(super) fn get_elsewhere(
        &self,
        url: &str,
        authorization: Option<&str>,
        bytes_max: u64,
        budget: &mut Budget,
    ) -> Result<Answer, GatherError> {
        self.follow(url, &[], authorization, bytes_max, budget)
    }

    fn follow(
        &self,
        url: &str,
        headers: &[(String, String)],
        authorization: Option<&str>,
        bytes_max: u64,
        budget: &mut Budget,
    ) -> Result<Answer, GatherError> {
        let origin = parse(url)?;
        let mut at = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let here = parse(&at)?;
            let home = same_origin(&here, &origin);
            let agent = if same_origin(&here, &self.base) { &self.configured } else { &self.elsewhere };
            let mut request = agent.get(&at);
            for (name, value) in headers {
                // Headers of hosts.toml may be secrets too: elsewhere only what says which form is wanted.
                if home || name == "Accept" {
                    request = request.header(name, value);
                }
            }
            if let Some(value) = authorization.filter(|_| home) {
                request = request.header("Authorization", value);
            }
            let left = budget.time_left(&at)?;
            let mut response = request
                .config()
                .timeout_global(Some(left))
                .build()
                .call()
                .map_err(|error| failed(&at, error, budget))?;
            let status = response.status().as_u16();
            let header = |name: &str| {
                response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
            };
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let to = header("location").unwrap_or_default();
                at = redirected(&here, &at, &to)?;
                continue;
            }
            if status == 401 && !home {
                return Err(GatherError::Astray {
                    url: url.to_owned(),
                    to: shortened(&at),
                    why: "it wants a password there, which is for the registry alone",
                });
            }
            let (digest, link) = (header("docker-content-digest"), header("link"));
            let authenticate = header("www-authenticate");
            // What goes with an error is read no further than to be thrown away.
            let wanted = if status == 200 { bytes_max } else { 0 };
            let limit = wanted.min(budget.bytes_left);
            let mut body = Vec::new();
            if wanted > 0 {
                let reader = response.body_mut().as_reader();
                reader
                    .take(limit + 1)
                    .read_to_end(&mut body)
                    .map_err(|error| failed(&at, ureq::Error::Io(error), budget))?;
                if body.len() as u64 > limit {
                    let bytes_max = if limit < wanted { budget.bytes_max } else { bytes_max };
                    return Err(GatherError::TooLarge { what: at, bytes_max });
                }
            }
            budget.bytes_left -= body.len() as u64;
            return Ok(Answer { status, body, digest, link, authenticate });
        }
        Err(GatherError::Astray {
            url: url.to_owned(),
            to: shortened(&at),
            why: "it redirects more than 5 times",
        })
    }
}

fn same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}

fn parse(url: &str) -> Result<Uri, GatherError> {
    url.parse().map_err(|_| GatherError::Http { url: shortened(url), why: "it is no address".to_owned() })
}

/// Where a redirect leads, if anything of an image can be there.
pub(super) fn redirected(from: &Uri, url: &str, to: &str) -> Result<String, GatherError> {
    let astray = |why| GatherError::Astray { url: url.to_owned(), to: shortened(to), why };
    let (scheme, authority) = (from.scheme_str().unwrap_or_default(), from.authority());
    let authority = authority.map_or("", |authority| authority.as_str());
    if to.is_empty() || to.len() > URL_BYTES_MAX {
        return Err(astray("it names no address, or too long a one"));
    }
    let to = match to {
        path if path.starts_with("//") => format!("{scheme}:{path}"),
        path if path.starts_with('/') => format!("{scheme}://{authority}{path}"),
        whole => whole.to_owned(),
    };
    let Ok(target) = to.parse::<Uri>() else { return Err(astray("it is no address")) };
    if target.scheme_str() != Some(scheme) {
        return Err(astray("it is of another scheme"));
    }
    if target.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(astray("it names no host, or a user"));
    }
    Ok(to)
}

fn failed(url: &str, error: ureq::Error, budget: &Budget) -> GatherError {
    // Its own timeouts come wrapped in other errors; there is one deadline, and it is over or not.
    if let Err(slow) = budget.time_left(url) {
        return slow;
    }
    // The cause of a failed connection is said once.
    let why = match &error {
        ureq::Error::Io(cause) => cause.to_string(),
        other => other.to_string(),
    };
    GatherError::Http { url: shortened(url), why: why.chars().take(300).collect() }
}

fn shortened(url: &str) -> String {
    url.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Resolves names, and refuses addresses at which no registry is.
#[derive(Debug)]
struct Guard {
    inner: DefaultResolver,
    loopback: bool,
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        for address in found.iter() {
            if let Some(why) = forbidden(address.ip(), self.loopback) {
                let why = format!("{} is refused: {why}", address.ip());
                return Err(ureq::Error::Io(io::Error::new(io::ErrorKind::PermissionDenied, why)));
            }
        }
        Ok(found)
    }
}

/// Why nothing of an image is at an address.
fn forbidden(address: IpAddr, loopback: bool) -> Option<&'static str> {
    const METADATA: &str = "metadata services of clouds are there";
    let address = address.to_canonical();
    if !loopback && address.is_loopback() {
        return Some("a registry elsewhere may not lead to this host");
    }
    if address.is_unspecified() || address.is_multicast() {
        return Some("it is no host's address");
    }
    match address {
        IpAddr::V4(v4) if v4.is_link_local() || v4.is_broadcast() => Some(METADATA),
        // Alibaba's and Oracle's.
        IpAddr::V4(v4)
            if [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)].contains(&v4) =>
        {
            Some(METADATA)
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(METADATA),
        // Amazon's.
        IpAddr::V6(v6) if v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) => Some(METADATA),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_of_metadata_services_are_refused_in_every_spelling() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "100.100.100.200",
            "fe80::1",
            "fd00:ec2::254",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(forbidden(address.parse().unwrap(), true).is_some(), "{address}");
        }
        for address in ["10.0.0.1", "192.168.1.1", "203.0.113.1", "2001:db8::1", "127.0.0.1"] {
            assert_eq!(forbidden(address.parse().unwrap(), true), None, "{address}");
        }
        for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(forbidden(address.parse().unwrap(), false).is_some(), "{address}");
        }
    }

    #[test]
    fn what_hosts_toml_says_of_a_registrys_certificate_holds_for_no_other_host() {
        let endpoint = Endpoint {
            base: "http://r.example/v2".to_owned(),
            host: "r.example".to_owned(),
            ca: Vec::new(),
            client: None,
            skip_verify: true,
            headers: Vec::new(),
        };
        let http = Http::new(&endpoint).unwrap();
        let unverified = |agent: &Agent| agent.config().tls_config().disable_verification();
        assert!(unverified(&http.configured));
        assert!(!unverified(&http.elsewhere));
    }

    #[test]
    fn redirect_stays_with_its_scheme_and_names_a_host() {
        let from: Uri = "https://r.example/v2/a".parse().unwrap();
        let to = |to: &str| redirected(&from, "https://r.example/v2/a", to);
        assert_eq!(to("/b?c=d").unwrap(), "https://r.example/b?c=d");
        assert_eq!(to("https://cdn.example/b").unwrap(), "https://cdn.example/b");
        assert_eq!(to("//cdn.example/b").unwrap(), "https://cdn.example/b");
        for bad in [
            "",
            "http://r.example/b",
            "file:///etc/shadow",
            "ftp://r.example/b",
            "https://user@r.example/",
            "b",
            "javascript:1",
            &format!("https://r.example/{}", "a".repeat(URL_BYTES_MAX)),
        ] {
            assert!(to(bad).is_err(), "{bad}");
        }
    }
}
