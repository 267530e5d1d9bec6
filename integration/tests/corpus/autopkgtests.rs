//! Debian's own tests of the corpus' packages: those that need no machine of their own, no network, no source tree and
//! nothing built. Each is run as its package has it; what a row adds is what the testbed has besides (a service that runs).

use std::{fs, process::Command, time::Duration};

use bulkhead_integration::{run, workspace};
use serde_json::Value;

use super::{
    Run, row,
    world::{Network, World},
};

const MINUTES: Duration = Duration::from_secs(300);

/// A test of a source package.
pub(crate) struct Autopkgtest {
    pub(crate) source: &'static str,
    test: &'static str,
    /// What its `Test-Command` is; without, it is the file of its name.
    command: Option<&'static str>,
    /// Images that have what the test depends on.
    images: &'static [&'static str],
    /// Programs and configuration of the testbed.
    files: &'static [(&'static str, &'static str)],
    /// Shell that has the service run, and that ends it.
    before: &'static str,
    after: &'static str,
    /// What a script that is no shell's starts.
    exec: &'static [&'static str],
    user: Option<u32>,
}

const PLAIN: Autopkgtest = Autopkgtest {
    source: "",
    test: "",
    command: None,
    images: &["base"],
    files: &[],
    before: "",
    after: "",
    exec: &[],
    user: None,
};

const REDIS: Autopkgtest = Autopkgtest {
    source: "redis",
    images: &["redis"],
    files: &[(
        "/usr/sbin/service",
        "#!/bin/sh
redis-cli SHUTDOWN NOSAVE >/dev/null 2>&1
exec redis-server --daemonize yes --dir /var/lib/redis --logfile /tmp/it/log
",
    )],
    // A volume of the container.
    before: "ln -s ../../tmp/it /var/lib/redis",
    after: "redis-cli SHUTDOWN NOSAVE >/dev/null 2>&1",
    ..PLAIN
};

const RC_NGINX: (&str, &str) = (
    "/usr/sbin/invoke-rc.d",
    "#!/bin/sh
case $2 in
reload) nginx -s reload ;;
restart) nginx -s quit; while test -e /run/nginx.pid; do sleep 1; done; nginx ;;
esac
",
);

const NGINX: Autopkgtest = Autopkgtest {
    source: "nginx",
    images: &["nginx", "curl"],
    files: &[
        RC_NGINX,
        ("/etc/nginx/sites-enabled/default", "server { listen 80; location / { return 200 served; } }\n"),
    ],
    before: "mkdir -p /var/log/nginx; nginx",
    after: "nginx -s stop",
    ..PLAIN
};

const MEMCACHED: Autopkgtest = Autopkgtest {
    source: "memcached",
    after: "kill $(cat /tmp/it/pid)",
    // As root it drops supplementary groups, which the baseline denies to everybody, and ends.
    user: Some(65534),
    ..PLAIN
};

const LIGHTTPD: Autopkgtest = Autopkgtest { source: "lighttpd", images: &["lighttpd", "curl"], ..PLAIN };

const GREP: Autopkgtest = Autopkgtest { source: "grep", ..PLAIN };

const PERL: Autopkgtest = Autopkgtest { source: "perl", images: &["perl", "db-tools"], ..PLAIN };

const APACHE: Autopkgtest = Autopkgtest {
    source: "apache2",
    images: &["apache2", "diffutils"],
    // What the maintainer script of a new installation enables.
    before: "for m in alias auth_basic authn_core authn_file authz_core authz_host authz_user autoindex deflate dir env \
             filter mime mpm_event negotiation reqtimeout setenvif status; do
for e in load conf; do test ! -e /etc/apache2/mods-available/$m.$e ||
ln -sf ../mods-available/$m.$e /etc/apache2/mods-enabled/; done; done; mkdir -p /var/log/apache2 /var/run/apache2",
    ..PLAIN
};

pub(crate) const AUTOPKGTESTS: &[Autopkgtest] = &[
    Autopkgtest { test: "0001-redis-cli", ..REDIS },
    Autopkgtest { test: "0003-redis-check-aof", ..REDIS },
    Autopkgtest { test: "0004-redis-check-rdb", ..REDIS },
    Autopkgtest { test: "0005-cjson", ..REDIS },
    Autopkgtest { test: "light-simple", ..NGINX },
    Autopkgtest {
        test: "ec-x25519",
        images: &["nginx", "curl", "openssl"],
        files: &[
            RC_NGINX,
            ("/etc/nginx/sites-enabled/default", "server { listen 80; }\n"),
            (
                "/etc/nginx/snippets/snakeoil.conf",
                "ssl_certificate /tmp/it/cert;\nssl_certificate_key /tmp/it/key;\n",
            ),
        ],
        before: "mkdir -p /var/log/nginx; nginx; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=it \
                 -keyout /tmp/it/key -out /tmp/it/cert",
        ..NGINX
    },
    Autopkgtest {
        test: "ssi-module-test",
        before: "mkdir -p /var/log/nginx /var/www /tmp/html; ln -s ../../tmp/html /var/www/html; nginx",
        ..NGINX
    },
    Autopkgtest {
        source: "haproxy",
        test: "cli",
        images: &["haproxy", "socat"],
        files: &[("/etc/it.cfg", "global\n  stats socket /run/haproxy/admin.sock mode 600\n")],
        before: "mkdir -p /run/haproxy; haproxy -D -f /etc/it.cfg -p /tmp/it/pid",
        after: "kill $(cat /tmp/it/pid)",
        ..PLAIN
    },
    Autopkgtest {
        test: "client.pl",
        images: &["memcached", "perl", "iproute2"],
        before: "memcached -l 127.0.0.1 -d -P /tmp/it/pid; sleep 2",
        exec: &["ss", "grep"],
        ..MEMCACHED
    },
    Autopkgtest {
        test: "daemon",
        images: &["memcached", "sysvinit"],
        files: &[("/usr/sbin/service", "#!/bin/sh\nexec memcached -l 127.0.0.1 -d -P /tmp/it/pid\n")],
        ..MEMCACHED
    },
    Autopkgtest { test: "serve-static-file", ..LIGHTTPD },
    Autopkgtest { test: "serve-cgi-file", ..LIGHTTPD },
    Autopkgtest { test: "do-not-emit-http-proxy-to-cgi", ..LIGHTTPD },
    Autopkgtest { test: "duplicate-module-load", ..APACHE },
    Autopkgtest { test: "default-mods", ..APACHE },
    Autopkgtest { source: "php8.2", test: "cli", images: &["php"], ..PLAIN },
    Autopkgtest { source: "gzip", test: "simple-gzip", images: &["diffutils"], ..PLAIN },
    Autopkgtest { source: "sed", test: "sub", ..PLAIN },
    Autopkgtest {
        source: "debianutils",
        test: "smoke",
        before: "ln -sf which.debianutils /usr/bin/which",
        ..PLAIN
    },
    Autopkgtest { test: "egrep-fgrep", ..GREP },
    Autopkgtest { test: "stray-backlash-warn", ..GREP },
    Autopkgtest { test: "hello", ..PERL },
    Autopkgtest { test: "compression", ..PERL },
    Autopkgtest { test: "storable", ..PERL },
    Autopkgtest { test: "db", ..PERL },
    Autopkgtest { test: "gdbm", ..PERL },
    Autopkgtest { test: "ndbm", ..PERL },
    Autopkgtest { source: "ruby3.1", test: "builtin-extensions", images: &["ruby"], ..PLAIN },
    Autopkgtest {
        source: "rsync",
        test: "rsync-help",
        command: Some("rsync -h"),
        images: &["rsync"],
        ..PLAIN
    },
    Autopkgtest {
        source: "openjdk-17",
        test: "java --version",
        command: Some("/usr/lib/jvm/java-17-openjdk-amd64/bin/java --version"),
        images: &["java"],
        ..PLAIN
    },
];

/// The same command with a loopback of its own.
fn alone(command: &Command) -> Command {
    let mut alone = Command::new("unshare");
    alone.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    alone.arg(command.get_program()).args(command.get_args()).env_clear();
    alone.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    alone
}

impl Autopkgtest {
    /// The testbed, as nobody has used it.
    fn testbed(&self) -> World {
        let world = World::of(self.images, self.user);
        let script = workspace().join("integration/scripts/corpus.sh");
        run(Command::new(script).args(["--tests", self.source]), MINUTES).unwrap().success().unwrap();
        let tests = workspace().join("target/deps/corpus/.tests").join(self.source);
        // Where the source tree would be.
        fs::create_dir_all(world.root.join("src/debian")).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(&tests).arg(world.root.join("src/debian/tests"));
        run(&mut copy, MINUTES).unwrap().success().unwrap();
        let own = format!("/src/debian/tests/{}", self.test);
        if self.command.is_none() {
            // Once more, as something that is executed.
            world.put(&own, &fs::read(tests.join(self.test)).unwrap());
        }
        for (path, text) in self.files {
            world.put(path, text.as_bytes());
        }
        let wrapper = format!(
            "#!/bin/sh\nexport AUTOPKGTEST_TMP=/tmp/it ADTTMP=/tmp/it\nmkdir -p /tmp/it; cd /src\n{}\n\
             {}\ncode=$?\n{}\nexit $code\n",
            self.before,
            self.command.unwrap_or(&own),
            self.after
        );
        world.put(RUN[1], wrapper.as_bytes());
        world
    }
}

const RUN: [&str; 2] = ["/bin/sh", "/usr/sbin/it"];

/// Recorded, and then confined: the verdict of both is the test's own exit status.
pub(crate) fn autopkgtest(test: &Autopkgtest) -> Value {
    let name = format!("{}: {}", test.source, test.test);
    let free = test.testbed();
    let (profile, file, seconds) = free.generate(&RUN, test.exec);
    let (recorded, trace) = free.traced(&RUN);
    passes(&name, &mut alone(&recorded));
    let mut seen = Run::default();
    seen.add(&free, &trace, true);
    passes(&name, &mut test.testbed().confined(&file, Network::Own, &RUN));
    row(&name, "autopkgtest", &profile, &seen, seconds)
}

fn passes(name: &str, command: &mut Command) {
    let output = run(command, MINUTES).unwrap();
    assert_eq!(output.code(), 0, "{name}: {}{}", output.stdout, output.stderr);
}
