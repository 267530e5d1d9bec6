//! The services in Go and in Rust (`made/`), as their users and those who operate them have them.

use crate::programs::{
    Server,
    Step::{Client, Say, Signal},
};

const GET: super::Step = Say("GET / HTTP/1.0\r\n\r\n", "served");

pub(super) const GO: Server = Server {
    image: "go",
    user: Some(33),
    argv: &["/server", "127.0.0.1:8443", "127.0.0.1:8080"],
    files: &[],
    socket: "127.0.0.1:8080",
    recorded: &[
        GET,
        Client("curl -sk https://localhost:8443/", "served"),
        Client("curl -s --compressed http://localhost:8080/json", "now"),
        Client("head -c 50000000 /dev/zero | curl -s -F file=@- http://127.0.0.1:8080/store", "50000000"),
        Client("curl -s http://127.0.0.1:8080/files/latest | wc -c", "50000000"),
        Client("curl -s 'http://127.0.0.1:8080/proxy?to=https://app.test:8443/'", "served"),
        Signal("HUP"),
        GET,
    ],
    enforced: &[
        GET,
        Say("GET /none HTTP/1.0\r\n\r\n", "404"),
        Say("nonsense\r\n\r\n", "400"),
        Client("curl -s -F file=@etc/passwd http://127.0.0.1:8080/store", "nil"),
        Client("curl -s http://127.0.0.1:8080/files/", "latest"),
        Client("curl -s -r 0-3 http://127.0.0.1:8080/files/latest", "root"),
        Client("curl -s -w '%{http_code}' -d x http://127.0.0.1:8080/store", "400"),
        Client("curl -s -w '%{http_code}' 'http://127.0.0.1:8080/proxy?to=http://gone.invalid/'", "502"),
        Client("curl -s -w '%{http_code}' 'http://127.0.0.1:8080/proxy?to=http://127.0.0.1:1/'", "502"),
        // Looked at while it works.
        Client(
            "curl -s 'http://127.0.0.1:8080/debug/pprof/profile?seconds=1' | wc -c | grep -v ^0 && echo many",
            "many",
        ),
        Client("curl -s 'http://127.0.0.1:8080/debug/pprof/goroutine?debug=1'", "goroutine"),
        Client(
            "curl -sk --http1.1 --tls-max 1.2 https://localhost:8443/ https://localhost:8443/none",
            "served",
        ),
        Signal("HUP"),
        GET,
    ],
    exec: &[],
    probe: &["/server", "probe", "127.0.0.1:8080"],
    quit: "TERM",
};

pub(super) const RUST: Server = Server {
    image: "rust",
    user: Some(33),
    argv: &["/server"],
    files: &[],
    socket: "127.0.0.1:8080",
    recorded: &[
        GET,
        Client(
            "head -c 3000000 /dev/zero | curl -s -T - -H 'Content-Length: 3000000' -w '%{http_code}' http://127.0.0.1:8080/large",
            "201",
        ),
        Client("curl -s http://127.0.0.1:8080/large | wc -c", "3000000"),
        Client("curl -s http://127.0.0.1:8080/list", "3000000"),
    ],
    enforced: &[
        GET,
        Say("GET /none HTTP/1.0\r\n\r\n", "404"),
        Say("nonsense\r\n\r\n", "400"),
        Client("curl -s http://127.0.0.1:8080/proxy", "served"),
        Client("curl -s -T etc/passwd -w '%{http_code}' http://127.0.0.1:8080/small", "201"),
        Client("curl -s http://127.0.0.1:8080/small", "root"),
        // A client that goes away.
        Client(
            "head -c 200000 /dev/zero | curl -s -m 1 --limit-rate 20k -T - -H 'Content-Length: 200000' http://127.0.0.1:8080/never; echo $?",
            "28",
        ),
        Client("curl -s -X DELETE -w '%{http_code}' http://127.0.0.1:8080/small", "204"),
        GET,
    ],
    exec: &[],
    probe: &["/server", "probe"],
    quit: "TERM",
};
