//! What the server itself holds while a container runs, read from the kernel.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use bulkhead_integration::{Bench, Cri, child_named, on_each_containerd};

/// CAP_DAC_OVERRIDE, KILL, SETGID, SETUID, SETPCAP.
///
/// Source: include/uapi/linux/capability.h.
const SERVER_CAPABILITIES: u64 = 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;

/// A line of `/proc/<pid>/status`.
fn line(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

fn set(pid: u32, field: &str) -> u64 {
    u64::from_str_radix(&line(pid, field), 16).unwrap()
}

on_each_containerd! {
    fn the_server_is_filtered_and_holds_five_capabilities_and_its_zygote_keeps_what_it_mounts_with(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("held", &["/bin/probe", "pause"]).unwrap();
        let tasks = bench.daemon.ctr(&["task", "ls"]).unwrap().success().unwrap().stdout;
        let row = tasks.lines().find(|row| row.starts_with(&id)).unwrap();
        let init: u32 = row.split_whitespace().nth(1).unwrap().parse().unwrap();

        // The parent of a container's init is the server.
        let server: u32 = line(init, "PPid").parse().unwrap();
        assert_eq!(line(server, "Seccomp"), "2");
        assert_eq!(line(server, "Seccomp_filters"), "1");
        assert_eq!(line(server, "NoNewPrivs"), "1");
        assert_eq!(line(server, "Threads"), "1");
        for field in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(set(server, field), SERVER_CAPABILITIES, "{field}");
        }
        for field in ["CapInh", "CapAmb"] {
            assert_eq!(set(server, field), 0, "{field}");
        }

        // The other side: the zygote, forked before, is not confined, and a container gets nothing of either.
        let zygote = child_named(server, "bulkhead-zygote").unwrap();
        assert_eq!((line(zygote, "Seccomp").as_str(), line(zygote, "NoNewPrivs").as_str()), ("0", "0"));
        assert_eq!(set(zygote, "CapEff") >> 21 & 1, 1, "CAP_SYS_ADMIN");
        assert_eq!(set(init, "CapBnd"), 0);

        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }
}
