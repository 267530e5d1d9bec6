#![allow(clippy::unwrap_used)]

use bulkhead_model::{CompatibleSpec, Credentials};
use oci_spec::runtime::{Mount, MountBuilder};

use super::*;

fn mount(kind: &str, source: &str, at: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
    MountBuilder::default().source(source).destination(at).typ(kind).options(options).build().unwrap()
}

fn compatible() -> ConfineSpec {
    ConfineSpec::Compatible(CompatibleSpec {
        credentials: Credentials { uid: 0, gid: 0, groups: Vec::new() },
        capabilities: Default::default(),
        no_new_privileges: false,
        seccomp: None,
        selinux_label: None,
        user_namespace: None,
    })
}

fn of(mounts: &[Mount], masked: &[&str]) -> Result<Mounts, LaunchError> {
    let mut spec = Spec::default();
    spec.set_mounts(Some(mounts.to_vec()));
    let linux = spec.linux_mut().as_mut().unwrap();
    linux
        .set_masked_paths(Some(masked.iter().map(|path| (*path).to_owned()).collect()))
        .set_readonly_paths(None);
    let images = [ImageVolume {
        source: "/image".into(),
        layers: bulkhead_model::Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: PathBuf::new(),
            options: Vec::new(),
        },
        directory: PathBuf::new(),
    }];
    let sources = Sources {
        roots: &["/srv".into(), "/srv/data".into(), "/srv/dat".into()],
        images: &images,
        copied_up: &BTreeSet::new(),
        identity: IdentityRule::AsIs,
    };
    Mounts::of(&spec, &compatible(), &sources, Path::new("/task"))
}

fn whens(mounts: &[Mount]) -> Vec<(String, When)> {
    let list = of(mounts, &[]).unwrap().list;
    list.into_iter().map(|mount| (mount.destination.display().to_string(), mount.when)).collect()
}

#[test]
fn dev_and_what_is_shared_come_last_with_what_is_below_them_and_no_other() {
    let found = whens(&[
        mount("bind", "/dev", "/dev", &["rbind"]),
        mount("devpts", "devpts", "/dev/pts", &[]),
        mount("bind", "/x", "/dev/x", &["bind"]),
        mount("bind", "/", "/host", &["rbind", "rslave"]),
        mount("bind", "/k", "/var/lib/kubelet", &["rbind", "rshared"]),
        mount("bind", "/l", "/var/lib/kubelet/a", &["rbind"]),
        mount("tmpfs", "tmpfs", "/var/lib/kubelet-not", &[]),
    ]);
    use When::{Both, First, Late};
    let expected = [
        ("/dev", First),
        ("/dev", Late),
        ("/dev/pts", Both),
        ("/dev/x", Late),
        ("/host", First),
        ("/var/lib/kubelet", Late),
        ("/var/lib/kubelet/a", Late),
        ("/var/lib/kubelet-not", First),
    ];
    assert_eq!(found, expected.map(|(at, when)| (at.to_owned(), when)));
    // A file system of its own on /dev is to be filled.
    assert_eq!(whens(&[mount("tmpfs", "tmpfs", "/dev", &["ro"])]), [("/dev".to_owned(), First)]);
}

#[test]
fn path_that_is_masked_below_what_comes_last_is_refused_and_another_is_not() {
    let mounts = [mount("bind", "/k", "/k", &["rbind", "rshared"])];
    of(&mounts, &["/proc/kcore"]).unwrap();
    let error = of(&mounts, &["/k/secret"]).unwrap_err().to_string();
    assert!(error.contains("/k/secret"), "{error}");
}

#[test]
fn source_is_the_node_s_or_an_image_and_a_hardened_one_belongs_to_the_deepest_root_above_it() {
    let list = of(&[mount("bind", "/image", "/i", &["bind"]), mount("bind", "/a", "/b", &["bind"])], &[]);
    let list = list.unwrap().list;
    assert!(matches!(&list[0].what, What::Image { dir, .. } if dir == Path::new("/task/images/0")));
    assert_eq!(list[1].what, What::Bind { path: "/a".into(), links: Links::Node });
    let roots: [PathBuf; 3] = ["/srv".into(), "/srv/data".into(), "/srv/dat".into()];
    let sources =
        Sources { roots: &roots, images: &[], copied_up: &BTreeSet::new(), identity: IdentityRule::AsIs };
    for (source, root) in [("/srv/data/x", "/srv/data"), ("/srv/x", "/srv"), ("/made/by/us", "/made/by/us")] {
        let found = planned(
            0,
            &mount("bind", source, "/x", &["bind"]),
            Level::Hardened,
            &sources,
            Path::new("/task"),
        );
        let links = Links::NodeAsFarAs(root.into());
        assert_eq!(found.unwrap().what, What::Bind { path: source.into(), links });
    }
}
