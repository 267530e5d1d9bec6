//! HAProxy as its image starts it, a master and a worker: TLS, backends found by name and watched, maps and Lua, and what
//! operators tell it over its socket. Its configuration is read again while it serves.

use crate::programs::{
    Server,
    Step::{Client, Say, Signal, To},
};

const CONFIGURATION: &str = "global
  stats socket /tmp/stats.sock mode 600 level admin expose-fd listeners
  log 127.0.0.1:514 local0
  log stdout format raw local1
  maxconn 256
  nbthread 2
  cpu-map auto:1/1-2 0-1
  server-state-file /tmp/state
  lua-load /etc/it.lua
defaults
  mode http
  log global
  option httplog
  option redispatch
  option splice-auto
  load-server-state-from-file global
  compression algo gzip
  compression type text/plain
  timeout connect 2s
  timeout client 5s
  timeout server 5s
  timeout check 1s
  errorfile 503 /etc/503.http
resolvers names
  parse-resolv-conf
  hold valid 1s
  resolve_retries 2
cache pages
  total-max-size 4
  max-age 10
frontend front
  bind unix@/tmp/it.sock
  bind :8080
  bind :8443 ssl crt /etc/it.pem alpn h2,http/1.1
  stick-table type ip size 1k expire 10s store http_req_rate(10s)
  http-request track-sc0 src if !{ src_is_local }
  http-request return status 200 content-type text/plain string served if { path / }
  http-request use-service lua.hello if { path /hello }
  http-request deny if { path /denied }
  use_backend %[path,map_beg(/etc/it.map,none)]
backend app
  balance leastconn
  option httpchk GET /health
  http-request cache-use pages if { path_beg /app/cached }
  http-response cache-store pages
  server one localhost:8081 check inter 300ms
  server two app.test:8081 check inter 300ms resolvers names init-addr none backup
backend secure
  http-request set-path /
  server tls 127.0.0.1:8443 ssl verify required ca-file /etc/it.pem sni str(localhost)
backend down
  retries 1
  server none 127.0.0.1:1
backend none
  http-request return status 404
frontend the-app
  bind 127.0.0.1:8081,[::1]:8081
  http-request wait-for-body time 2s if { method POST }
  http-request return status 200 content-type text/plain file /etc/passwd
listen raw
  mode tcp
  bind 127.0.0.1:8082
  server back 127.0.0.1:8081
";

const MAP: &str = "/app app\n/secure secure\n/down down\n";
const PAGE: &str = "HTTP/1.0 503 Later\r\nCache-Control: no-cache\r\nContent-Type: text/plain\r\n\r\nlater\n";
const LUA: &str = "core.register_service('hello', 'http', function(applet)
  local text = 'hello from lua at ' .. os.time()
  applet:set_status(200)
  applet:add_header('content-length', string.len(text))
  applet:start_response()
  applet:send(text)
end)
";

const GET: super::Step = Say("GET / HTTP/1.0\r\n\r\n", "served");
const STATS: &str = "/tmp/stats.sock";

pub(super) const HAPROXY: Server = Server {
    image: "haproxy",
    user: Some(33),
    // Source: the official image's command.
    argv: &["/usr/sbin/haproxy", "-W", "-db", "-f", "/etc/it.cfg"],
    files: &[
        ("/etc/it.cfg", CONFIGURATION),
        ("/etc/it.map", MAP),
        ("/etc/it.lua", LUA),
        ("/etc/503.http", PAGE),
    ],
    socket: "/tmp/it.sock",
    recorded: &[
        GET,
        To(STATS, "show servers state app\n", "localhost"),
        Client("curl -s --compressed http://localhost:8080/app/page", "root"),
        Client("curl -sk https://localhost:8443/app/cached https://localhost:8443/app/cached", "root"),
        Client("curl -s http://127.0.0.1:8082/", "root"),
        Client("curl -s http://127.0.0.1:8080/hello", "hello from lua"),
        To(STATS, "show info\n", "Uptime"),
        // A seamless reload: the new worker takes the listeners over the socket.
        To(STATS, "show servers state\n", "app"),
        Signal("USR2"),
        Client("curl -s http://127.0.0.1:8080/app/page", "root"),
        GET,
    ],
    enforced: &[
        GET,
        Say("GET /denied HTTP/1.0\r\n\r\n", "403"),
        Say("nonsense\r\n\r\n", "400"),
        Client("curl -s http://127.0.0.1:8080/down/page", "later"),
        Client("curl -s -w '%{http_code}' http://127.0.0.1:8080/none", "404"),
        Client("curl -sk --tls-max 1.2 https://localhost:8443/secure/page", "served"),
        Client(
            "head -c 200000 /dev/zero | curl -s --data-binary @- http://127.0.0.1:8080/app/upload",
            "root",
        ),
        // What an operator does: takes a server out, changes a map, looks at sessions and errors.
        To(STATS, "disable server app/one\n", "\n"),
        To(STATS, "add map /etc/it.map /more app\n", "\n"),
        Client("curl -s http://127.0.0.1:8080/more", "root"),
        To(STATS, "enable server app/one\n", "\n"),
        To(STATS, "set ssl cert /etc/it.pem <<\nx\n\n", "\n"),
        To(STATS, "show resolvers names\n", "nameserver"),
        To(STATS, "show stat\n", "app"),
        To(STATS, "show errors\n", "Total"),
        Signal("HUP"),
        Client("curl -s http://127.0.0.1:8080/app/page", "root"),
        GET,
    ],
    exec: &[],
    probe: &["/usr/sbin/haproxy", "-c", "-q", "-f", "/etc/it.cfg"],
    // Ends when its connections have.
    quit: "USR1",
};
