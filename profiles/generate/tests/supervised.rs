//! Programs that files tell of: those of supervisors, and those that packages keep for themselves.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;

const TRUE: &str = "/usr/bin/true";

fn put(root: &Path, path: &str, bytes: &[u8], mode: u32) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn image(programs: &[&str], files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for path in programs {
        put(dir.path(), path, &fs::read(TRUE).unwrap(), 0o755);
    }
    put(dir.path(), "/lib64/ld-linux-x86-64.so.2", &fs::read("/lib64/ld-linux-x86-64.so.2").unwrap(), 0o755);
    for (path, text) in files {
        put(dir.path(), path, text.as_bytes(), if text.starts_with("#!") { 0o755 } else { 0o644 });
    }
    dir
}

/// Programs of the closure, and nothing that is loaded.
fn programs(root: &Path, argv: &[&str]) -> BTreeSet<String> {
    let members = support::profile(root, argv, &[]).members;
    let paths = members.into_iter().map(|member| member.path.to_string_lossy().into_owned());
    paths.filter(|path| !path.contains(".so")).collect()
}

fn are(programs: &BTreeSet<String>, expected: &[&str]) {
    assert_eq!(programs.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn programs_of_a_supervisors_file_and_of_what_it_includes_are_of_the_closure_and_others_are_not() {
    let (one, two) = ("/usr/bin/one", "/usr/sbin/two");
    let all = ["/usr/bin/supervisord", one, two, "/usr/bin/sh", "/usr/sbin/other"];
    let main = "[supervisord]\nuser=sh\n;command=/usr/sbin/other\n[program:a]\ncommand = one -v\n[include]\nfiles = /etc/more/*.conf\n";
    let files = [
        ("/etc/supervisor/supervisord.conf", main),
        ("/etc/more/b.conf", "command=\"/usr/sbin/two\" x\n"),
        ("/etc/more/b.off", "command=/usr/sbin/other\n"),
    ];
    let image = image(&all, &files);
    let expected = [one, "/usr/bin/supervisord", two];
    are(&programs(image.path(), &["supervisord", "-n"]), &expected);
    // A file that is named holds instead of nothing, and one that nobody names is not looked at.
    are(&programs(image.path(), &["supervisord", "-c", "/etc/more/b.conf"]), &expected);
    fs::rename(image.path().join("usr/bin/supervisord"), image.path().join("usr/bin/init")).unwrap();
    are(&programs(image.path(), &["init", "--file=/etc/more/b.conf"]), &["/usr/bin/init", two]);
    are(&programs(image.path(), &["init"]), &["/usr/bin/init"]);
}

#[test]
fn services_of_a_directory_that_an_argument_names_are_of_the_closure() {
    let all = ["/usr/bin/runsvdir", "/usr/bin/one", "/usr/bin/sh", "/usr/bin/other"];
    let files = [("/srv/service/a/run", "#!/usr/bin/sh\nexec one\n"), ("/srv/service/a/data", "other")];
    let image = image(&all, &files);
    are(
        &programs(image.path(), &["runsvdir", "/srv/service"]),
        &["/srv/service/a/run", "/usr/bin/one", "/usr/bin/runsvdir", "/usr/bin/sh"],
    );
    are(&programs(image.path(), &["runsvdir", "/srv"]), &["/usr/bin/runsvdir"]);
}

/// As R's own script and gcc have it.
#[test]
fn program_that_a_package_keeps_for_itself_is_of_the_closure_where_one_file_names_it_and_its_directory() {
    let kept = ["/usr/lib/app/bin/exec/real", "/usr/lib/app/other", "/usr/lib/more/real", "/usr/bin/sh"];
    let script = "#!/usr/bin/sh\nhome=/usr/lib/app\nexec ${home}/bin/exec/real\n";
    let image = image(&kept, &[("/usr/bin/app", script)]);
    are(&programs(image.path(), &["app"]), &["/usr/bin/app", "/usr/bin/sh", "/usr/lib/app/bin/exec/real"]);
    // A directory that all packages have programs in is nobody's own.
    put(image.path(), "/usr/bin/app", b"#!/usr/bin/sh\nhome=/usr/lib\nexec $home/more/real\n", 0o755);
    are(&programs(image.path(), &["app"]), &["/usr/bin/app", "/usr/bin/sh"]);
}

/// As PostgreSQL has its pgxs/config/missing, and says of a file that it is missing.
#[test]
fn script_below_a_directory_of_its_own_is_of_the_closure_where_its_directory_is_named_with_it() {
    let real = ["/usr/bin/sh", "/usr/bin/other"];
    let kept = ("/usr/lib/app/config/missing", "#!/usr/bin/sh\nother\n");
    let app = |names: &str| format!("#!/usr/bin/sh\nhome=/usr/lib/app\necho {names}\n");
    let image = image(&real, &[kept, ("/usr/bin/app", &app("missing"))]);
    are(&programs(image.path(), &["app"]), &["/usr/bin/app", "/usr/bin/sh"]);
    put(image.path(), "/usr/bin/app", app("$home/config/missing").as_bytes(), 0o755);
    are(&programs(image.path(), &["app"]), &["/usr/bin/app", "/usr/bin/other", "/usr/bin/sh", kept.0]);
}

/// As git is: one program, that starts itself by the name that lies among its commands.
#[test]
fn of_a_collection_of_programs_only_the_one_that_is_called_as_who_names_it_is_of_the_closure() {
    let kept: Vec<String> = (0..65).map(|number| format!("/usr/lib/app/x{number}")).collect();
    let mut all: Vec<&str> = kept.iter().map(String::as_str).collect();
    all.extend(["/usr/lib/app/app", "/usr/bin/sh"]);
    let image =
        image(&all, &[("/usr/bin/app", "#!/usr/bin/sh\nhome=/usr/lib/app\nPATH=$home:$PATH exec x1\n")]);
    are(&programs(image.path(), &["app"]), &["/usr/bin/app", "/usr/bin/sh", "/usr/lib/app/app"]);
}
