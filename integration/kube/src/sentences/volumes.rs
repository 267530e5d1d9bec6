//! Volumes and ids, as the kubelet makes them for a pod.

#![allow(clippy::unwrap_used)]

use std::{thread, time::Duration};

use bulkhead_integration::{Refused, UID, until};
use serde_json::json;

use crate::{
    node::{Admission, MODEL, Node, TOOLS, Tenant, UNPINNED, WITH_USERS},
    pod::{PAUSE, config_map, mount, pod, push, script, secret},
};

pub(super) fn a_changed_configmap_is_seen_by_the_container_that_runs(node: &Node) {
    let tenant = Tenant::make(node, "live", Admission::Restricted).unwrap();
    tenant.create(&config_map("live", "file", "before")).unwrap();
    let mut pod = pod("reader", TOOLS, &PAUSE);
    mount(&mut pod, "live", json!({ "configMap": { "name": "live" } }), "/live", json!({}));
    tenant.run(&pod).unwrap();
    let read = || tenant.get(&["exec", "reader", "--", "/bin/cat", "/live/file"]);
    assert_eq!(read().unwrap(), "before");
    let patch = json!({ "data": { "file": "after" } }).to_string();
    tenant.get(&["patch", "configmap", "live", "--type=merge", "-p", &patch]).unwrap();
    until("the changed configmap in the container", Duration::from_secs(180), || {
        let seen = read()? == "after";
        if !seen {
            thread::sleep(Duration::from_secs(1));
        }
        Ok(seen)
    })
    .unwrap();
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(tenant.get(&["get", "pod", "reader", "-o", restarts]).unwrap(), "0");
}

pub(super) fn a_pod_without_users_of_the_host_has_ids_of_its_own(node: &Node) {
    let tenant = Tenant::make(node, "ids", Admission::Restricted).unwrap();
    let seen = |name: &str, host_users: bool| {
        let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        let look = format!(
            "cat /proc/self/uid_map; stat -c %u /bin/busybox /work; id -u; touch /work/x; stat -c %u /work/x; \
             test -s {token} && echo token"
        );
        let mut pod = script(name, TOOLS, &look);
        pod["spec"]["hostUsers"] = json!(host_users);
        pod["spec"]["runtimeClassName"] = json!(WITH_USERS);
        mount(&mut pod, "work", json!({ "emptyDir": {} }), "/work", json!({}));
        let text = tenant.output_of(&pod).unwrap();
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let (own, hosts) = (seen("own", false), seen("hosts", true));
    // The same from inside: the image's files are root's, a volume can be written, the token can be read.
    let id = UID.to_string();
    let inside = ["0", "0", &id, &id, "token"];
    assert_eq!((&own[3..], &hosts[3..]), (&inside.map(str::to_owned)[..], &inside.map(str::to_owned)[..]));
    assert_eq!(hosts[..3], ["0", "0", "4294967295"]);
    let first: u32 = own[1].parse().unwrap();
    assert!(own[0] == "0" && own[2] == "65536" && first >= 65536, "{own:?}");
}

pub(super) fn files_of_a_volume_belong_to_its_group_and_to_no_other(node: &Node) {
    let tenant = Tenant::make(node, "groups", Admission::Restricted).unwrap();
    tenant.create(&secret("key", "key", "the key\n")).unwrap();
    let look = "id -G; stat -c %g /work; touch /work/x && stat -c %g /work/x; stat -L -c '%a %g' /key/key; cat /key/key";
    let in_group = |name: &str, group: Option<u32>| {
        let mut pod = script(name, TOOLS, look);
        if let Some(group) = group {
            pod["spec"]["securityContext"]["fsGroup"] = json!(group);
            pod["spec"]["securityContext"]["supplementalGroups"] = json!([4000]);
        }
        mount(&mut pod, "work", json!({ "emptyDir": {} }), "/work", json!({}));
        let key = json!({ "secret": { "secretName": "key", "defaultMode": 0o400 } });
        mount(&mut pod, "key", key, "/key", json!({ "readOnly": true }));
        pod["spec"]["restartPolicy"] = json!("Never");
        pod
    };
    let seen = tenant.output_of(&in_group("member", Some(3000))).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    let mut groups: Vec<&str> = lines[0].split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["3000", "4000", "65532"]);
    assert_eq!(lines[1..], ["3000", "3000", "440 3000", "the key"]);
    // Without the group the file stays root's alone.
    let other = in_group("other", None);
    tenant.create(&other).unwrap();
    let ended = "--for=jsonpath={.status.phase}=Failed";
    tenant.get(&["wait", ended, "pod/other", crate::kubectl::WAIT]).unwrap();
    let seen = tenant.get(&["logs", "other"]).unwrap();
    assert!(seen.contains("400 0") && !seen.contains("the key"), "{seen}");
}

pub(super) fn a_sub_path_shows_its_part_and_no_more(node: &Node) {
    let tenant = Tenant::make(node, "parts", Admission::Anything).unwrap();
    tenant.create(&config_map("parts", "one", "first part\n")).unwrap();
    let mut pod =
        script("parts", TOOLS, "ls /part; cat /file; cat /etc/one; touch /part/new && echo written");
    let work = json!({ "emptyDir": {} });
    mount(&mut pod, "work", work.clone(), "/part", json!({ "subPath": "inner" }));
    let config = json!({ "configMap": { "name": "parts" } });
    mount(&mut pod, "config", config.clone(), "/file", json!({ "subPath": "one" }));
    mount(&mut pod, "config", config, "/etc/one", json!({ "subPath": "one", "readOnly": true }));
    let mut init = pod["spec"]["containers"][0].clone();
    init["name"] = json!("init");
    init["volumeMounts"] = json!([{ "name": "work", "mountPath": "/all" }]);
    init["command"] =
        json!(["/bin/sh", "-c", "mkdir /all/inner /all/other; touch /all/inner/seen; chmod 777 /all/inner"]);
    push(&mut pod["spec"]["initContainers"], init);
    assert_eq!(tenant.output_of(&pod).unwrap(), "seen\nfirst part\nfirst part\nwritten\n");

    // By a directory of the node, which the kubelet binds to the same place for both, no part is shown.
    let mut thief = script("thief", TOOLS, "cat /stolen");
    let host = json!({ "hostPath": { "path": "/etc" } });
    mount(&mut thief, "host", host, "/stolen", json!({ "subPath": "passwd", "readOnly": true }));
    let described = tenant.refusal_of(&thief).unwrap();
    assert_eq!(Refused::read(&described).unwrap().rule(), "mounts", "{described}");
}

pub(super) fn an_image_that_policy_names_is_mounted_as_a_volume_and_another_is_refused(node: &Node) {
    let tenant = Tenant::make(node, "images", Admission::Anything).unwrap();
    let with = |name: &str, image: &str| {
        let mut pod = script(name, TOOLS, "cat /model/files/one; touch /model/new || echo read-only");
        let volume = json!({ "image": { "reference": image, "pullPolicy": "Never" } });
        mount(&mut pod, "model", volume, "/model", json!({}));
        pod
    };
    let seen = tenant.output_of(&with("named", MODEL)).unwrap();
    assert!(seen.starts_with(MODEL) && seen.ends_with("read-only\n"), "{seen}");
    let described = tenant.refusal_of(&with("unnamed", UNPINNED)).unwrap();
    assert_eq!(Refused::read(&described).unwrap().rule(), "image-digest", "{described}");
}
