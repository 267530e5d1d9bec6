//! Redis that keeps its data, with TLS, as the primary of a replica and as a replica itself; scripts, blocking commands, and
//! what its operators tell it.

use crate::programs::{
    Server,
    Step::{Client, Say},
};

/// In a directory of its own, which it rewrites it in.
const CONFIGURATION: &str = "bind 127.0.0.1 -::1
port 6379
unixsocket /tmp/it.sock
tls-port 6380
tls-cert-file /etc/it.pem
tls-key-file /etc/it.pem
tls-ca-cert-file /etc/it.pem
tls-auth-clients no
dir /tmp
logfile /tmp/redis.log
pidfile /tmp/redis.pid
appendonly yes
appendfsync everysec
save 1 1
maxmemory 64mb
maxmemory-policy allkeys-lru
slowlog-log-slower-than 0
latency-monitor-threshold 1
notify-keyspace-events KEA
repl-diskless-sync yes
repl-diskless-sync-delay 0
timeout 300
tcp-keepalive 60
";

/// A script that has a second server, outside of the container.
macro_rules! with_another {
    ($script:literal) => {
        concat!(
            "chroot . redis-cli -p 6390 ping 2>/dev/null | grep -q PONG || chroot . redis-server --port 6390 ",
            "--dir /tmp --dbfilename other.rdb --save '' --daemonize yes >/dev/null; ",
            $script
        )
    };
}

pub(super) const REDIS: Server = Server {
    image: "redis",
    user: Some(33),
    argv: &["/usr/bin/redis-server", "/data/redis.conf"],
    files: &[("/data/redis.conf", CONFIGURATION)],
    socket: "/tmp/it.sock",
    recorded: &[
        Say("SET a 1\r\n", "+OK"),
        Say("GET a\r\n", "$1"),
        Say("SET e 1 PX 50\r\n", "+OK"),
        Client("chroot . redis-cli -h localhost -p 6380 --tls --cacert /etc/it.pem ping", "PONG"),
        // A pipeline of many commands.
        Client("seq 20000 | sed 's/.*/SET key:& value:&/' | chroot . redis-cli --pipe", "errors: 0"),
        Say("BLPOP nothing 1\r\n", "*-1"),
        Say("EVAL 'return redis.call(\"incr\", KEYS[1])' 1 counter\r\n", ":"),
        Say("BGSAVE\r\n", "saving"),
        // A replica follows, asks for everything, and goes.
        Client(
            with_another!(
                "chroot . redis-cli -p 6390 replicaof localhost 6379 >/dev/null; chroot . redis-cli -p 6390 info replication"
            ),
            "master_link_status:up",
        ),
        Say("SET b 2\r\n", "+OK"),
        Client("chroot . redis-cli -p 6390 get b", "2"),
        Client("chroot . redis-cli -p 6390 shutdown nosave; echo gone", "gone"),
        Client(
            "chroot . redis-cli subscribe channel & sleep 0.3; chroot . redis-cli publish channel it; kill $!",
            "1",
        ),
        Say("CONFIG SET maxclients 2000\r\n", "+OK"),
        Say("CONFIG REWRITE\r\n", "+OK"),
        Say("MEMORY STATS\r\n", "peak"),
        Say("FLUSHALL ASYNC\r\n", "+OK"),
    ],
    enforced: &[
        Say("LPUSH l 1 2 3\r\n", ":3"),
        Say("SORT l DESC\r\n", "$1\r\n3"),
        Say("NOSUCH\r\n", "-ERR"),
        Say("EVAL 'return 7' 0\r\n", ":7"),
        Client(
            "printf 'MULTI\\nXADD s * f v\\nZADD z 1 m\\nPFADD p a\\nGEOADD g 1 1 x\\nEXEC\\n' | chroot . redis-cli",
            "OK",
        ),
        Client("head -c 3000000 /dev/zero | tr '\\0' x | chroot . redis-cli -x set large", "OK"),
        Client("chroot . redis-cli -h localhost -p 6380 --tls --cacert /etc/it.pem strlen large", "3000000"),
        Client("chroot . redis-cli unlink large", ""),
        Say("BGREWRITEAOF\r\n", "rewriting"),
        Say("SAVE\r\n", "+OK"),
        // It follows another server, and takes over when that goes.
        Client(
            with_another!(
                "chroot . redis-cli -p 6390 set of other >/dev/null; chroot . redis-cli replicaof localhost 6390 >/dev/null; chroot . redis-cli info replication"
            ),
            "master_link_status:up",
        ),
        Client("chroot . redis-cli get of", "other"),
        Client("chroot . redis-cli -p 6390 shutdown nosave; echo gone", "gone"),
        Client("chroot . redis-cli info replication", "master_link_status:down"),
        Say("REPLICAOF NO ONE\r\n", "+OK"),
        Say("SLOWLOG GET 2\r\n", "*"),
        Say("LATENCY DOCTOR\r\n", "$"),
        Say("MEMORY PURGE\r\n", "+OK"),
        Say("MEMORY DOCTOR\r\n", "$"),
        Say("CLIENT LIST\r\n", "id="),
        Say("CONFIG SET save \"\"\r\n", "+OK"),
        Say("CONFIG SET appendonly no\r\n", "+OK"),
        Say("CONFIG SET appendonly yes\r\n", "+OK"),
        Say("CONFIG REWRITE\r\n", "+OK"),
        Say("INFO\r\n", "redis_version"),
        Client("chroot . redis-cli --rdb /tmp/copy.rdb", ""),
    ],
    exec: &[],
    probe: &["/usr/bin/redis-cli", "-s", "/tmp/it.sock", "ping"],
    quit: "TERM",
};
