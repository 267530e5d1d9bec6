//! What a server under load loses to the filter and rules that are worked out from its image, beside the same server
//! under runc without any filter and with containerd's default.
//!
//! All run at the same time and are asked in turn, each in its own network namespace, over its loopback: ab
//! (apache2-utils), redis-benchmark (redis-tools). nginx is asked for a page of 10 kB with a connection each, as strangers
//! ask, and for an answer as short as it comes over connections that stay, where system calls are all that is paid for.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use bulkhead_integration::{Entry, HarnessError, Image, Layer, UID, run, until};
use serde_json::{Map, json};

use super::{
    profiles::{corpus, when_ready},
    syscalls::NO_FILTER,
};
use crate::{
    interrupt,
    row::{Findings, SUBJECT},
    runtimes::Runtime,
    series::Series,
    stage::Stage,
    wrong,
};

/// How long one load, or the start of a server, may take.
const WITHIN: Duration = Duration::from_secs(120);

const NGINX: &str = "daemon off; pid /tmp/nginx.pid; error_log stderr; worker_processes 1;
events {}
http {
  access_log off; keepalive_requests 1000000;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen 8080; root /srv; location = /short { return 200 \"served\\n\"; } }
}
";

/// Of a page.
const PAGE: usize = 10 * 1024;

struct Server {
    image: &'static str,
    command: &'static [&'static str],
    loads: &'static [Load],
    /// Requests a second, of what a load prints.
    read: fn(&str) -> Option<f64>,
}

struct Load {
    name: &'static str,
    command: &'static [&'static str],
}

const SERVERS: [Server; 2] = [
    Server {
        image: "nginx",
        command: &["/usr/sbin/nginx", "-c", "/etc/bench.conf"],
        loads: &[
            Load {
                name: "nginx",
                command: &["ab", "-q", "-n", "20000", "-c", "4", "http://127.0.0.1:8080/page"],
            },
            Load {
                name: "nginx-short",
                command: &["ab", "-q", "-k", "-n", "100000", "-c", "4", "http://127.0.0.1:8080/short"],
            },
        ],
        read: ab,
    },
    Server {
        image: "redis",
        command: &[
            "/usr/bin/redis-server",
            "--port",
            "6379",
            "--save",
            "",
            "--appendonly",
            "no",
            "--protected-mode",
            "no",
            "--dir",
            "/tmp",
        ],
        loads: &[Load {
            name: "redis",
            command: &["redis-benchmark", "-p", "6379", "--csv", "-t", "get", "-n", "60000", "-c", "4"],
        }],
        read: redis_benchmark,
    },
];

fn ab(text: &str) -> Option<f64> {
    let failed = text.lines().find_map(|line| line.strip_prefix("Failed requests:"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Requests per second:"))?;
    if failed.trim() == "0" { line.split_whitespace().next()?.parse().ok() } else { None }
}

fn redis_benchmark(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("\"GET\","))?;
    line.split(',').next()?.trim_matches('"').parse().ok()
}

/// Pairs of loads, for each server.
pub(super) fn load(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let runc = stage.runtimes.iter().find(|runtime| runtime.name == "runc");
    let runc = runc.ok_or_else(|| wrong("runc to compare with", "none"))?;
    for server in &SERVERS {
        let mut ids = Vec::new();
        let measured = one(stage, server, runc, &mut ids, findings);
        for id in &ids {
            stage.bench.remove(id)?;
        }
        stage.bench.allow("exec = [\"*\"]")?;
        if let Err(error) = measured {
            interrupt::check()?;
            findings.lacks(format!("served-{}", server.image), &error);
        }
    }
    Ok(())
}

fn one(
    stage: &Stage,
    server: &Server,
    runc: &Runtime,
    ids: &mut Vec<String>,
    findings: &mut Findings,
) -> Result<(), HarnessError> {
    let name = format!("registry.test/team-a/{}:1", server.image);
    let image = image(&name, server.image)?;
    let digests = stage.daemon().import(&image)?;
    let generated = "seccomp = \"generated\"\nlandlock = { files = \"generated\" }";
    stage.bench.allow_digests(&[&digests.manifest], generated)?;
    let subject = stage.subject()?;
    let mut pids = Vec::new();
    for (who, runtime, options) in
        [(SUBJECT, subject, &[][..]), (NO_FILTER, runc, &[]), (runc.name, runc, &["--seccomp"])]
    {
        let id = stage.daemon().id(&format!("{}-{who}", server.image));
        ids.push(id.clone());
        when_ready(|| {
            let own = runtime.options();
            let mut args = vec!["run", "-d"];
            args.extend(own.iter().map(String::as_str));
            args.extend(options);
            args.extend([name.as_str(), &id]);
            args.extend(server.command);
            let output = stage.daemon().ctr(&args)?;
            if output.code() != 0 {
                stage.daemon().ctr(&["container", "delete", &id])?;
            }
            Ok(output)
        })?;
        let pid = pid(stage, &id)?;
        inside(&pid, &["ip", "link", "set", "lo", "up"])?;
        let asked = Instant::now();
        until("the server answers", WITHIN, || match ask(server, &server.loads[0], &pid) {
            Ok(_) => Ok(true),
            Err(error) if asked.elapsed() > WITHIN / 2 => Err(error),
            Err(_) => Ok(false),
        })?;
        pids.push((who, pid));
    }
    for load in server.loads {
        let mut series = Series::default();
        for round in 0..stage.settings.runs {
            for turn in 0..pids.len() {
                interrupt::check()?;
                let (who, pid) = &pids[(round + turn) % pids.len()];
                series.add(who, ask(server, load, pid)?);
            }
        }
        series.rows(&format!("served-{}", load.name), "requests/s", findings);
    }
    Ok(())
}

fn ask(server: &Server, load: &Load, pid: &str) -> Result<f64, HarnessError> {
    let said = inside(pid, load.command)?;
    (server.read)(&said).ok_or_else(|| wrong("requests a second", said))
}

/// Runs a program of the node's in the network namespace of a process.
fn inside(pid: &str, words: &[&str]) -> Result<String, HarnessError> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").args(words);
    Ok(run(&mut command, WITHIN)?.success()?.stdout)
}

fn pid(stage: &Stage, id: &str) -> Result<String, HarnessError> {
    let list = stage.daemon().ctr(&["task", "ls"])?.success()?.stdout;
    let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
    let pid = line.and_then(|line| line.split_whitespace().nth(1));
    pid.map(str::to_owned).ok_or_else(|| wrong("a task", list))
}

fn image(name: &str, of: &str) -> Result<Image, HarnessError> {
    let mut layers = Vec::new();
    for part in ["base", of] {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(corpus(part)?).args(["--exclude=./.complete", "-c", "."]);
        let output = tar.output().map_err(HarnessError::at("tar of", part))?;
        layers.push(Layer::of_tar(output.stdout));
    }
    let page = "x".repeat(PAGE);
    let files = [
        Entry::Dir("srv", 0o755),
        Entry::File("srv/page", 0o644, page.as_bytes()),
        Entry::File("etc/bench.conf", 0o644, NGINX.as_bytes()),
    ];
    layers.push(Layer::of(&files)?);
    let mut config = Map::new();
    config.insert("User".to_owned(), json!(format!("{UID}:{UID}")));
    config.insert("Env".to_owned(), json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]));
    Ok(Image::of_config(name, layers, config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_a_second_are_read_and_a_load_with_errors_has_none() {
        let said = "Complete requests:      10\nFailed requests:        0\nRequests per second:    512.25 [#/sec] (mean)\n";
        assert_eq!(ab(said), Some(512.25));
        assert_eq!(ab(&said.replace("requests:        0", "requests:        3")), None);
        assert_eq!(
            redis_benchmark("\"test\",\"rps\",\"avg\"\n\"GET\",\"71428.57\",\"0.1\"\n"),
            Some(71428.57)
        );
        assert_eq!(redis_benchmark("error"), None);
    }
}
