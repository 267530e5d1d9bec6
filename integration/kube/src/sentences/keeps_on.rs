//! What goes on while the node's own programs do not, and what is left in the end.

#![allow(clippy::unwrap_used)]

use std::{fs, thread, time::Duration};

use bulkhead_integration::until;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    kubectl::WAIT,
    node::{Admission, Node, TOOLS, make_namespace, pods_of_kubelet},
    pod::{pod, script},
};

/// When the pod's container was started, and how often again.
const LIFE: &str = "jsonpath={.status.containerStatuses[0]['containerID','restartCount']}\
    {.status.containerStatuses[0].state.running.startedAt}";

pub(super) fn kubelet_and_containerd_restart_and_no_container_notices(node: &mut Node) {
    make_namespace(node.kubectl(), "restarts", Admission::Restricted).unwrap();
    let mut counter = script("counter", TOOLS, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.5; done");
    counter["spec"]["restartPolicy"] = json!("Always");
    node.kubectl().send("create", &counter, &["-n", "restarts"]).unwrap();
    node.kubectl().get(&["-n", "restarts", "wait", "--for=condition=Ready", "pod/counter", WAIT]).unwrap();
    let life = node.kubectl().get(&["-n", "restarts", "get", "pod", "counter", "-o", LIFE]).unwrap();
    // A kubelet that has just come back knows no pods for a moment.
    let lines = |node: &Node| {
        let log = node.kubectl().ask(&["-n", "restarts", "logs", "counter"]).unwrap().stdout;
        log.lines().map(|line| line.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let before = lines(node).len();
    let old = node.kubelet_pid();
    // Both go, and containerd comes back first, as after an upgrade of the node; then containerd alone dies.
    node.stop_kubelet().unwrap();
    node.daemon_mut().restart_by(Signal::SIGTERM, || Ok(())).unwrap();
    node.start_kubelet().unwrap();
    assert_ne!(node.kubelet_pid(), old);
    let more = |node: &Node, than: usize| {
        until("more lines of the container", Duration::from_secs(180), || {
            thread::sleep(Duration::from_millis(500));
            Ok(lines(node).len() > than)
        })
    };
    more(node, before + 2).unwrap();
    node.daemon_mut().restart().unwrap();
    let between = lines(node).len();
    more(node, between + 2).unwrap();
    let all = lines(node);
    assert!(all.iter().zip(1..).all(|(line, number)| *line == number), "a line is lost: {all:?}");
    // A node that has come back takes new pods, and commands in old ones.
    let later = ["-n", "restarts", "exec", "counter", "--", "/bin/echo", "here"];
    assert_eq!(node.kubectl().get(&later).unwrap(), "here\n");
    node.kubectl()
        .send("create", &pod("later", TOOLS, &["/bin/probe", "true"]), &["-n", "restarts"])
        .unwrap();
    let ended = "--for=jsonpath={.status.phase}=Succeeded";
    node.kubectl().get(&["-n", "restarts", "wait", ended, "pod/later", WAIT]).unwrap();
    let now = node.kubectl().get(&["-n", "restarts", "get", "pod", "counter", "-o", LIFE]).unwrap();
    assert_eq!(now, life);
    node.kubectl().get(&["delete", "namespace", "restarts", WAIT]).unwrap();
}

pub(super) fn nothing_is_left_of_pods_that_were_deleted(node: &mut Node) {
    let own = ["default", "kube-node-lease", "kube-public", "kube-system"];
    until("the end of all tenants", Duration::from_secs(180), || {
        let names = node.kubectl().get(&["get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let none = names.split(' ').all(|name| own.contains(&name));
        if !none {
            thread::sleep(Duration::from_secs(1));
        }
        Ok(none)
    })
    .unwrap();
    let pods = pods_of_kubelet(node.daemon());
    until("empty directories of the kubelet's pods", Duration::from_secs(120), || {
        thread::sleep(Duration::from_millis(500));
        Ok(fs::read_dir(&pods).unwrap().next().is_none())
    })
    .unwrap();
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", node.daemon().pid())).unwrap();
    let below: Vec<&str> = table.lines().filter(|line| line.contains("/var/lib/kubelet/pods/")).collect();
    assert!(below.is_empty(), "{below:#?}");
    let left = node.daemon().leftovers_after(Duration::from_secs(30)).unwrap();
    let shims: Vec<&String> = left.processes.iter().filter(|line| line.contains("shim")).collect();
    assert!(shims.is_empty() && left.sockets.is_empty() && left.directories.is_empty(), "{left}");
    let pods: Vec<_> = left.cgroups.iter().filter(|path| path.to_string_lossy().contains("/pod")).collect();
    assert!(pods.is_empty(), "{pods:#?}");
}
