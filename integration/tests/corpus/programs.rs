//! What is run of each image: one workload to record, another to enforce.

/// A class of its own in the report: what an interpreter or a program of many commands does is its script's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Program,
    Interpreter,
}

/// Programs that end by themselves.
pub(crate) struct Tool {
    pub(crate) image: &'static str,
    pub(crate) class: Class,
    /// Commands that it is told to run by its input, as policy's exec patterns say it.
    pub(crate) exec: &'static [&'static str],
    pub(crate) recorded: &'static [&'static [&'static str]],
    pub(crate) enforced: &'static [&'static [&'static str]],
}

/// What a server is asked.
pub(crate) enum Step {
    /// Text that is sent to [`Server::socket`], and text that comes back.
    Say(&'static str, &'static str),
    /// The same to another socket: an address, or a path in the image.
    To(&'static str, &'static str, &'static str),
    /// A client outside of the container: a shell's script that starts in the image's root, until it prints the text.
    Client(&'static str, &'static str),
    /// A command that the operator runs in the container, and that must succeed.
    Exec(&'static [&'static str]),
    Signal(&'static str),
}

pub(crate) struct Server {
    pub(crate) image: &'static str,
    /// Runs as this uid.
    pub(crate) user: Option<u32>,
    pub(crate) argv: &'static [&'static str],
    /// Besides [`super::network::CERTIFICATE`]. Those below /data are of the user that it runs as.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// An address, or a unix socket in the image.
    pub(crate) socket: &'static str,
    pub(crate) recorded: &'static [Step],
    pub(crate) enforced: &'static [Step],
    /// Commands beside the probe that policy says are executed in it.
    pub(crate) exec: &'static [&'static str],
    /// What is exec'd in its container while it serves.
    pub(crate) probe: &'static [&'static str],
    /// Ends it.
    pub(crate) quit: &'static str,
}

use Class::{Interpreter, Program};

pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        image: "sqlite",
        class: Program,
        exec: &[],
        recorded: &[&[
            "/usr/bin/sqlite3",
            "/tmp/a.db",
            "create table if not exists t(x); insert into t values(1); select count(*) > 0 from t",
        ]],
        enforced: &[&[
            "/usr/bin/sqlite3",
            "/tmp/b.db",
            "pragma journal_mode=wal; create table if not exists u(y); begin; insert into u values(randomblob(9000)); commit; select length(y) from u limit 1; vacuum; drop table u",
        ]],
    },
    Tool {
        image: "git",
        class: Program,
        exec: &[],
        recorded: &[
            &["/usr/bin/git", "init", "-q", "/tmp/a"],
            &["/usr/bin/git", "-C", "/tmp/a", "status", "--short"],
        ],
        enforced: &[
            &["/usr/bin/git", "init", "-q", "/tmp/b"],
            &[
                "/usr/bin/git",
                "-C",
                "/tmp/b",
                "-c",
                "user.name=n",
                "-c",
                "user.email=e",
                "commit",
                "-q",
                "--allow-empty",
                "-m",
                "m",
            ],
            &["/usr/bin/git", "-C", "/tmp/b", "log", "--format=%s"],
        ],
    },
    Tool {
        image: "curl",
        class: Program,
        exec: &[],
        recorded: &[&["/usr/bin/curl", "-s", "file:///etc/debian_version"]],
        enforced: &[
            &["/usr/bin/curl", "-s", "-o", "/tmp/out", "-w", "%{size_download}", "file:///etc/passwd"],
            &["/usr/bin/curl", "-s", "http://127.0.0.1:1/"],
        ],
    },
    Tool {
        image: "openssl",
        class: Program,
        exec: &[],
        recorded: &[&["/usr/bin/openssl", "dgst", "-sha256", "/etc/passwd"]],
        enforced: &[
            &["/usr/bin/openssl", "enc", "-base64", "-in", "/etc/passwd"],
            &["/usr/bin/openssl", "genpkey", "-algorithm", "ed25519", "-out", "/tmp/key"],
        ],
    },
    Tool {
        image: "gawk",
        class: Interpreter,
        exec: &[],
        recorded: &[&["/usr/bin/gawk", "BEGIN { print 1 + 1 }"]],
        enforced: &[&[
            "/usr/bin/gawk",
            "-F:",
            "{ print $1 > \"/tmp/names\" } END { print NR }",
            "/etc/passwd",
        ]],
    },
    Tool {
        image: "jq",
        class: Program,
        exec: &[],
        recorded: &[&["/usr/bin/jq", "-n", "[1,2]"]],
        enforced: &[&["/usr/bin/jq", "-nr", "now > 0, ([range(5)] | map(. * .) | @csv)"]],
    },
    Tool {
        image: "rsync",
        class: Program,
        exec: &[],
        recorded: &[&["/usr/bin/rsync", "-a", "/etc/passwd", "/tmp/p"]],
        enforced: &[&["/usr/bin/rsync", "-a", "--checksum", "--out-format=%n", "/etc/pam.d/", "/tmp/q/"]],
    },
    Tool {
        image: "xz",
        class: Program,
        exec: &[],
        recorded: &[&["/usr/bin/xz", "-k", "-c", "/etc/debian_version"]],
        enforced: &[&["/usr/bin/xz", "-T2", "-9", "-k", "-c", "/etc/passwd"]],
    },
    Tool {
        image: "make",
        class: Program,
        exec: &["cat", "sh", "true"],
        recorded: &[&["/usr/bin/make", "-s", "-f", "/dev/null", "--eval=a:;@echo a"]],
        enforced: &[&[
            "/usr/bin/make",
            "-s",
            "-j2",
            "-f",
            "/dev/null",
            "--eval=a: b c;@cat /etc/debian_version\nb c:;@true",
        ]],
    },
    Tool {
        image: "wget",
        class: Program,
        exec: &[],
        recorded: &[&["/usr/bin/wget", "-q", "-O-", "http://127.0.0.1:1/"]],
        enforced: &[&["/usr/bin/wget", "-q", "-t1", "-O/tmp/w", "http://localhost:1/"]],
    },
    Tool {
        image: "openssh",
        class: Program,
        exec: &[],
        recorded: &[&["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/tmp/k1"]],
        enforced: &[
            &["/usr/bin/ssh-keygen", "-q", "-t", "ecdsa", "-N", "x", "-f", "/tmp/k2"],
            &["/usr/bin/ssh-keygen", "-F", "host", "-f", "/etc/passwd"],
        ],
    },
    Tool {
        image: "busybox",
        class: Interpreter,
        exec: &["ls", "wc"],
        recorded: &[&["/bin/busybox", "sh", "-c", "ls /etc | wc -l"]],
        enforced: &[
            &["/bin/busybox", "find", "/etc/pam.d", "-type", "f"],
            &["/bin/busybox", "date", "-d", "@0"],
        ],
    },
    Tool {
        image: "base",
        class: Interpreter,
        exec: &[],
        recorded: &[&["/bin/bash", "-c", "for i in 3 1 2; do echo $i; done; [ -d /etc ] && echo y"]],
        enforced: &[&[
            "/bin/bash",
            "-c",
            "trap 'echo got' TERM; kill -TERM $$; echo a > /tmp/b; read x < /tmp/b; echo $x; (exit 3); echo $?",
        ]],
    },
    Tool {
        image: "python",
        class: Interpreter,
        exec: &[],
        recorded: &[&["/usr/bin/python3", "-c", "import os; print(len(os.listdir('/etc')))"]],
        enforced: &[&[
            "/usr/bin/python3",
            "-c",
            "import threading, socket, subprocess, os\nout = []\nts = [threading.Thread(target=lambda i=i: out.append(i * i)) for i in range(4)]\n[t.start() for t in ts]; [t.join() for t in ts]\na, b = socket.socketpair(); a.sendall(b'x'); print(sorted(out), b.recv(1), os.stat('/etc').st_uid, os.fork() == -1)",
        ]],
    },
    Tool {
        image: "perl",
        class: Interpreter,
        exec: &[],
        recorded: &[&["/usr/bin/perl", "-e", "print join(',', sort map { $_ * 2 } 1..9)"]],
        enforced: &[&[
            "/usr/bin/perl",
            "-e",
            "my $p = fork; if (!$p) { exit 7 } waitpid($p, 0); print $? >> 8; open my $f, '>', '/tmp/p' or die; print $f 1; close $f; rename '/tmp/p', '/tmp/q' or die; unlink '/tmp/q' or die; print -e '/tmp/q' ? 1 : 0",
        ]],
    },
    Tool {
        image: "ruby",
        class: Interpreter,
        exec: &["sh", "echo"],
        recorded: &[&["/usr/bin/ruby", "-e", "puts (1..9).map { |x| x * x }.sum"]],
        enforced: &[&[
            "/usr/bin/ruby",
            "-e",
            "File.write('/tmp/r', 'x'); puts File.read('/tmp/r'); t = Thread.new { 4 }; puts t.value; puts `echo hi`",
        ]],
    },
    Tool {
        image: "php",
        class: Interpreter,
        exec: &[],
        recorded: &[&["/usr/bin/php8.2", "-r", "echo strlen('abc');"]],
        enforced: &[&[
            "/usr/bin/php8.2",
            "-r",
            "file_put_contents('/tmp/p', 'x'); echo file_get_contents('/tmp/p'), json_encode([1]), md5('a'), is_dir('/etc');",
        ]],
    },
    Tool {
        image: "node",
        class: Interpreter,
        exec: &[],
        recorded: &[&["/usr/bin/node", "-e", "console.log([1, 2].map(x => x * x))"]],
        enforced: &[&[
            "/usr/bin/node",
            "-e",
            "const fs = require('fs'); fs.writeFileSync('/tmp/n', 'x'); setTimeout(() => console.log(fs.readFileSync('/tmp/n', 'utf8'), require('crypto').createHash('md5').update('a').digest('hex')), 5)",
        ]],
    },
    Tool {
        image: "java",
        class: Interpreter,
        exec: &[],
        recorded: &[&["/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "-Xmx64m", "-version"]],
        enforced: &[&[
            "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
            "-Xmx64m",
            "-XX:+UseSerialGC",
            "--list-modules",
        ]],
    },
    Tool {
        image: "lua",
        class: Interpreter,
        exec: &[],
        recorded: &[&["/usr/bin/lua5.4", "-e", "print(1 + 1)"]],
        enforced: &[&[
            "/usr/bin/lua5.4",
            "-e",
            "local f = io.open('/tmp/l', 'w'); f:write('x'); f:close(); print(io.open('/tmp/l'):read('a'), os.time() > 0)",
        ]],
    },
    Tool {
        image: "tcl",
        class: Interpreter,
        exec: &["echo"],
        recorded: &[&["/usr/bin/tclsh8.6", "/etc/it.tcl"]],
        enforced: &[&["/usr/bin/tclsh8.6", "/etc/it.tcl"]],
    },
];
