//! Sources of bind mounts: this pod's own and policy's, no others.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn host_directory_is_bound_only_if_policy_names_it() {
    let run = || Run::new(example::request());
    assert!(run().one(&bind("/srv/data")).is_err());
    let (options, rule) = run().host_path("/srv", MountAccess::ReadWrite).one(&bind("/srv/data")).unwrap();
    assert_eq!(options, "rbind,rprivate,nosuid,nodev,noexec,rnosuid,rnodev,rnoexec");
    assert_eq!(rule, Some(PathAccess::ReadWrite));
    assert!(run().host_path("/srv", MountAccess::ReadWrite).one(&bind("/srvdata")).is_err());
    assert!(run().host_path("/srv", MountAccess::ReadWrite).one(&bind("/srv/../etc")).is_err());
    assert!(run().host_path("/srv/data", MountAccess::ReadWrite).one(&bind("/srv")).is_err());
}

#[test]
fn host_directory_that_policy_names_read_only_is_bound_so() {
    let run = Run::new(example::request()).host_path("/srv", MountAccess::ReadOnly);
    let (options, rule) = run.one(&bind("/srv/data")).unwrap();
    assert_eq!(options, "rbind,rprivate,nosuid,nodev,noexec,ro,rnosuid,rnodev,rnoexec,rro");
    assert_eq!(rule, Some(PathAccess::Read));
    let both = run.host_path("/srv/data", MountAccess::ReadWrite);
    assert_eq!(both.one(&bind("/srv/data")).unwrap().1, Some(PathAccess::Read), "the stricter entry counts");
}

#[test]
fn containerds_and_the_kubelets_directories_are_no_host_paths_whatever_policy_names() {
    let run = Run::new(example::request())
        .host_path("/run", MountAccess::ReadOnly)
        .host_path("/", MountAccess::ReadOnly);
    for source in ["/", "/run", "/run/containerd/containerd.sock", "/var", "/var/lib/kubelet/pods/other"] {
        assert!(run.one(&bind(source)).is_err(), "{source} was accepted");
    }
    assert!(run.one(&bind("/run/udev")).is_ok());
}

#[test]
fn containerds_files_of_this_sandbox_are_bound_and_no_others() {
    let run = Run::new(in_pod());
    let (root, state) =
        ("/var/lib/containerd/io.containerd.grpc.v1.cri", "/run/containerd/io.containerd.grpc.v1.cri");
    for source in [
        format!("{root}/sandboxes/s1/hostname"),
        format!("{root}/sandboxes/s1/hosts"),
        format!("{root}/sandboxes/s1/resolv.conf"),
        format!("{state}/sandboxes/s1/shm"),
        format!("{root}/containers/c1/volumes/0a1b"),
    ] {
        let (options, _) = run.one(&bind(&source)).unwrap();
        assert!(options.contains("noexec"), "{source}");
        let mut foreign = example::request();
        foreign.kind = run.request.kind.clone();
        assert!(Run::new(foreign).one(&bind(&source)).is_err(), "{source} outside of k8s.io");
    }
    for source in [
        format!("{root}/sandboxes/s2/hosts"),
        format!("{root}/sandboxes/s1"),
        format!("{root}/sandboxes/s1/hosts/x"),
        format!("{root}/containers/c2/volumes/0a1b"),
        format!("{root}/containers/c1"),
        format!("{root}/sandboxes/s1/../s2/hosts"),
    ] {
        assert!(run.one(&bind(&source)).is_err(), "{source} was accepted");
    }
}

#[test]
fn kubelets_files_of_this_pod_are_bound_and_no_others() {
    let run = Run::new(in_pod());
    let pod = format!("/var/lib/kubelet/pods/{UID}");
    for source in [
        format!("{pod}/etc-hosts"),
        format!("{pod}/containers/app/1a2b3c"),
        format!("{pod}/volumes/kubernetes.io~empty-dir/cache"),
        format!("{pod}/volumes/kubernetes.io~projected/kube-api-access-x"),
        format!("{pod}/volumes/kubernetes.io~csi/pvc-1/mount"),
    ] {
        assert_eq!(run.one(&bind(&source)).unwrap().1, Some(PathAccess::ReadWrite), "{source}");
    }
    for source in [
        pod.clone(),
        format!("{pod}/volumes"),
        format!("{pod}/volumes/kubernetes.io~local-volume/x"),
        format!("{pod}/volumeDevices/kubernetes.io~csi/x"),
        format!("{pod}/plugins/x"),
        "/var/lib/kubelet/pods/11111111-7a51-4a0e-9d8c-3f1f6f0b9a11/etc-hosts".to_owned(),
        "/var/lib/kubelet/pki/kubelet.key".to_owned(),
        format!("{pod}/volumes/kubernetes.io~secret/../../../x/etc-hosts"),
    ] {
        assert!(run.one(&bind(&source)).is_err(), "{source} was accepted");
    }
}

#[test]
fn uid_annotation_is_believed_only_inside_containerds_cri_namespace_and_a_pod() {
    let source = format!("/var/lib/kubelet/pods/{UID}/etc-hosts");
    assert!(Run::new(in_pod()).one(&bind(&source)).is_ok());
    let mut elsewhere = in_pod();
    elsewhere.tenant = example::tenant("default");
    assert!(Run::new(elsewhere).one(&bind(&source)).is_err());
    let mut plain = in_pod();
    plain.kind = ContainerKind::Plain;
    assert!(Run::new(plain).one(&bind(&source)).is_err());
    for uid in ["", ".", "..", "a/b", &"a".repeat(65)] {
        let mut strange = in_pod();
        strange
            .spec
            .annotations_mut()
            .as_mut()
            .unwrap()
            .insert("io.kubernetes.cri.sandbox-uid".into(), uid.into());
        assert!(Run::new(strange).one(&bind("/var/lib/kubelet/pods/a/b/etc-hosts")).is_err(), "{uid:?}");
    }
}

#[test]
fn script_of_a_read_only_config_map_may_run_and_a_program_in_an_empty_dir_may_not() {
    let run = Run::new(in_pod());
    let volume = |kind: &str, options: &[&str]| {
        let source = format!("/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~{kind}/v");
        run.one(&mount("/data", "bind", &source, options)).unwrap().1.unwrap()
    };
    assert_eq!(volume("configmap", &["rbind", "ro"]), PathAccess::ReadExecute);
    assert_eq!(volume("configmap", &["rbind", "ro", "noexec"]), PathAccess::Read);
    assert_eq!(volume("configmap", &["rbind", "rw"]), PathAccess::ReadWrite);
    assert_eq!(volume("empty-dir", &["rbind", "ro"]), PathAccess::Read);
}

#[test]
fn sub_path_is_judged_by_what_it_shows() {
    let pod = format!("/var/lib/kubelet/pods/{UID}");
    let table = format!(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
         40 22 8:1 {pod}/volumes/kubernetes.io~empty-dir/e/d {pod}/volume-subpaths/e/app/0 rw - ext4 /dev/sda1 rw\n\
         41 22 8:1 /etc {pod}/volume-subpaths/h/app/1 rw - ext4 /dev/sda1 rw\n\
         42 22 8:1 /srv/x {pod}/volume-subpaths/h/app/2 rw - ext4 /dev/sda1 rw\n"
    );
    let mut run = Run::new(in_pod()).host_path("/srv", MountAccess::ReadOnly);
    let of = |place: &str| bind(&format!("{pod}/volume-subpaths/{place}"));
    assert!(run.one(&of("e/app/0")).is_err(), "without a mount table");
    run.host.mountinfo = Some(table);
    assert_eq!(run.one(&of("e/app/0")).unwrap().1, Some(PathAccess::ReadWrite));
    assert!(run.one(&of("h/app/1")).is_err(), "a hostPath by a detour");
    assert_eq!(run.one(&of("h/app/2")).unwrap().1, Some(PathAccess::Read), "policy names it");
    assert!(run.one(&of("e/app")).is_err());
}

#[test]
fn mount_table_is_needed_for_sub_paths_alone() {
    let mut request = example::request();
    assert!(!needs_mountinfo(&request));
    let sub_path = bind("/var/lib/kubelet/pods/u/volume-subpaths/v/c/0");
    request.spec.mounts_mut().as_mut().unwrap().push(sub_path);
    assert!(needs_mountinfo(&request));
}

#[test]
fn id_mapped_mount_is_refused() {
    let mut asked = mount("/x", "tmpfs", "tmpfs", &[]);
    asked.set_uid_mappings(Some(vec![oci_spec::runtime::LinuxIdMapping::default()]));
    assert!(Run::new(example::request()).all(&[asked]).unwrap_err().what.contains("id-mapped"));
}

#[test]
fn propagation_to_the_host_is_refused_and_from_the_host_cut() {
    let run = Run::new(example::request()).host_path("/srv", MountAccess::ReadWrite);
    let asked = |option| mount("/data", "bind", "/srv/data", &["rbind", option]);
    assert!(run.one(&asked("rshared")).is_err());
    assert!(run.one(&asked("rslave")).unwrap().0.starts_with("rbind,rprivate,"));
}

#[test]
fn image_volume_that_policy_let_in_is_read_only_and_no_other_place_of_the_plugins_is_a_source() {
    let place = |name: &str| format!("/run/containerd/io.containerd.grpc.v1.cri/image-volumes/s1/{name}");
    let mut run = Run::new(in_pod());
    assert!(run.one(&bind(&place("a"))).is_err(), "no image was verified");
    run.image_volumes.push(image_volume(&place("a"), "overlay"));
    let (options, rule) = run.one(&bind(&place("a"))).unwrap();
    assert_eq!(options, "rbind,rprivate,nosuid,nodev,noexec,ro,rnosuid,rnodev,rnoexec,rro");
    assert_eq!(rule, Some(PathAccess::Read));
    for other in ["b", "a/etc", ""] {
        assert!(run.one(&bind(&place(other))).is_err(), "{other}");
    }
}

#[test]
fn image_volume_has_the_label_for_files_of_its_container() {
    let mut linux = Linux::default();
    let volumes = [image_volume("/s", "overlay"), image_volume("/s", "bind")];
    linux.set_mount_label(Some(String::new()));
    assert_eq!(labelled(&volumes, &linux), volumes);
    linux.set_mount_label(Some("a:b:c:s0".to_owned()));
    let labelled = labelled(&volumes, &linux);
    assert_eq!(labelled[0].layers.options, ["ro", "context=\"a:b:c:s0\""]);
    assert_eq!(labelled[1], volumes[1]);
}

fn image_volume(source: &str, kind: &str) -> ImageVolume {
    let options = vec!["ro".to_owned()];
    let layers =
        bulkhead_model::Mount { kind: kind.into(), source: kind.into(), target: PathBuf::new(), options };
    ImageVolume { source: source.into(), layers, directory: PathBuf::new() }
}
