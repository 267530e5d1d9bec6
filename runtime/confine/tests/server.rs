//! The server's own confinement on the real kernel, in forked children. Needs root.

#![allow(clippy::unwrap_used, missing_docs)]

mod child;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
};

use bulkhead_confine::{ServerAccess, ServerNeeds, confine_server};
use child::{End, copy_program, in_child};
use nix::mount::{MsFlags, mount};

/// A directory beside the one that may be changed.
fn record(dir: &Path) -> PathBuf {
    dir.with_extension("record")
}

fn needs(dir: &Path) -> ServerNeeds {
    let paths = vec![
        ("/proc".into(), ServerAccess::Read),
        ("/dev/null".into(), ServerAccess::Use),
        ("/lib".into(), ServerAccess::ReadExecute),
        ("/lib64".into(), ServerAccess::ReadExecute),
        ("/usr/lib".into(), ServerAccess::ReadExecute),
        (PathBuf::from("/no/such/path"), ServerAccess::Change),
        (dir.to_owned(), ServerAccess::Change),
        (dir.join("true"), ServerAccess::ReadExecute),
        (record(dir), ServerAccess::Append),
    ];
    ServerNeeds { paths, program: bulkhead_profiles::server_program().unwrap() }
}

/// What `body` says free, and confined.
fn both(body: impl Fn(&Path) -> String) -> (End, End) {
    let dir = tempfile::tempdir().unwrap();
    copy_program("/bin/true", &dir.path().join("true"));
    let free = in_child(|| body(dir.path()));
    let confined = in_child(|| {
        confine_server(&needs(dir.path())).unwrap();
        body(dir.path())
    });
    (free, confined)
}

fn errno<T>(result: std::io::Result<T>) -> String {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(0).to_string(), |_| "0".to_owned())
}

#[test]
fn file_outside_of_the_list_gives_eacces_and_inside_is_written() {
    let outside = |_: &Path| errno(File::open("/etc/shadow"));
    assert_eq!(both(outside), (End::said("0"), End::said(&libc::EACCES.to_string())));
    let inside = |dir: &Path| errno(fs::write(dir.join("new"), "text"));
    assert_eq!(both(inside), (End::said("0"), End::said("0")));
}

#[test]
fn record_is_made_and_appended_to_and_can_be_neither_cut_nor_moved_nor_removed() {
    let append = |dir: &Path| {
        let open = || File::options().append(true).create(true).open(record(dir).join("lines"));
        errno(open().and_then(|_| open()).and_then(|mut file| file.write_all(b"line")))
    };
    let cut = |dir: &Path| {
        let open = File::options().append(true).create(true).open(record(dir).join("lines"));
        errno(open.and_then(|_| File::create(record(dir).join("lines"))))
    };
    let rename = |dir: &Path| {
        let open = File::options().append(true).create(true).open(record(dir).join("lines"));
        errno(open.and_then(|_| fs::rename(record(dir).join("lines"), record(dir).join("old"))))
    };
    let remove = |dir: &Path| {
        let open = File::options().append(true).create(true).open(record(dir).join("lines"));
        errno(open.and_then(|_| fs::remove_file(record(dir).join("lines"))))
    };
    let recorded = |body: &dyn Fn(&Path) -> String| {
        let dir = tempfile::tempdir().unwrap();
        copy_program("/bin/true", &dir.path().join("true"));
        fs::create_dir(record(dir.path())).unwrap();
        let free = in_child(|| body(dir.path()));
        let confined = in_child(|| {
            confine_server(&needs(dir.path())).unwrap();
            body(dir.path())
        });
        fs::remove_dir_all(record(dir.path())).unwrap();
        (free, confined)
    };
    assert_eq!(recorded(&append), (End::said("0"), End::said("0")));
    for denied in [&cut as &dyn Fn(&Path) -> String, &rename, &remove] {
        assert_eq!(recorded(denied), (End::said("0"), End::said(&libc::EACCES.to_string())));
    }
}

#[test]
fn program_outside_of_the_list_gives_eacces_and_inside_runs() {
    let run = |program: &Path| errno(Command::new(program).env_clear().status());
    let outside = |_: &Path| run(Path::new("/bin/true"));
    assert_eq!(both(outside), (End::said("0"), End::said(&libc::EACCES.to_string())));
    let inside = |dir: &Path| run(&dir.join("true"));
    assert_eq!(both(inside), (End::said("0"), End::said("0")));
}

#[test]
fn unix_socket_is_connected_to_and_one_of_the_internet_is_not_made() {
    let unix = |dir: &Path| {
        let path = dir.join("socket");
        let _listener = UnixListener::bind(&path);
        errno(UnixStream::connect(path))
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let confined = in_child(|| {
        confine_server(&needs(dir.path())).unwrap();
        errno(UnixStream::connect(&path))
    });
    assert_eq!(confined, End::said("0"));
    assert_eq!(both(unix).0, End::said("0"));
    let internet = |_: &Path| errno(std::net::UdpSocket::bind(("127.0.0.1", 0)));
    assert_eq!(both(internet), (End::said("0"), End::said(&libc::EAFNOSUPPORT.to_string())));
}

#[test]
fn mount_namespace_and_ptrace_kill() {
    let bind = |dir: &Path| {
        let moved = mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        let _undone = nix::mount::umount(dir);
        errno(moved.map_err(Into::into))
    };
    assert_eq!(both(bind), (End::said("0"), End::Killed(libc::SIGSYS)));
    let unshare =
        |_: &Path| errno(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).map_err(Into::into));
    assert_eq!(both(unshare), (End::said("0"), End::Killed(libc::SIGSYS)));
    let trace = |_: &Path| {
        // SAFETY: PTRACE_TRACEME takes no argument and touches no memory of ours.
        let answer = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
        answer.to_string()
    };
    assert_eq!(both(trace), (End::said("0"), End::Killed(libc::SIGSYS)));
}

#[test]
fn status_of_a_process_of_no_domain_is_read_and_its_root_is_not() {
    let status = |_: &Path| errno(File::open(format!("/proc/{}/status", nix::unistd::getppid())));
    assert_eq!(both(status), (End::said("0"), End::said("0")));
    let root = |_: &Path| errno(fs::read_link(format!("/proc/{}/root", nix::unistd::getppid())));
    assert_eq!(both(root), (End::said("0"), End::said(&libc::EACCES.to_string())));
}

#[test]
fn call_that_no_row_names_is_said_not_to_exist() {
    let unnamed = |_: &Path| {
        // SAFETY: mlockall(2) with flags 0 is refused with EINVAL and touches no memory of ours.
        let answer = unsafe { libc::mlockall(0) };
        format!("{answer} {}", std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    };
    assert_eq!(both(unnamed), (End::said("-1 22"), End::said("-1 38")));
}
