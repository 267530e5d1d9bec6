//! In the machine: a pod of each runtime, traced from its first process to its last.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::{IpAddr, SocketAddr},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use bulkhead_integration::{
    BULKHEAD, Bench, Cri, Entry, HarnessError, Image, Layer, Platforms, RUNC, Release, Result, UID,
    bulkhead_dir, until,
};

use crate::{
    load,
    measured::{Load, Measured, Subject},
    tracer::{self, Reached, Tracer},
};

const NGINX: &str = "registry.test/team-a/nginx:1";

const NETWORK: &str = "reach";

const RUNC_SHIM: &str = "/usr/bin/containerd-shim-runc-v2";
const BULKHEAD_SHIM: &str = "containerd-shim-bulkhead-v2";

const CONFIG: &str = "daemon off; pid /tmp/nginx.pid; worker_processes 2;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen 8080; location / { return 404; } location = / { return 200 \"served\\n\"; }
           location /files/ { alias /etc/nginx/; sendfile on; } }
}
";

/// Measures every subject, under load and without, and prints a line of each.
pub(crate) fn measure() -> Result<()> {
    let tracer = Tracer::new()?;
    let bench = Bench::start(Release::System, Cri::Off)?;
    network(&bench)?;
    let digests = bench.daemon.import(&nginx()?)?;
    bench.allow_digests(&[&digests.manifest], "")?;
    for (name, program) in [("runc", RUNC_SHIM.into()), ("bulkhead", bulkhead_dir()?.join(BULKHEAD_SHIM))] {
        bench.daemon.runtime(name, &Tracer::stand_in(&program))?;
    }
    let runsc = bench.daemon.dir().join("runsc");
    write_runsc(&runsc)?;
    let names = symbols()?;
    for subject in Subject::ALL {
        for load in Load::ALL {
            let reached = tracer.during(|| container(&bench, subject, load, &runsc))?;
            let line = serde_json::to_string(&named(subject, load, &reached, &names));
            let line =
                line.map_err(|error| HarnessError::Format { what: "a row", found: error.to_string() })?;
            println!("{line}");
        }
    }
    bench.assert_nothing_left();
    Ok(())
}

/// A container, from its creation to its removal.
fn container(bench: &Bench, subject: Subject, load: Load, runsc: &Path) -> Result<()> {
    let id = bench.daemon.id(&format!("{}-{}", subject.name(), load.name()));
    let runsc = runsc.display().to_string();
    // The same request for all, which says nothing of security: what a runtime makes of it is its own doing.
    let mut words = vec!["run", "-d", "--cni", "--runtime"];
    match subject {
        Subject::Runc => words.push(RUNC),
        Subject::Bulkhead => words.push(BULKHEAD),
        Subject::Runsc => words.extend([RUNC, "--runc-binary", &runsc]),
    }
    words.extend([NGINX, &id]);
    words.extend(match load {
        Load::Requests => ["/usr/sbin/nginx", "-e", "stderr"].as_slice(),
        Load::Idle => &["/bin/probe", "pause"],
    });
    bench.daemon.ctr(&words)?.success()?;
    if load == Load::Requests {
        let address = SocketAddr::new(address(bench)?, 8080);
        until("an answer of nginx", Duration::from_secs(60), || Ok(load::answers(address)))?;
        tracer::mark_serving()?;
        load::put_on(address)?;
        tracer::mark_served()?;
    }
    bench.remove(&id)?;
    // Its name goes with it, so that the next one's address is the only one.
    fs::remove_dir_all(bench.daemon.dir().join("ipam")).map_err(HarnessError::at("remove", "ipam"))
}

/// A network as `ctr` sets it up: one end of a veth pair here, one in the container.
fn network(bench: &Bench) -> Result<()> {
    let list = serde_json::json!({ "cniVersion": "0.4.0", "name": NETWORK, "plugins": [{ "type": "ptp", "ipMasq": false,
        "ipam": { "type": "host-local", "dataDir": bench.daemon.dir().join("ipam"),
                  "ranges": [[{ "subnet": "10.201.0.0/24" }]] } }] });
    let list = list.to_string();
    for (path, text) in [("/etc/cni/net.d/10-reach.conflist", list.as_str()), ("/etc/resolv.conf", "")] {
        let dir = Path::new(path).parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(path, text))
            .map_err(HarnessError::at("write", path))?;
    }
    // Where `ctr` looks, and where Debian has them.
    fs::create_dir_all("/opt/cni")
        .and_then(|()| symlink("/usr/lib/cni", "/opt/cni/bin"))
        .map_err(HarnessError::at("symlink", "/opt/cni/bin"))
}

/// The address that was given out: host-local keeps a file of its name.
fn address(bench: &Bench) -> Result<IpAddr> {
    let dir = bench.daemon.dir().join("ipam").join(NETWORK);
    let entries = fs::read_dir(&dir).map_err(HarnessError::at("read", &dir))?;
    let mut found = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    found.next().ok_or(HarnessError::Format { what: "an address of the container", found: String::new() })
}

fn named(subject: Subject, load: Load, reached: &Reached, names: &BTreeMap<u64, String>) -> Measured {
    // An entry is a few bytes into its function.
    let name = |address: &u64| {
        let found = names.range(..=address).next_back();
        // Static functions may share a name: the address tells them apart.
        found.map_or_else(|| format!("{address:x}"), |(start, name)| format!("{name}@{start:x}"))
    };
    Measured {
        subject,
        load,
        entries: reached.entries,
        whole: reached.whole.iter().map(name).collect(),
        serving: reached.serving.iter().map(name).collect(),
    }
}

/// The kernel's functions by their addresses.
fn symbols() -> Result<BTreeMap<u64, String>> {
    let text = fs::read_to_string("/proc/kallsyms").map_err(HarnessError::at("read", "/proc/kallsyms"))?;
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        words.next().filter(|kind| kind.eq_ignore_ascii_case("t"))?;
        Some((address, words.next()?.to_owned()))
    });
    Ok(lines.collect())
}

/// nginx of Debian with the libraries that it is linked with, and nothing else but the probe.
fn nginx() -> Result<Image> {
    let taken = bulkhead_dir()?;
    let read = |path: PathBuf| fs::read(&path).map_err(HarnessError::at("read", path));
    let program = read(taken.join("nginx"))?;
    let mut libraries = Vec::new();
    for name in crate::LIBRARIES {
        libraries.push((format!("lib/x86_64-linux-gnu/{name}"), read(taken.join(name))?));
    }
    for name in ["libc.so.6", "libm.so.6"] {
        let own = Path::new("/lib/x86_64-linux-gnu").join(name);
        libraries.push((format!("lib/x86_64-linux-gnu/{name}"), read(own)?));
    }
    let loader = read("/lib64/ld-linux-x86-64.so.2".into())?;
    let text = "a line that sendfile sends\n".repeat(200);
    let mut entries = vec![
        Entry::Dir("usr", 0o755),
        Entry::Dir("usr/sbin", 0o755),
        Entry::File("usr/sbin/nginx", 0o755, &program),
        Entry::Dir("etc", 0o755),
        Entry::Dir("etc/nginx", 0o755),
        Entry::File("etc/nginx/nginx.conf", 0o644, CONFIG.as_bytes()),
        Entry::File("etc/nginx/text", 0o644, text.as_bytes()),
        Entry::Dir("tmp", 0o1777),
        Entry::Dir("lib64", 0o755),
        Entry::File("lib64/ld-linux-x86-64.so.2", 0o755, &loader),
        Entry::Dir("lib", 0o755),
        Entry::Dir("lib/x86_64-linux-gnu", 0o755),
    ];
    entries.extend(libraries.iter().map(|(path, bytes)| Entry::File(path, 0o644, bytes)));
    let probe = Image::pause(NGINX)?.layers;
    Ok(Image {
        name: NGINX.to_owned(),
        layers: probe.into_iter().chain([Layer::of(&entries)?]).collect(),
        user: format!("{UID}:{UID}"),
        command: Vec::new(),
        env: Vec::new(),
        volumes: Vec::new(),
        platforms: Platforms::One,
        more: serde_json::Map::new(),
    })
}

/// gVisor as its users run it, with a network stack of its own; runc's shim can give it no options.
fn write_runsc(path: &Path) -> Result<()> {
    let program = bulkhead_dir()?.join("runsc");
    let text = format!("#!/bin/sh\nexec {} --platform=systrap \"$@\"\n", program.display());
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(HarnessError::at("write", path))
}
