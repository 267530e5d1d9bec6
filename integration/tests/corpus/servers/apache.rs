//! Apache with the event MPM: TLS, a proxy to a backend by name, scripts by mod_cgid, packed answers, status, a log that a
//! program writes, restarts that wait for connections and one that does not.

use crate::programs::{
    Server,
    Step::{Client, Exec, Say, Signal},
};

const CONFIGURATION: &str = "ServerRoot /etc
ServerName localhost
Listen 127.0.0.1:8080
Listen 8443
Listen 127.0.0.1:8081
PidFile /tmp/apache.pid
ErrorLog /tmp/error.log
LogLevel info
DefaultRuntimeDir /tmp
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_host_module /usr/lib/apache2/modules/mod_authz_host.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule autoindex_module /usr/lib/apache2/modules/mod_autoindex.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
LoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so
LoadModule filter_module /usr/lib/apache2/modules/mod_filter.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule reqtimeout_module /usr/lib/apache2/modules/mod_reqtimeout.so
LoadModule status_module /usr/lib/apache2/modules/mod_status.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule cgid_module /usr/lib/apache2/modules/mod_cgid.so
LoadModule dav_module /usr/lib/apache2/modules/mod_dav.so
LoadModule dav_fs_module /usr/lib/apache2/modules/mod_dav_fs.so
StartServers 2
ThreadsPerChild 8
MaxRequestWorkers 32
TypesConfig /dev/null
ScriptSock /tmp/cgid
DavLockDB /tmp/locks
SSLSessionCache shmcb:/tmp/sessions(65536)
LogFormat \"%h %t \\\"%r\\\" %>s %b\" short
CustomLog \"|/usr/bin/rotatelogs /tmp/access.%s 3600\" short
DocumentRoot /etc/pam.d
ErrorDocument 404 nothing
AddOutputFilterByType DEFLATE text/plain text/html
DefaultType None
<Directory /etc/pam.d>
  Options Indexes
  ForceType text/plain
</Directory>
<Location /server-status>
  SetHandler server-status
</Location>
ScriptAlias /cgi/ /usr/lib/cgi-bin/
Alias /store /tmp/store
<Directory /tmp/store>
  Dav On
  Require all granted
</Directory>
ProxyPass /app http://app.test:8081/ connectiontimeout=2 timeout=5
ProxyPass /down http://127.0.0.1:1/ connectiontimeout=1 retry=0
RewriteEngine On
RewriteRule ^/old/(.*) /$1 [R=301,L]
<VirtualHost *:8443>
  SSLEngine on
  SSLCertificateFile /etc/it.pem
  SSLCertificateKeyFile /etc/it.pem
</VirtualHost>
";

const CGI: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\n\\nscript %s %s\\n' \"$REQUEST_METHOD\" \"$QUERY_STRING\"
while read -r line; do printf '%s\\n' \"$line\"; done
";

pub(super) const APACHE: Server = Server {
    image: "apache",
    user: Some(33),
    argv: &["/usr/sbin/apache2", "-DFOREGROUND", "-f", "/etc/it.conf"],
    files: &[("/etc/it.conf", CONFIGURATION), ("/usr/lib/cgi-bin/it", CGI)],
    socket: "127.0.0.1:8080",
    recorded: &[
        Say("GET /login HTTP/1.0\r\n\r\n", "200 OK"),
        Client("curl -sk https://localhost:8443/login https://localhost:8443/login", "PAM"),
        Client("curl -s --compressed http://localhost:8080/login", "PAM"),
        Client("curl -s http://127.0.0.1:8080/app/login", "PAM"),
        Client("curl -s 'http://127.0.0.1:8080/cgi/it?a=b'", "script GET a=b"),
        Client(
            "mkdir -m 777 -p tmp/store; head -c 3000000 /dev/zero | curl -s -T - -w '%{http_code}' http://127.0.0.1:8080/store/large",
            "20",
        ),
        Client("curl -s http://127.0.0.1:8080/store/large | wc -c", "3000000"),
        // Restarts as logrotate has it, waiting for connections.
        Signal("USR1"),
        Say("GET /login HTTP/1.0\r\n\r\n", "200 OK"),
        Client("curl -s http://127.0.0.1:8080/server-status", "Apache Status"),
    ],
    enforced: &[
        Say("GET /none HTTP/1.0\r\n\r\n", "404"),
        Say("GET /login HTTP/1.1\r\nHost: it\r\nConnection: close\r\nRange: bytes=0-3\r\n\r\n", "206"),
        Say("nonsense\r\n\r\n", "400"),
        Client("curl -s http://127.0.0.1:8080/", "login"),
        Client("curl -s -w '%{http_code}' http://127.0.0.1:8080/old/login", "301"),
        Client("curl -s -w '%{http_code}' http://127.0.0.1:8080/down/", "503"),
        Client("curl -s -d 'what is sent' http://127.0.0.1:8080/cgi/it", "script POST"),
        Client("curl -s -w '%{http_code}' http://127.0.0.1:8080/cgi/none", "404"),
        Client(
            "mkdir -m 777 -p tmp/store; curl -s -T etc/passwd -w '%{http_code}' http://127.0.0.1:8080/store/a",
            "20",
        ),
        Client("curl -s -X PROPFIND -H 'Depth: 1' http://127.0.0.1:8080/store/", "multistatus"),
        Client(
            "curl -s -X MOVE -H 'Destination: http://127.0.0.1:8080/store/b' -w '%{http_code}' http://127.0.0.1:8080/store/a",
            "20",
        ),
        Client("curl -s -X DELETE -w '%{http_code}' http://127.0.0.1:8080/store/b", "204"),
        Client("curl -sk --tls-max 1.2 https://localhost:8443/login", "PAM"),
        Exec(&["/usr/sbin/apache2", "-f", "/etc/it.conf", "-k", "graceful"]),
        Say("HEAD /login HTTP/1.0\r\n\r\n", "200 OK"),
        Signal("HUP"),
        Say("HEAD /login HTTP/1.0\r\n\r\n", "200 OK"),
    ],
    exec: &[
        "/usr/sbin/apache2 -f /etc/it.conf -k graceful",
        "/usr/bin/rotatelogs /tmp/access.%s 3600",
        "/usr/lib/cgi-bin/it",
    ],
    probe: &["/usr/sbin/apache2", "-t", "-f", "/etc/it.conf"],
    // Source: the official image's STOPSIGNAL, which waits for connections.
    quit: "WINCH",
};
