//! Servers of the corpus with a configuration that needs no network: each is asked over a socket in its /tmp.

use crate::{
    others,
    programs::{
        Server,
        Step::{self, Say, Signal},
    },
};

const NGINX: &str = "daemon off; pid /tmp/nginx.pid; error_log /tmp/error.log; worker_processes 2;
events {}
http { access_log /tmp/access.log; client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen unix:/tmp/it.sock; location / { return 200 served; } location /files/ { alias /etc/; sendfile on; } } }
";
const HAPROXY: &str = "global
  stats socket /tmp/stats.sock mode 600
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend front
  bind unix@/tmp/it.sock
  http-request return status 200 content-type text/plain string served if { path / }
  http-request deny
";

const GET: Step = Say("GET / HTTP/1.0\r\n\r\n", "served");
const GET_FILE: Step = Say("GET /files/debian_version HTTP/1.0\r\n\r\n", "200 OK");

pub(crate) const SERVERS: &[Server] = &[
    Server {
        image: "nginx",
        user: Some(33),
        argv: &["/usr/sbin/nginx"],
        files: &[("/etc/nginx/nginx.conf", NGINX)],
        socket: "/tmp/it.sock",
        recorded: &[],
        enforced: &[
            GET_FILE,
            Say("GET /files/none HTTP/1.0\r\n\r\n", "404"),
            Signal("USR1"),
            GET,
            Signal("HUP"),
            GET,
        ],
        exec: &[],
        probe: &["/usr/sbin/nginx", "-t", "-q"],
        quit: "QUIT",
    },
    Server {
        image: "redis",
        user: Some(33),
        argv: &["/usr/bin/redis-server", "/etc/it.conf"],
        files: &[("/etc/it.conf", "port 0\nunixsocket /tmp/it.sock\ndir /tmp\nappendonly yes\n")],
        socket: "/tmp/it.sock",
        recorded: &[],
        enforced: &[
            Say("LPUSH l 1 2 3\r\n", ":3"),
            Say("SORT l DESC\r\n", "$1\r\n3"),
            Say("BGREWRITEAOF\r\n", "rewriting"),
            Say("NOSUCH\r\n", "-ERR"),
            Say("EVAL 'return 7' 0\r\n", ":7"),
            Say("SAVE\r\n", "+OK"),
            Say("INFO\r\n", "redis_version"),
        ],
        exec: &[],
        probe: &["/usr/bin/redis-cli", "-s", "/tmp/it.sock", "ping"],
        quit: "TERM",
    },
    Server {
        image: "memcached",
        user: Some(33),
        argv: &["/usr/bin/memcached", "-s", "/tmp/it.sock"],
        files: &[],
        socket: "/tmp/it.sock",
        recorded: &[],
        enforced: &[
            Say("incr none 1\r\n", "NOT_FOUND"),
            Say("stats\r\n", "uptime"),
            Say("flush_all\r\n", "OK"),
            Say("x\r\n", "ERROR"),
        ],
        exec: &[],
        probe: &["/usr/bin/memcached", "-V"],
        quit: "TERM",
    },
    Server {
        image: "haproxy",
        user: Some(33),
        argv: &["/usr/sbin/haproxy", "-db", "-f", "/etc/it.cfg"],
        files: &[("/etc/it.cfg", HAPROXY)],
        socket: "/tmp/it.sock",
        recorded: &[],
        enforced: &[GET, Say("GET /none HTTP/1.0\r\n\r\n", "403"), Say("nonsense\r\n\r\n", "400"), GET],
        exec: &[],
        probe: &["/usr/sbin/haproxy", "-c", "-q", "-f", "/etc/it.cfg"],
        quit: "KILL",
    },
    others::LIGHTTPD,
    others::SOCAT,
];
