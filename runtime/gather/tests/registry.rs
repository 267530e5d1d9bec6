//! What a registry can and cannot do to whoever fetches signatures from it.

#![allow(clippy::unwrap_used)]

mod server;

use std::{fs, io::Write as _, net::TcpStream, thread, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bulkhead_gather::{Access, Fetched, GatherError, fetch};
use bulkhead_model::{Digest, SignatureFormat};
use server::{Says, Server, missing, ok, to};

fn access() -> Access {
    Access {
        hosts_dirs: Vec::new(),
        docker_config: None,
        plain_http: true,
        time_max: Duration::from_secs(30),
    }
}

fn fetched(server: &Server, digest: &Digest) -> Result<Fetched, GatherError> {
    fetch(&format!("{}/a/b@{digest}", server.address).parse().unwrap(), &access())
}

const IMAGE: &str = r#"{"schemaVersion":2,"config":{"digest":"x"},"layers":[]}"#;

fn image() -> Digest {
    Digest::of(IMAGE.as_bytes())
}

fn bundle(about: &Digest) -> String {
    let statement = format!(r#"{{"subject":[{{"digest":{{"sha256":"{}"}}}}]}}"#, about.hex());
    let payload = STANDARD.encode(statement);
    format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{{"payload":"{payload}"}}}}"#
    )
}

fn signature_manifest(about: &Digest, blob: &Digest) -> String {
    format!(
        r#"{{"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json","subject":{{"digest":"{about}"}},
            "layers":[{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","digest":"{blob}"}}]}}"#
    )
}

fn list(digests: &[Digest]) -> String {
    // As some registries do: the type in the list is another than that of the manifest.
    let entries: Vec<String> =
        digests.iter().map(|digest| format!(r#"{{"digest":"{digest}","artifactType":"other"}}"#)).collect();
    format!(r#"{{"manifests":[{}]}}"#, entries.join(","))
}

/// Which way a registry has its signatures.
#[derive(Clone, Copy)]
enum By {
    Api,
    FallbackTag,
    CosignTag,
}

/// A registry that has one signature of [`IMAGE`].
fn honest(by: By) -> impl Fn(&str, &str) -> Says + Send + Sync {
    move |path, _| {
        let blob = bundle(&image());
        let manifest = signature_manifest(&image(), &Digest::of(blob.as_bytes()));
        let digest = Digest::of(manifest.as_bytes());
        let payload = format!(r#"{{"critical":{{"image":{{"docker-manifest-digest":"{}"}}}}}}"#, image());
        let tagged = format!(
            r#"{{"layers":[{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{}",
                "annotations":{{"dev.cosignproject.cosign/signature":"c2ln"}}}}]}}"#,
            Digest::of(payload.as_bytes())
        );
        let rest = path.strip_prefix("/v2/a/b/").unwrap_or_default();
        let hex = image().hex();
        match (by, rest) {
            (_, rest) if rest == format!("manifests/{}", image()) => ok(IMAGE),
            (_, rest) if rest == format!("manifests/{digest}") => ok(manifest),
            (_, rest) if rest == format!("blobs/{}", Digest::of(blob.as_bytes())) => ok(blob),
            (_, rest) if rest == format!("blobs/{}", Digest::of(payload.as_bytes())) => ok(payload),
            (By::Api, rest) if rest == format!("referrers/{}", image()) => ok(list(&[digest])),
            (By::FallbackTag, rest) if rest == format!("manifests/sha256-{hex}") => ok(list(&[digest])),
            (By::CosignTag, rest) if rest == format!("manifests/sha256-{hex}.sig") => ok(tagged),
            _ => missing(),
        }
    }
}

#[test]
fn signatures_are_found_by_the_api_by_the_fallback_tag_and_by_cosign_2s_tag() {
    for (by, format) in [
        (By::Api, SignatureFormat::Bundle),
        (By::FallbackTag, SignatureFormat::Bundle),
        (By::CosignTag, SignatureFormat::SimpleSigning),
    ] {
        let server = Server::start(honest(by));
        let found = fetched(&server, &image()).unwrap().harvest.found;
        let kinds: Vec<_> = found.iter().map(|file| (file.subject, file.format)).collect();
        assert_eq!(kinds, [(image(), format)]);
    }
}

#[test]
fn image_without_signatures_has_none_and_an_unknown_tag_is_an_error() {
    let server = Server::start(|path, _| {
        if path.ends_with(&image().to_string()) && path.contains("manifests") { ok(IMAGE) } else { missing() }
    });
    assert_eq!(fetched(&server, &image()).unwrap().harvest.found, []);
    let unknown = fetch(&format!("{}/a/b:unknown", server.address).parse().unwrap(), &access());
    assert!(matches!(unknown, Err(GatherError::Missing(_))), "{unknown:?}");
}

#[test]
fn signatures_of_an_index_and_of_this_platforms_manifest_are_looked_for() {
    let own = Digest::of(b"amd64");
    let other = Digest::of(b"arm64");
    let index = format!(
        r#"{{"manifests":[{{"digest":"{own}","platform":{{"os":"linux","architecture":"amd64"}}}},
            {{"digest":"{other}","platform":{{"os":"linux","architecture":"arm64"}}}}]}}"#
    );
    let target = Digest::of(index.as_bytes());
    let body = index.clone();
    let server = Server::start(move |path, _| {
        if path.ends_with(&format!("manifests/{target}")) { ok(body.clone()) } else { missing() }
    });
    assert_eq!(fetched(&server, &target).unwrap().subjects, [target, own]);
    assert!(!server.paths().iter().any(|path| path.contains(&other.hex())));
}

#[test]
fn registry_that_never_answers_or_drips_is_given_up() {
    let hangs = Server::start(|_, _| Says::Raw(Box::new(|stream| hold(stream, None))));
    let drips = Server::start(|_, _| Says::Raw(Box::new(|stream| hold(stream, Some(b"x")))));
    for server in [hangs, drips] {
        let access = Access { time_max: Duration::from_secs(1), ..access() };
        let error = fetch(&format!("{}/a/b:1", server.address).parse().unwrap(), &access).unwrap_err();
        assert!(matches!(error, GatherError::Slow { .. }), "{error}");
    }
}

/// Keeps a connection open, and sends a byte now and then.
fn hold(mut stream: TcpStream, byte: Option<&[u8]>) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let mut sent = byte.map_or(Ok(()), |_| stream.write_all(head));
    for _ in 0..600 {
        thread::sleep(Duration::from_millis(100));
        sent = sent.and_then(|()| stream.write_all(byte.unwrap_or_default()));
        if sent.is_err() {
            return;
        }
    }
}

#[test]
fn registry_that_serves_gigabytes_is_cut_off() {
    let endless = |length: &'static str| {
        Server::start(move |_, _| {
            Says::Raw(Box::new(move |mut stream| {
                let head = format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n");
                let mut sent = stream.write_all(head.as_bytes());
                let block = [b' '; 64 * 1024];
                for _ in 0..1_000_000 {
                    sent = sent.and_then(|()| stream.write_all(&block));
                    if sent.is_err() {
                        return;
                    }
                }
            }))
        })
    };
    for length in ["Content-Length: 64000000000", "Connection: close"] {
        let server = endless(length);
        let error = fetched(&server, &image()).unwrap_err();
        assert!(matches!(error, GatherError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn registry_whose_head_never_ends_is_cut_off() {
    let server = Server::start(|_, _| {
        Says::Raw(Box::new(|mut stream| {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            for _ in 0..1_000_000 {
                sent = sent.and_then(|()| stream.write_all(b"x-more: and more\r\n"));
                if sent.is_err() {
                    return;
                }
            }
        }))
    });
    let error = fetched(&server, &image()).unwrap_err();
    assert!(matches!(error, GatherError::Http { .. }), "{error}");
}

#[test]
fn registry_that_lies_about_a_digest_is_refused() {
    let other = Server::start(|_, _| ok("{}"));
    let error = fetched(&other, &image()).unwrap_err();
    assert!(matches!(error, GatherError::Digest { .. }), "{error}");
    let wrong = Digest::of(b"other").to_string();
    let header = Server::start(move |_, _| {
        Says::Text(200, vec![("Docker-Content-Digest", wrong.clone())], IMAGE.into())
    });
    let error = fetch(&format!("{}/a/b:1", header.address).parse().unwrap(), &access()).unwrap_err();
    assert!(matches!(error, GatherError::Digest { .. }), "{error}");
}

#[test]
fn signature_that_does_not_hash_to_its_name_is_skipped_and_said() {
    let by = honest(By::Api);
    let server =
        Server::start(move |path, headers| if path.contains("blobs") { ok("{}") } else { by(path, headers) });
    let harvest = fetched(&server, &image()).unwrap().harvest;
    assert_eq!((harvest.found.len(), harvest.skipped.len()), (0, 1));
    assert!(harvest.skipped[0].why.contains("does not hash to"), "{harvest:?}");
}

#[test]
fn referrer_that_is_about_another_image_is_skipped_and_said() {
    let blob = bundle(&image());
    let manifest = signature_manifest(&Digest::of(b"other"), &Digest::of(blob.as_bytes()));
    let by = honest(By::Api);
    let server = Server::start(move |path, headers| match path {
        path if path.contains("referrers") => ok(list(&[Digest::of(manifest.as_bytes())])),
        path if path.contains(&Digest::of(manifest.as_bytes()).hex()) => ok(manifest.clone()),
        path => by(path, headers),
    });
    let harvest = fetched(&server, &image()).unwrap().harvest;
    assert_eq!((harvest.found.len(), harvest.skipped.len()), (0, 1));
    assert!(harvest.skipped[0].why.contains("listed as about"), "{harvest:?}");
}

#[test]
fn redirects_that_loop_or_lead_where_no_registry_is_are_refused() {
    for target in [
        "/v2/again",
        "file:///etc/shadow",
        "https://127.0.0.1:1/",
        "ftp://127.0.0.1/",
        "//root@127.0.0.1/",
        "",
        "relative",
    ] {
        let server = Server::start(move |_, _| to(target));
        let error = fetched(&server, &image()).unwrap_err();
        assert!(matches!(error, GatherError::Astray { .. }), "{target}: {error}");
        assert!(server.paths().len() <= 6, "{target}");
    }
    for target in ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://0.0.0.0:1/"] {
        let server = Server::start(move |_, _| to(target));
        let error = fetched(&server, &image()).unwrap_err().to_string();
        assert!(error.contains("is refused"), "{target}: {error}");
    }
}

#[test]
fn redirect_to_another_server_is_followed_and_the_password_is_not_shown_there() {
    let cdn = Server::start(honest(By::Api));
    let away = cdn.address.clone();
    let by = honest(By::Api);
    let server = Server::start(move |path, headers| match path {
        _ if !headers.contains("authorization") => {
            Says::Text(401, vec![("WWW-Authenticate", "Basic realm=\"r\"".to_owned())], Vec::new())
        }
        path if path.contains("blobs") => to(&format!("http://{away}{path}")),
        path => by(path, headers),
    });
    let config = tempfile::NamedTempFile::new().unwrap();
    let text = format!(r#"{{"auths":{{"{}":{{"username":"u","password":"secret"}}}}}}"#, server.address);
    fs::write(config.path(), text).unwrap();
    let access = Access { docker_config: Some(config.path().to_owned()), ..access() };
    let name = format!("{}/a/b@{}", server.address, image());
    let fetched = fetch(&name.parse().unwrap(), &access).unwrap();
    assert_eq!(fetched.harvest.found.len(), 1);
    let seen = cdn.asked.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].headers.contains("authorization"), "{seen:?}");
}

#[test]
fn password_that_is_asked_for_after_a_redirect_is_not_shown() {
    let tokens = Server::start(|_, _| ok(r#"{"token":"t0k3n"}"#));
    let realm = format!("http://{}/token", tokens.address);
    for challenge in [format!("Bearer realm=\"{realm}\""), "Basic realm=\"r\"".to_owned()] {
        let cdn = Server::start(move |_, _| {
            Says::Text(401, vec![("WWW-Authenticate", challenge.clone())], Vec::new())
        });
        let away = cdn.address.clone();
        let server = Server::start(move |path, _| to(&format!("http://{away}{path}")));
        let config = tempfile::NamedTempFile::new().unwrap();
        let text = format!(r#"{{"auths":{{"{}":{{"username":"u","password":"secret"}}}}}}"#, server.address);
        fs::write(config.path(), text).unwrap();
        let access = Access { docker_config: Some(config.path().to_owned()), ..access() };
        let name = format!("{}/a/b@{}", server.address, image());
        let error = fetch(&name.parse().unwrap(), &access).unwrap_err();
        assert!(matches!(error, GatherError::Astray { .. }), "{error}");
        for server in [&server, &cdn] {
            let seen = server.asked.lock().unwrap();
            assert!(seen.iter().all(|asked| !asked.headers.contains("authorization")), "{seen:?}");
        }
    }
    assert!(tokens.paths().is_empty(), "{:?}", tokens.paths());
}

#[test]
fn token_is_asked_for_where_the_registry_says_and_not_by_another_scheme() {
    let tokens = Server::start(|_, _| ok(r#"{"token":"t0k3n"}"#));
    let realm = format!("http://{}/token", tokens.address);
    let registry = |realm: String| {
        let by = honest(By::Api);
        Server::start(move |path, headers| {
            if headers.contains("authorization: bearer t0k3n") {
                return by(path, headers);
            }
            let challenge = format!("Bearer realm=\"{realm}\",service=\"s & t\"");
            Says::Text(401, vec![("WWW-Authenticate", challenge)], Vec::new())
        })
    };
    let server = registry(realm);
    assert_eq!(fetched(&server, &image()).unwrap().harvest.found.len(), 1);
    assert_eq!(tokens.paths(), ["/token?scope=repository:a/b:pull&service=s%20%26%20t"]);
    for realm in ["ftp://127.0.0.1/", "file:///etc/passwd", "http://169.254.169.254/token"] {
        assert!(fetched(&registry(realm.to_owned()), &image()).is_err(), "{realm}");
    }
}

#[test]
fn lists_without_end_and_documents_without_bottom_are_bounded() {
    let endless = Server::start(|path, _| match path {
        path if path.contains("referrers") => Says::Text(
            200,
            vec![("Link", format!("<{path}>; rel=\"next\""))],
            list(&[Digest::of(b"1"), Digest::of(b"2")]).into(),
        ),
        path if path.ends_with(&format!("manifests/{}", image())) => ok(IMAGE),
        _ => missing(),
    });
    fetched(&endless, &image()).unwrap();
    assert!(endless.paths().len() < 40, "{}", endless.paths().len());

    let deep = format!(r#"{{"manifests":{}"#, "[".repeat(1_000_000));
    let many = list(&vec![image(); 20_000]);
    let twice = r#"{"manifests":[],"manifests":[]}"#.to_owned();
    for body in [deep, many, twice, "<html>".to_owned(), "null".to_owned(), String::new()] {
        let server = Server::start(move |path, _| {
            if path.contains("referrers") {
                ok(body.clone())
            } else if path.ends_with(&format!("manifests/{}", image())) {
                ok(IMAGE)
            } else {
                missing()
            }
        });
        let error = fetched(&server, &image()).unwrap_err();
        assert!(matches!(error, GatherError::Document { .. }), "{error}");
    }
}

#[test]
fn mirror_that_fails_is_noted_and_the_registry_itself_still_asked() {
    let mirror = Server::start(|_, _| Says::Text(500, Vec::new(), Vec::new()));
    let server = Server::start(honest(By::Api));
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("registry.example");
    fs::create_dir(&host).unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        server.address, mirror.address
    );
    fs::write(host.join("hosts.toml"), text).unwrap();
    let access = Access { hosts_dirs: vec![dir.path().to_owned()], ..access() };
    let name = format!("registry.example/a/b@{}", image());
    let fetched = fetch(&name.parse().unwrap(), &access).unwrap();
    assert_eq!((fetched.harvest.found.len(), fetched.notes.len()), (1, 1));
    assert!(fetched.notes[0].contains(&mirror.address), "{:?}", fetched.notes);
    // The other side: where nobody answers, it is an error.
    let text = format!("server = \"http://{}\"\n", mirror.address);
    fs::write(host.join("hosts.toml"), text).unwrap();
    assert!(fetch(&name.parse().unwrap(), &access).is_err());
}
