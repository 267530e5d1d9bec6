//! Servers that are asked over a socket in their /tmp, by the corpus and by what holds them to Landlock's rules.

use crate::programs::{
    Server,
    Step::{Say, Signal},
};

const CONFIGURATION: &str =
    "server.document-root = \"/etc\"\nserver.bind = \"/tmp/it.sock\"\nserver.errorlog = \"/tmp/error.log\"\n";

pub(crate) const LIGHTTPD: Server = Server {
    image: "lighttpd",
    user: Some(33),
    argv: &["/usr/sbin/lighttpd", "-D", "-f", "/etc/it.conf"],
    files: &[("/etc/it.conf", CONFIGURATION)],
    socket: "/tmp/it.sock",
    recorded: &[Say("GET /passwd HTTP/1.0\r\n\r\n", "200 OK")],
    enforced: &[
        Say("GET /none HTTP/1.0\r\n\r\n", "404"),
        Signal("HUP"),
        Say("GET /group HTTP/1.0\r\n\r\n", "200 OK"),
        Say("nonsense\r\n\r\n", "400"),
    ],
    exec: &[],
    probe: &["/usr/sbin/lighttpd", "-tt", "-f", "/etc/it.conf"],
    quit: "TERM",
};

pub(crate) const SOCAT: Server = Server {
    image: "socat",
    user: Some(33),
    argv: &["/usr/bin/socat", "UNIX-LISTEN:/tmp/it.sock,fork", "PIPE"],
    files: &[],
    socket: "/tmp/it.sock",
    recorded: &[Say("one\n", "one")],
    enforced: &[Say("two\n", "two"), Say("three\n", "three")],
    exec: &[],
    probe: &["/usr/bin/socat", "-u", "OPEN:/etc/debian_version", "UNIX-CONNECT:/tmp/it.sock"],
    quit: "TERM",
};
