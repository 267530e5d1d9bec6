//! Ordinary programs of a real userland just run: what they answer under runc, they answer under Bulkhead.

#![allow(clippy::unwrap_used, missing_docs)]

use bulkhead_integration::{
    BULKHEAD, Bench, ContainerOptions, Cri, Digests, Entry, Image, Layer, RUNC, Release, runcs,
};

const NAME: &str = "registry.test/team-a/debian:1";

const NGINX: &str = "daemon off; pid /tmp/nginx.pid; error_log stderr; worker_processes 2;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen 8080; location / { return 200 \"served\\n\"; } location /files/ { alias /etc/; sendfile on; } }
}
";

/// Commands whose answer has to be the same.
const COMMANDS: &[&[&str]] = &[
    &["/bin/bash", "-c", "for i in 1 2 3; do echo $i; done | sort -r | tr '\\n' ' '"],
    &["/bin/bash", "-c", "cat <(echo a) <(echo b); exit 3"],
    &["/bin/bash", "-c", "trap 'echo got' TERM; kill -TERM $$; sleep 0.1 & wait; echo end"],
    &["/bin/bash", "-c", "timeout 0.2 sleep 5; echo $?; id -u; ls / | wc -l; nproc"],
    &["/bin/bash", "-c", "d=$(mktemp -d) && seq 100000 > $d/f && sha256sum < $d/f && tar c -C $d . | gzip | tar tz | sort"],
    &["/bin/bash", "-c", "echo out > /dev/stdout; echo err > /dev/stderr; exec 3</etc/debian_version; cat <&3"],
    &["/usr/bin/find", "/etc", "-name", "nginx.conf"],
    &["/usr/bin/perl", "-e", "my $p = fork; if (!$p) { exit 7 } waitpid($p, 0); print $? >> 8, ' ', join(',', map { $_ * 2 } 1..3)"],
    &["/usr/bin/python3", "-c", "import threading, subprocess, os, time
out = []
ts = [threading.Thread(target=lambda i=i: out.append(i * i)) for i in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]
r, w = os.pipe()
print(sorted(out), subprocess.run(['/bin/echo', 'sub'], capture_output=True).stdout, os.getuid(), os.path.expanduser('~') != '')
os.makedirs('/tmp/a/b'); open('/tmp/a/b/c', 'w').write('x' * 10); os.rename('/tmp/a/b/c', '/tmp/a/d'); print(os.stat('/tmp/a/d').st_size)"],
    &["/usr/bin/python3", "-c", "import socket, threading
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
def serve():
    c, _ = s.accept(); c.sendall(c.recv(9).upper()); c.close()
threading.Thread(target=serve).start()
c = socket.create_connection(s.getsockname()); c.sendall(b'hello'); print(c.recv(9))"],
];

fn import(bench: &Bench, namespace: &str) -> Digests {
    let config = Layer::of(&[
        Entry::Dir("etc/nginx", 0o755),
        Entry::File("etc/nginx/nginx.conf", 0o644, NGINX.as_bytes()),
    ]);
    let image = Image::userland(NAME).unwrap().with(config.unwrap());
    bench.daemon.import_in(namespace, &image).unwrap()
}

#[test]
fn programs_of_a_debian_userland_answer_as_they_do_under_runc() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let digests = import(&bench, bench.daemon.tag());
    bench.allow_digests(&[&digests.manifest], "").unwrap();
    for (number, command) in COMMANDS.iter().enumerate() {
        let answer = |runtime: &str| {
            let id = bench.daemon.id(&format!("c{number}"));
            let mut args = vec!["run", "--rm", "--runtime", runtime, NAME, &id];
            args.extend(*command);
            let output = bench.daemon.ctr(&args).unwrap();
            (output.code(), output.stdout, output.stderr)
        };
        let found = answer(BULKHEAD);
        let expected = runcs(&found, || answer(RUNC));
        assert_eq!(found, expected, "{command:?}");
        assert!(!expected.1.is_empty(), "{command:?} said nothing: {expected:?}");
    }
    bench.assert_nothing_left();
}

#[test]
fn nginx_serves_in_a_restricted_pod_reloads_and_ends_when_asked() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let digests = import(&bench, "k8s.io");
    bench.allow_digests(&[&digests.manifest], "exec = [\"nginx -s *\"]").unwrap();
    let pods = bench.daemon.pods().unwrap();
    for handler in ["runc", "bulkhead"] {
        let pod = pods.run(handler, "team-a", handler).unwrap();
        let nginx = ContainerOptions::restricted("nginx", NAME, &["/usr/sbin/nginx"]);
        let nginx = pods.launch(&pod, &nginx).unwrap();
        let get = || {
            let command = "for i in $(seq 400); do curl -sf http://127.0.0.1:8080/ && break; sleep 0.1; done; \
                 curl -sf http://127.0.0.1:8080/files/debian_version | wc -c";
            let said = pods.said(handler, &pod, |name| {
                pods.launch(&pod, &ContainerOptions::restricted(name, NAME, &["/bin/bash", "-c", command]))
            });
            let said = said.unwrap();
            let log = pods.output_so_far(&pod, "nginx").unwrap();
            assert!(said.starts_with("served\n") && !said.ends_with("\n0\n"), "{handler}: {said:?} {log}");
        };
        get();
        let reload = pods.exec(&nginx, &["nginx", "-s", "reload"]).unwrap();
        assert_eq!(reload.code, 0, "{handler}: {reload:?}");
        get();
        let quit = pods.exec(&nginx, &["nginx", "-s", "quit"]).unwrap();
        // The container's end may overtake it: the kernel kills what is left in its pid namespace.
        assert!([0, 137].contains(&quit.code), "{handler}: {quit:?}");
        assert_eq!(pods.wait(&nginx).unwrap(), 0, "{handler}");
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }
}
