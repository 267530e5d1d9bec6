//! Servers of the corpus: what each is asked.

#[path = "servers/apache.rs"]
mod apache;
#[path = "servers/haproxy.rs"]
mod haproxy;
#[path = "servers/made.rs"]
mod made;
#[path = "servers/memcached.rs"]
mod memcached;
#[path = "servers/nginx.rs"]
mod nginx;
#[path = "servers/others.rs"]
mod others;
#[path = "servers/redis.rs"]
mod redis;

use super::programs::{Server, Step};
use Step::{Say, Signal};

const GET: Step = Say("GET / HTTP/1.0\r\n\r\n", "served");

/// PostgreSQL's words for a beginning, as postgres without a password: the length, version 3.0, a user.
const BEGIN: &[u8; 23] = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";

/// The beginning, and one query: `Q`, the length of what follows, the text. Source: PostgreSQL 15, chapter 55.7.
const fn query<const BYTES: usize>(text: &str) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut at = 0;
    while at < BEGIN.len() {
        bytes[at] = BEGIN[at];
        at += 1;
    }
    bytes[at] = b'Q';
    // A byte each that is a character, too: fewer than 128.
    bytes[at + 4] = (4 + text.len() + 1) as u8;
    let mut letter = 0;
    while letter < text.len() {
        bytes[at + 5 + letter] = text.as_bytes()[letter];
        letter += 1;
    }
    bytes
}

macro_rules! sql {
    ($text:literal, $expected:literal) => {{
        const BYTES: [u8; 29 + $text.len()] = query($text);
        const TEXT: &str = match std::str::from_utf8(&BYTES) {
            Ok(text) => text,
            Err(_) => panic!("the query is too long"),
        };
        Say(TEXT, $expected)
    }};
}

pub(crate) const SERVERS: &[Server] = &[
    nginx::NGINX,
    redis::REDIS,
    memcached::MEMCACHED,
    haproxy::HAPROXY,
    others::LIGHTTPD,
    others::SOCAT,
    apache::APACHE,
    made::GO,
    Server {
        image: "musl",
        user: Some(33),
        argv: &["/server"],
        files: &[],
        socket: "127.0.0.1:18577",
        recorded: &[GET],
        enforced: &[GET, Signal("HUP"), GET],
        exec: &[],
        probe: &["/server", "probe"],
        quit: "TERM",
    },
    made::RUST,
    Server {
        image: "distroless",
        user: Some(65532),
        argv: &["/server"],
        files: &[],
        socket: "127.0.0.1:18578",
        recorded: &[GET],
        enforced: &[
            GET,
            Say("GET /certificates HTTP/1.0\r\n\r\n", "BEGIN CERTIFICATE"),
            Say("nonsense\r\n\r\n", "400"),
            Signal("HUP"),
            GET,
        ],
        exec: &[],
        probe: &["/server", "probe"],
        quit: "TERM",
    },
    Server {
        image: "exporter",
        user: Some(65532),
        argv: &["/server", "127.0.0.1:18579"],
        files: &[],
        socket: "127.0.0.1:18579",
        recorded: &[Say("GET /metrics HTTP/1.0\r\n\r\n", "load_1m")],
        enforced: &[
            Say("GET /metrics HTTP/1.0\r\n\r\n", "load_1m"),
            Say("GET /none HTTP/1.0\r\n\r\n", "404"),
            Say("GET /push HTTP/1.0\r\n\r\n", "refused"),
            Say("nonsense\r\n\r\n", "400"),
        ],
        exec: &[],
        probe: &["/server", "probe", "127.0.0.1:18579"],
        quit: "TERM",
    },
    // As images of distributions that have the JIT in a package of its own.
    postgres("postgres-nojit"),
];

const POSTGRES: &str = "set -e
/usr/lib/postgresql/15/bin/initdb -D /tmp/data -U postgres -A trust --no-sync --no-locale -E UTF8
exec /usr/lib/postgresql/15/bin/postgres -D /tmp/data -k /tmp -c listen_addresses= -c fsync=off -c jit_above_cost=0
";

const fn postgres(image: &'static str) -> Server {
    Server {
        image,
        user: Some(33),
        argv: &["/bin/sh", "/etc/it.sh"],
        files: &[("/etc/it.sh", POSTGRES)],
        socket: "/tmp/.s.PGSQL.5432",
        recorded: &[
            sql!("CREATE TABLE IF NOT EXISTS t(x int)", "CREATE TABLE"),
            sql!("INSERT INTO t SELECT generate_series(1, 9)", "INSERT"),
            Signal("HUP"),
            sql!("SELECT 'rows', count(*) FROM t", "rows"),
        ],
        enforced: &[
            sql!("CREATE TABLE IF NOT EXISTS u(y text)", "CREATE TABLE"),
            sql!(
                "INSERT INTO u SELECT repeat('x', n) FROM generate_series(1, 20000) n WHERE n % 50 = 0",
                "INSERT"
            ),
            sql!("CREATE INDEX ON u(length(y)); ANALYZE u", "ANALYZE"),
            sql!("SELECT 'long', sum(length(y)) FROM u GROUP BY length(y) % 7 ORDER BY 2", "long"),
            sql!("SELECT no_such_function()", "42883"),
            sql!("VACUUM FULL u", "VACUUM"),
            sql!("COPY (SELECT 'copied') TO STDOUT", "copied"),
            Signal("HUP"),
            sql!("SELECT 'then', now() - pg_postmaster_start_time()", "then"),
            sql!("CHECKPOINT", "CHECKPOINT"),
        ],
        exec: &[],
        probe: &["/usr/lib/postgresql/15/bin/pg_isready", "-h", "/tmp"],
        quit: "INT",
    }
}
