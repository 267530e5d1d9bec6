//! memcached with TLS beside plain text, storage on disk behind its memory, which a restart finds again, and the
//! commands of its operators.

use crate::programs::{
    Server,
    Step::{Client, Say},
};

/// As many bytes as make it keep a value on the disk, of a client that speaks TLS.
const FILL: &str = "{ for n in $(seq 300); do printf 'set k%s 0 0 20000\\r\\n' $n; head -c 20000 /dev/zero | tr '\\0' x
  printf '\\r\\n'; done; sleep 1; printf 'get k1\\r\\n'; sleep 0.5; } | openssl s_client -nocommands -connect localhost:11211 2>&1";

pub(super) const MEMCACHED: Server = Server {
    image: "memcached",
    user: Some(33),
    argv: &[
        "/usr/bin/memcached",
        "-l",
        "notls:127.0.0.1:11212,localhost:11211",
        "-U",
        "0",
        "-m",
        "16",
        "-c",
        "128",
        "-t",
        "2",
        "-Z",
        "-o",
        "ssl_chain_cert=/etc/it.pem,ssl_key=/etc/it.pem,ext_page_size=8,ext_wbuf_size=4,ext_item_age=1,ext_path=/tmp/store:64m",
    ],
    files: &[],
    socket: "127.0.0.1:11212",
    recorded: &[
        Say("set a 0 0 1\r\n1\r\n", "STORED"),
        Say("get a\r\n", "VALUE"),
        Say("gets a\r\n", "VALUE"),
        Client(FILL, "STORED"),
        Say("stats\r\n", "uptime"),
        Say("stats slabs\r\n", "active_slabs"),
        // What arrives while nobody asks: items that are old are removed, and kept on the disk.
        Client("sleep 2; echo later", "later"),
        Say("mg k1 v t\r\n", "\r\n"),
    ],
    enforced: &[
        Say("incr none 1\r\n", "NOT_FOUND"),
        Say("add n 0 2 1\r\n5\r\nincr n 2\r\n", "7"),
        Say("append n 0 0 1\r\n1\r\ntouch n 9\r\ndelete n\r\n", "DELETED"),
        Say("stats settings\r\n", "maxconns"),
        Say("stats items\r\n", "END"),
        Say("stats conns\r\n", "END"),
        Say("verbosity 1\r\n", "OK"),
        Say("cache_memlimit 32\r\n", "OK"),
        Say("slabs reassign 1 2\r\n", "\r\n"),
        Say("lru_crawler crawl all\r\n", "OK"),
        Say("lru_crawler metadump all\r\n", "\r\n"),
        // Its certificate is new: read again.
        Say("refresh_certs\r\n", "OK"),
        Client(FILL, "STORED"),
        Client("sleep 2; echo later", "later"),
        Say("get k3\r\n", "END"),
        Say("flush_all\r\n", "OK"),
        Say("x\r\n", "ERROR"),
        Client(
            "{ echo nonsense; sleep 0.5; } | openssl s_client -nocommands -tls1_2 -connect 127.0.0.1:11211 2>&1",
            "ERROR",
        ),
    ],
    exec: &[],
    probe: &["/usr/bin/memcached", "-V"],
    // Ends when its connections have.
    quit: "USR1",
};
