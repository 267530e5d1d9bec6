//! Everyday images live in restricted pods as they do under runc; what they need beyond their digest is what they say here.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "images/described.rs"]
mod described;
#[path = "images/table.rs"]
mod table;
#[path = "images/trial.rs"]
mod trial;

use std::fs;

use described::{Described, Expected};
use table::{Compared, Row};
use trial::{Node, Setting};

/// Runs it in one setting: without a line first, and with its lines if it says that it needs any.
fn compare(node: &Node, setting: Setting, expected: &Expected) -> Compared {
    let Expected { lines, cannot, runc: not_under_runc } = expected;
    // Its shim may lose a line that is waited for: it is asked again where it is not as it should be.
    let mut runc = node.run("runc", setting, &[]);
    for _ in 0..2 {
        if runc.served() != not_under_runc.is_none() {
            runc = node.run("runc", setting, &[]);
        }
    }
    assert_eq!(runc.served(), not_under_runc.is_none(), "under runc: {runc:?}");
    let without = node.run("bulkhead", setting, &[]);
    let bulkhead = match lines.as_slice() {
        [] => without,
        _ => {
            assert!(!without.served(), "it runs without {lines:?}");
            node.run("bulkhead", setting, lines)
        }
    };
    match (cannot, &not_under_runc) {
        (Some(why), _) => assert!(!bulkhead.served(), "it runs, but is said not to: {why}"),
        (None, Some(_)) => assert!(bulkhead.served(), "{bulkhead:?}"),
        (None, None) => assert_eq!(bulkhead, runc, "under Bulkhead, and under runc"),
    }
    let (lines, cannot, not_under_runc) = (lines.clone(), cannot.clone(), not_under_runc.clone());
    Compared { runc, bulkhead, lines, cannot, not_under_runc }
}

fn lives(name: &str) {
    let described = Described::read(name);
    let node = Node::start(name, &described);
    let pod = compare(&node, Setting::Restricted, &described.pod.expected());
    let says = compare(&node, Setting::AsItSays, &described.says);
    node.bench.assert_nothing_left();
    table::write(&Row { name, described: &described, says, pod });
}

/// A test for each image: those of the short tier, and the others.
macro_rules! images {
    ($($short:ident = $short_name:literal),*; $($long:ident = $long_name:literal),*) => {
        $(#[test] fn $short() { lives($short_name); })*
        $(#[test] #[ignore = "long"] fn $long() { lives($long_name); })*

        const TESTED: &[&str] = &[$($short_name,)* $($long_name),*];
    };
}

images! {
    busybox_lives = "busybox", memcached_lives = "memcached", nginx_lives = "nginx", redis_lives = "redis",
    rust_lives = "rust", shell_lives = "shell";
    caddy_lives = "caddy", cron_cannot = "cron", etcd_lives = "etcd", git_lives = "git", gunicorn_lives = "gunicorn",
    haproxy_lives = "haproxy", httpd_lives = "httpd", job_lives = "job", mariadb_lives = "mariadb",
    mosquitto_lives = "mosquitto", nginx_unprivileged_lives = "nginx-unprivileged", node_lives = "node",
    node_exporter_lives = "node-exporter", php_fpm_lives = "php-fpm", postgres_lives = "postgres",
    prometheus_lives = "prometheus", puma_lives = "puma", rabbitmq_lives = "rabbitmq", tomcat_lives = "tomcat",
    varnish_lives = "varnish"
}

#[test]
fn every_image_has_a_test_and_a_line_of_the_page_that_says_what_is_expected_of_it() {
    let page = fs::read_to_string(table::page()).unwrap();
    let all = Described::all();
    for (name, described) in &all {
        assert!(TESTED.contains(&name.as_str()), "no test runs {name}");
        let line = table::expected_line(name, described);
        assert!(page.lines().any(|found| found.starts_with(&line)), "docs/images.md lacks {line:?}");
    }
    assert_eq!(all.len(), TESTED.len());
    let unchanged = |described: &&Described| {
        let Expected { lines, cannot, .. } = described.pod.expected();
        lines.is_empty() && cannot.is_none()
    };
    assert!(all.values().filter(unchanged).count() * 20 >= all.len() * 18, "18 of 20 are to run unchanged");
}
