//! The images that containerd's suites want, made on the spot and laid out as a registry keeps them.
//!
//! Invariant: each answers to what a test asks of its model: a program, a volume, an owner. None is fetched.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use bulkhead_integration::{Entry, HarnessError, Image, Layer, Result, workspace};

/// Repositories are named so, in `integration/conformance/images.toml` too.
const REPOSITORY: &str = "conformance";

/// The registry's storage directory, and the digest of every image in it.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    pub(crate) dir: PathBuf,
    pub(crate) digests: Vec<String>,
    /// That of busybox: newer suites name it so, too.
    pub(crate) busybox: String,
    /// Whose names the suites give to the images: in a world they lead to loopback.
    pub(crate) hosts: BTreeSet<String>,
}

/// Writes every image, under our own name and under each that a suite gives it.
pub(crate) fn registry(built: &Path) -> Result<Registry> {
    let dir = workspace().join("target/conformance/registry");
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(HarnessError::at("remove", &dir))?;
    }
    let path = built.join("images");
    let theirs = fs::read_to_string(&path).map_err(HarnessError::at("read", &path))?;
    let mut registry = Registry { dir, digests: Vec::new(), busybox: String::new(), hosts: BTreeSet::new() };
    for (key, tag, image) in images()? {
        let own = format!("{REPOSITORY}/{}", key.to_ascii_lowercase());
        let digest = store(&registry.dir, &own, tag, &image)?;
        if key == "BusyBox" {
            registry.busybox.clone_from(&digest);
        }
        registry.digests.push(digest);
        let name = theirs.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let Some((host, rest)) = name.and_then(|name| name.split_once('/')) else { continue };
        let Some((repository, tag)) = rest.rsplit_once(':') else { continue };
        store(&registry.dir, repository, tag, &image)?;
        registry.hosts.insert(host.to_owned());
    }
    Ok(registry)
}

/// The suites' key, tag and content.
fn images() -> Result<Vec<(&'static str, &'static str, Image)>> {
    let ids = [("root", 0), ("daemon", 1), ("bin", 2), ("sys", 3), ("www-data", 33), ("nobody", 65534)];
    let passwd: String =
        ids.iter().map(|(name, id)| format!("{name}:x:{id}:{id}:{name}:/:/bin/sh\n")).collect();
    let group: String = ids.iter().map(|(name, id)| format!("{name}:x:{id}:\n")).collect();
    let group = format!("{group}wheel:x:10:root\n");
    // Their users and groups, and what a set-user-id program is looked for by.
    let users = Layer::of(&[
        Entry::File("etc/passwd", 0o644, passwd.as_bytes()),
        Entry::File("etc/group", 0o644, group.as_bytes()),
        Entry::File("bin/bash", 0o755, b"#!/bin/sh\nexec /bin/sh \"$@\"\n"),
        // As the first process of a container, busybox' own does not heed SIGTERM.
        Entry::File("bin/nc", 0o755, b"#!/bin/sh\ntrap 'exit 143' TERM\n/bin/busybox nc \"$@\" &\nwait $!\n"),
        Entry::File("usr/bin/passwd", 0o4755, b"#!/bin/sh\nexit 0\n"),
    ])?;
    let busybox = || Ok::<_, HarnessError>(Image::busybox("", "")?.with(users.clone()));
    let sleeping = |layer: Layer| -> Result<Image> {
        Ok(Image { command: words(&["/bin/sleep", "86400"]), ..busybox()?.with(layer) })
    };
    let copied_up = Layer::of(&[
        Entry::Dir("test_dir", 0o755),
        Entry::File("test_dir/test_file", 0o644, b"test_content\n"),
        Entry::Dir("C:", 0o755),
        Entry::Dir("C:/weird_test_dir", 0o755),
        Entry::File("C:/weird_test_dir/weird_test_file", 0o644, b"test_content\n"),
        Entry::Dir(":colon_prefixed", 0o755),
        Entry::File(":colon_prefixed/colon_prefixed_file", 0o644, b"test_content\n"),
    ])?;
    let volumes = |paths: &[&str], image: Image| Image { volumes: words(paths), ..image };
    // Holds 110 MB, for as long as the test that asks for 100 looks.
    let stress = b"#!/bin/sh\nx=$(head -c 115343360 /dev/zero | tr '\\0' x)\nsleep 30\n";
    let pause = Image::pause("")?.with(Layer::of(&[Entry::Symlink("pause", "bin/probe")])?);
    Ok(vec![
        ("BusyBox", "1.36", busybox()?),
        ("Alpine", "3.14.0", sleeping(Layer::of(&[Entry::File("etc/alpine-release", 0o644, b"3.14.0\n")])?)?),
        ("Pause", "3.10", Image { command: words(&["/pause", "pause"]), ..pause }),
        ("ResourceConsumer", "1.10", sleeping(Layer::of(&[Entry::File("bin/stress", 0o755, stress)])?)?),
        (
            "VolumeCopyUp",
            "2.2",
            volumes(&["/test_dir", "C:/weird_test_dir", "/:colon_prefixed"], sleeping(copied_up)?),
        ),
        (
            "VolumeOwnership",
            "2.1",
            volumes(&["/test_dir"], sleeping(Layer::of(&[Entry::Owned("test_dir", 0o755, 65534)])?)?),
        ),
        (
            "Nginx",
            "1.27.0",
            Image {
                user: String::new(),
                command: words(&["nginx", "-g", "daemon off; error_log /dev/stderr notice;"]),
                ..Image::userland("")?
            },
        ),
    ])
}

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(|word| (*word).to_owned()).collect()
}

/// Lays an image out as the distribution registry keeps it; its manifest's digest.
///
/// Source: distribution, registry/storage/paths.go.
fn store(registry: &Path, name: &str, tag: &str, image: &Image) -> Result<String> {
    let version = registry.join("docker/registry/v2");
    let repository = version.join("repositories").join(name);
    let put = |path: PathBuf, bytes: &[u8]| {
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(HarnessError::at("write", &path))
    };
    let archive = registry.join("image.tar");
    fs::create_dir_all(registry).map_err(HarnessError::at("create", registry))?;
    let digests = image.write(&archive)?;
    let failed = || HarnessError::at("read", &archive);
    let mut tar = tar::Archive::new(fs::File::open(&archive).map_err(failed())?);
    for entry in tar.entries().map_err(failed())? {
        let mut entry = entry.map_err(failed())?;
        let path = entry.path().map_err(failed())?.into_owned();
        let Some(hex) = path.strip_prefix("blobs/sha256").ok().and_then(Path::to_str) else { continue };
        let hex = hex.to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(failed())?;
        put(version.join("blobs/sha256").join(&hex[..2]).join(&hex).join("data"), &bytes)?;
        put(repository.join("_layers/sha256").join(&hex).join("link"), format!("sha256:{hex}").as_bytes())?;
    }
    let digest = digests.manifest.as_bytes();
    let hex = digests.manifest.trim_start_matches("sha256:");
    let manifests = repository.join("_manifests");
    put(manifests.join("revisions/sha256").join(hex).join("link"), digest)?;
    put(manifests.join("tags").join(tag).join("current/link"), digest)?;
    put(manifests.join("tags").join(tag).join("index/sha256").join(hex).join("link"), digest)?;
    fs::remove_file(&archive).map_err(failed())?;
    Ok(digests.manifest)
}
