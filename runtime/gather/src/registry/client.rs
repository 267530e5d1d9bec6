//! The few requests of the OCI distribution specification that reading signatures takes.

use bulkhead_model::Digest;
use serde::Deserialize;

use super::{
    Reference,
    credentials::Credentials,
    endpoint::Endpoint,
    http::{Answer, Budget, Http},
};
use crate::{
    Blobs, GatherError, Harvest,
    blobs::hashed,
    manifest::{Descriptor, Document, MANIFEST_BYTES_MAX},
};

/// Every form of manifest and index.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// Most pages of referrers that are read.
const PAGES_MAX: usize = 8;

/// Most referrers that are looked at.
const REFERRERS_MAX: usize = 128;

/// Largest token, in bytes.
const TOKEN_BYTES_MAX: u64 = 256 * 1024;

/// One repository at one address.
pub(super) struct Client<'a> {
    endpoint: Endpoint,
    repository: String,
    http: Http,
    basic: Option<String>,
    /// What the last 401 asked for.
    authorization: Option<String>,
    budget: &'a mut Budget,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        endpoint: Endpoint,
        reference: &Reference,
        credentials: &Credentials,
        budget: &'a mut Budget,
    ) -> Result<Self, GatherError> {
        let http = Http::new(&endpoint)?;
        let basic = credentials.of(&endpoint.host);
        let repository = reference.repository().to_owned();
        Ok(Self { endpoint, repository, http, basic, authorization: None, budget })
    }

    /// A manifest by tag or digest, if it is there; its bytes are hashed.
    pub(super) fn manifest(&mut self, reference: &str) -> Result<Option<(Digest, Vec<u8>)>, GatherError> {
        let url = self.url(&format!("manifests/{reference}"));
        let answer = self.get(&url, ACCEPT, MANIFEST_BYTES_MAX)?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            status => return Err(GatherError::Status { url, status }),
        }
        let found = Digest::of(&answer.body);
        let named = reference.parse().ok().or(answer.digest.and_then(|digest| digest.parse().ok()));
        match named {
            Some(wanted) => Ok(Some((found, hashed(&url, &wanted, answer.body)?))),
            None => Ok(Some((found, answer.body))),
        }
    }

    /// What refers to a manifest: by the API, and where there is none by the fallback tag.
    pub(super) fn referrers(
        &mut self,
        subject: &Digest,
        harvest: &mut Harvest,
    ) -> Result<Vec<Descriptor>, GatherError> {
        let mut found = Vec::new();
        let first = self.url(&format!("referrers/{subject}"));
        let mut url = first.clone();
        for _ in 0..PAGES_MAX {
            let answer = self.get(&url, ACCEPT, MANIFEST_BYTES_MAX)?;
            match answer.status {
                200 => found.extend(Document::parse(&url, &answer.body)?.manifests),
                // No such API.
                400 | 404 | 405 | 406 | 501 if url == first => {
                    let tag = format!("sha256-{}", subject.hex());
                    let Some((_, bytes)) = self.manifest(&tag)? else { return Ok(Vec::new()) };
                    found = Document::parse(&tag, &bytes)?.manifests;
                    break;
                }
                status => return Err(GatherError::Status { url, status }),
            }
            match answer.link.as_deref().and_then(|link| self.next(link)) {
                Some(next) => url = next,
                None => break,
            }
        }
        if found.len() > REFERRERS_MAX {
            harvest.skip(
                subject.to_string(),
                format!("of {} referrers the first {REFERRERS_MAX} are read", found.len()),
            );
            found.truncate(REFERRERS_MAX);
        }
        Ok(found)
    }

    /// The next page, of this registry alone.
    fn next(&self, link: &str) -> Option<String> {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let origin = self.endpoint.base.strip_suffix("/v2").unwrap_or(&self.endpoint.base);
        let url = if target.starts_with('/') { format!("{origin}{target}") } else { target.to_owned() };
        let home = url.strip_prefix(origin).is_some_and(|path| path.starts_with('/'));
        (rest.contains("rel=\"next\"") && home).then_some(url)
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/{}/{rest}", self.endpoint.base, self.repository)
    }

    /// GETs, and shows a password where one is asked for.
    fn get(&mut self, url: &str, accept: &str, bytes_max: u64) -> Result<Answer, GatherError> {
        let mut headers = self.endpoint.headers.clone();
        headers.push(("Accept".to_owned(), accept.to_owned()));
        let shown = self.authorization.clone();
        let answer = self.http.get(url, &headers, shown.as_deref(), bytes_max, self.budget)?;
        if answer.status != 401 {
            return Ok(answer);
        }
        self.authorization = Some(self.authorize(url, answer.authenticate.as_deref().unwrap_or_default())?);
        self.http.get(url, &headers, self.authorization.as_deref(), bytes_max, self.budget)
    }

    /// What to show to whoever asked so.
    ///
    /// Source: distribution, docs/spec/auth/token.md.
    fn authorize(&mut self, url: &str, challenge: &str) -> Result<String, GatherError> {
        let failed = |why: &str| GatherError::Http { url: url.to_owned(), why: why.to_owned() };
        let (kind, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if kind.eq_ignore_ascii_case("basic") {
            let basic = self.basic.as_ref();
            return basic
                .map(|basic| format!("Basic {basic}"))
                .ok_or_else(|| failed("it wants a password, and docker's config.json has none for it"));
        }
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(failed("it wants a kind of password that is neither Basic nor Bearer"));
        }
        let realm =
            parameter(parameters, "realm").ok_or_else(|| failed("it does not say who gives tokens"))?;
        let scheme = |url: &str| url.split_once("://").map(|(scheme, _)| scheme.to_owned());
        let upgraded = realm.starts_with("https://");
        if !upgraded && scheme(&realm) != scheme(url) {
            return Err(GatherError::Astray {
                url: url.to_owned(),
                to: realm,
                why: "a password would go to another scheme",
            });
        }
        let mut query = vec![("scope", format!("repository:{}:pull", self.repository))];
        query.extend(parameter(parameters, "service").map(|service| ("service", service)));
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        let separator = if realm.contains('?') { '&' } else { '?' };
        let asked = format!("{realm}{separator}{}", query.join("&"));
        let basic = self.basic.as_ref().map(|basic| format!("Basic {basic}"));
        let answer = self.http.get_elsewhere(&asked, basic.as_deref(), TOKEN_BYTES_MAX, self.budget)?;
        if answer.status != 200 {
            return Err(GatherError::Status { url: realm, status: answer.status });
        }
        let Token { token, access_token } = serde_json::from_slice(&answer.body)
            .map_err(|_| GatherError::document(&realm, "token", "it is no JSON of one"))?;
        let token = token.or(access_token).filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| failed("it got no token"))
    }
}

impl Blobs for Client<'_> {
    fn blob(&mut self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, GatherError> {
        let url = self.url(&format!("blobs/{digest}"));
        let answer = self.get(&url, "*/*", bytes_max)?;
        match answer.status {
            200 => hashed(&url, digest, answer.body),
            404 => Err(GatherError::Missing(url)),
            status => Err(GatherError::Status { url, status }),
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// A parameter of a challenge: `name="value"`.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches([' ', ',']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = after;
    }
    None
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_challenge_are_found_quoted_or_not() {
        let challenge = r#"realm="https://a.example/t?x=y",service="a, b",scope="s", error=none"#;
        assert_eq!(parameter(challenge, "realm").as_deref(), Some("https://a.example/t?x=y"));
        assert_eq!(parameter(challenge, "SERVICE").as_deref(), Some("a, b"));
        assert_eq!(parameter(challenge, "error").as_deref(), Some("none"));
        assert_eq!(parameter(challenge, "nothing"), None);
        assert_eq!(parameter("realm=\"unfinished", "realm"), None);
    }

    #[test]
    fn what_goes_into_a_query_cannot_add_to_it() {
        assert_eq!(percent_encoded("a&b=c d#é"), "a%26b%3Dc%20d%23%C3%A9");
    }
}
