//! nginx as a proxy with TLS and a cache, as a server of files and of uploads; its logs are rotated, its configuration is
//! read again. Its program is not replaced while it runs (USR2): nginx does that only as a daemon.

use crate::programs::{
    Server,
    Step::{Client, Exec, Say, Signal},
};

const CONFIGURATION: &str = "daemon off; pid /tmp/nginx.pid; error_log /tmp/error.log info;
worker_processes 2; worker_rlimit_nofile 1024; worker_cpu_affinity auto; worker_shutdown_timeout 5s;
events { worker_connections 256; multi_accept on; }
http {
  include /etc/nginx/mime.types;
  log_format main '$remote_addr $time_iso8601 \"$request\" $status $upstream_cache_status';
  access_log /tmp/access.log main buffer=4k flush=1s;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  sendfile on; tcp_nopush on; keepalive_timeout 5s; reset_timedout_connection on;
  gzip on; gzip_types text/plain; gzip_min_length 64;
  open_file_cache max=64;
  ssl_certificate /etc/it.pem; ssl_certificate_key /etc/it.pem; ssl_session_cache shared:tls:1m; ssl_session_timeout 1m;
  ssl_protocols TLSv1.2 TLSv1.3;
  limit_req_zone $binary_remote_addr zone=each:1m rate=500r/s;
  proxy_cache_path /tmp/cache levels=1:2 keys_zone=cache:1m max_size=8m inactive=1m;
  resolver 127.0.0.1 ipv6=off valid=1s;
  upstream backend { zone backend 64k; server app.test:8081 max_fails=2; server 127.0.0.1:8082 backup; keepalive 4; }
  server {
    listen unix:/tmp/it.sock; listen 8080 reuseport; listen [::]:8080; listen 8443 ssl http2;
    limit_req zone=each burst=100;
    error_page 404 /404.html; error_page 502 504 =503 /503.html;
    location / { return 200 served; }
    location = /404.html { internal; return 404 'nothing here'; }
    location = /503.html { internal; return 503 'later'; }
    location = /status { stub_status; }
    location /files/ { alias /etc/; autoindex on; }
    location /large/ { alias /tmp/store/; aio threads; directio 1m; output_buffers 2 64k; }
    location /store/ { alias /tmp/store/; dav_methods PUT DELETE MOVE; create_full_put_path on; client_max_body_size 16m;
      client_body_buffer_size 16k; }
    location /app/ { proxy_pass http://backend/; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_cache cache;
      proxy_cache_valid 200 1m; proxy_cache_use_stale error updating; proxy_buffers 4 4k; proxy_connect_timeout 1s; }
    location /named/ { set $name app.test; rewrite ^/named(.*) $1 break; proxy_pass http://$name:8081; }
    location /post/ { client_max_body_size 16m; client_body_buffer_size 16k; proxy_pass https://localhost:8443/store/; }
    location /down/ { proxy_pass http://127.0.0.1:1/; proxy_connect_timeout 1s; }
  }
  server { listen 127.0.0.1:8081; access_log off; root /etc; location = /health { return 200 healthy; } }
}
";

const GET: super::Step = Say("GET / HTTP/1.0\r\n\r\n", "served");
const GET_FILE: super::Step = Say("GET /files/debian_version HTTP/1.0\r\n\r\n", "200 OK");

pub(super) const NGINX: Server = Server {
    image: "nginx",
    user: Some(33),
    argv: &["/usr/sbin/nginx"],
    files: &[("/etc/nginx/nginx.conf", CONFIGURATION)],
    socket: "/tmp/it.sock",
    recorded: &[
        GET,
        Client("curl -s --compressed http://localhost:8080/files/services; echo $?", "0"),
        Client("curl -sg --compressed 'http://[::1]:8080/files/passwd'", "root"),
        // By HTTP/2, and again with the session of before.
        Client("curl -sk https://localhost:8443/app/passwd https://localhost:8443/app/passwd", "root"),
        Client(
            "head -c 3000000 /dev/zero | curl -s -T - -w '%{http_code}' http://127.0.0.1:8080/store/a/large",
            "20",
        ),
        Client("curl -s http://127.0.0.1:8080/large/a/large | wc -c", "3000000"),
        Client("curl -s http://127.0.0.1:8080/named/passwd", "root"),
        // Rotates the logs as logrotate does.
        Client("mv tmp/access.log tmp/access.log.1; echo moved", "moved"),
        Signal("USR1"),
        Signal("HUP"),
        GET_FILE,
        Client("curl -s http://127.0.0.1:8080/status", "Active"),
    ],
    enforced: &[
        GET_FILE,
        Say("GET /files/none HTTP/1.0\r\n\r\n", "404"),
        Say("nonsense\r\n\r\n", "400"),
        Client("curl -s http://127.0.0.1:8080/files/", "passwd"),
        Client("curl -s -r 2-5 -w '%{http_code}' http://127.0.0.1:8080/files/passwd", "206"),
        // What no backend answers, one that is too large, and one whose client goes away.
        Client("curl -s -w '%{http_code}' http://127.0.0.1:8080/down/", "503"),
        Client(
            "head -c 20000000 /dev/zero | curl -s -T - -w '%{http_code}' http://127.0.0.1:8080/store/b",
            "413",
        ),
        Client(
            "head -c 2000000 /dev/zero | curl -sk -T - -w '%{http_code}' https://localhost:8443/post/b",
            "20",
        ),
        Client("curl -s -m 1 --limit-rate 100k http://127.0.0.1:8080/large/b -o /dev/null; echo $?", "28"),
        Client(
            "curl -s -w '%{http_code}' -X MOVE -H 'Destination: /store/c' http://127.0.0.1:8080/store/b",
            "204",
        ),
        Client("curl -s -w '%{http_code}' -X DELETE http://127.0.0.1:8080/store/c", "204"),
        Client("curl -sk --tls-max 1.2 --http1.1 https://localhost:8443/app/health", "healthy"),
        Exec(&["/usr/sbin/nginx", "-s", "reopen"]),
        GET,
        Exec(&["/usr/sbin/nginx", "-s", "reload"]),
        GET,
    ],
    exec: &["/usr/sbin/nginx -s reopen", "/usr/sbin/nginx -s reload"],
    probe: &["/usr/sbin/nginx", "-t", "-q"],
    quit: "QUIT",
};
