//! Rules of mounts on the real kernel, in forked children: each is for what was mounted. Needs root.

#![allow(clippy::unwrap_used)]

mod child;

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use bulkhead_confine::{ConfineSpec, Prepared};
use bulkhead_model::{ImageAccess, PathAccess, PathRule};
use child::{End, Flaw, enter, in_child, roots, roots_at, spec};

/// For specs that tell nobody.
fn nobody(_: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    unreachable!("no listener was asked for")
}

fn errno(result: io::Result<impl Sized>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => "EACCES".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// What `attempt` says under a rule more, for a mount that has landed there.
fn with_rule(path: &str, landed: &[(&str, &str)], attempt: fn() -> String) -> End {
    let mut spec = spec();
    spec.landlock.paths.push(PathRule { path: path.into(), access: PathAccess::ReadWrite });
    in_child(|| {
        enter(Flaw::None);
        let mut all = roots();
        all.extend(roots_at(landed));
        match Prepared::new(&ConfineSpec::Hardened(spec), &all) {
            Ok(prepared) => {
                prepared.enforce(nobody).unwrap();
                attempt()
            }
            Err(error) => error.to_string(),
        }
    })
}

#[test]
fn rule_of_a_mount_is_for_the_mount_and_for_nothing_that_a_name_or_a_link_leads_to() {
    let open = || errno(fs::write("/open/file", "x"));
    assert_eq!(with_rule("/data", &[("/data", "/open")], open), End::said("ok"), "where it has landed");
    // No mount was made there, and it is no device; nothing is there; a link of the image leads to a mount.
    for path in ["/open", "/nothing", "/etc/open"] {
        assert_eq!(with_rule(path, &[], open), End::said("EACCES"), "{path}");
    }
    // Another mount, a directory that is none, or a link is there by now.
    for at in ["/open", "/var/lib", "/etc/open"] {
        let said = in_child(|| {
            enter(Flaw::None);
            let mut all = roots();
            let mut there = roots_at(&[("/data", "/tmp")]).remove(Path::new("/data")).unwrap();
            if at == "/var/lib" {
                there = roots_at(&[("/data", at)]).remove(Path::new("/data")).unwrap();
            }
            there.at = at.into();
            all.insert("/data".into(), there);
            let mut spec = spec();
            spec.landlock.image = ImageAccess::Files(Default::default());
            spec.landlock.paths.push(PathRule { path: "/data".into(), access: PathAccess::Read });
            Prepared::new(&ConfineSpec::Hardened(spec), &all).unwrap().enforce(nobody).unwrap();
            [errno(File::open("/open/file")), errno(File::open("/var/lib/state"))].join(" ")
        });
        assert_eq!(said, End::said("EACCES EACCES"), "{at}");
    }
}

#[test]
fn rule_for_all_of_root_is_an_error() {
    let said = "Landlock rule for / would hold for the whole of /";
    assert_eq!(with_rule("/", &[], String::new), End::said(said));
    let said = "Landlock rule for /data would hold for the whole of /";
    assert_eq!(with_rule("/data", &[("/data", "/")], String::new), End::said(said));
}
