//! What an interpreter does only where a script has the word for it, and what a shell runs of the script that it is given.
//! The interpreter is a few lines of C under its name.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, process::Command as Process};

use bulkhead_generate::Profile;
use bulkhead_profiles::syscall_number;
use tempfile::TempDir;

struct Image(TempDir);

impl Image {
    /// With `/usr/bin/NAME`, which calls by number and by name what its argument says, and exits.
    fn of(name: &str) -> Self {
        let image = Self(TempDir::new().unwrap());
        let call = "#define call(n) ({ long r = (n); __asm__ volatile(\"syscall\" : \"+a\"(r) :: \"rcx\", \"r11\", \"memory\"); r; })\n";
        image.cc("lib/ld.so", &["-shared", "-fPIC", "-Wl,-soname,ld.so"], "void _start(void) {}");
        let number = |name| syscall_number(name).unwrap();
        let library = format!(
            "{call}long syscall(long n) {{ return call(n); }}\nvoid *dlsym(void *h, const char *n) {{ return 0; }}\n\
             void working(void) {{ call({}); }}\nstatic void *kept = &kept; void **data(void) {{ return &kept; }}",
            number("getcwd")
        );
        image.cc("lib/libc.so", &["-shared", "-fPIC", "-Wl,-soname,libc.so"], &library);
        let program = format!(
            "{call}long syscall(long); void *dlsym(void *, const char *);\n\
             static const char *const kept[] = {{ \"working\", \"syscall\" }}; extern const char *volatile word;\n\
             const char *volatile word; void _start(void) {{ word = kept[1]; syscall((long)word); dlsym(0, word); call({}); }}",
            number("exit")
        );
        let flags = ["-pie", "-fPIE", "-Wl,--dynamic-linker,/lib/ld.so"];
        image.cc(&format!("usr/bin/{name}"), &flags, &program);
        image
    }

    fn cc(&self, to: &str, flags: &[&str], text: &str) {
        let (source, to) = (self.0.path().join("source.c"), self.0.path().join(to));
        fs::write(&source, text).unwrap();
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let mut cc = Process::new("cc");
        cc.args(["-O1", "-w", "-fno-stack-protector", "-fno-builtin", "-nostdlib", "-o"])
            .arg(&to)
            .arg(&source);
        let libraries = if to.starts_with(self.0.path().join("usr")) { &["-lc"][..] } else { &[] };
        let out = cc.arg("-L").arg(self.0.path().join("lib")).args(flags).args(libraries).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn profile(&self, argv: &[&str]) -> Profile {
        self.profile_with(argv, &[])
    }

    /// With a command that may be exec'd besides.
    fn profile_with(&self, argv: &[&str], exec: &[&str]) -> Profile {
        support::profile(self.0.path(), argv, exec)
    }

    fn is_known(&self, argv: &[&str]) -> bool {
        let profile = self.profile(argv);
        let calls: BTreeSet<&str> = profile.rows.keys().map(String::as_str).collect();
        assert!(calls.contains("exit"), "{calls:?}");
        assert_eq!(profile.unresolved.is_empty(), profile.widened.is_none());
        profile.widened.is_none()
    }
}

#[test]
fn a_call_by_number_is_out_of_reach_where_no_script_has_the_word_and_in_reach_where_one_has() {
    let image = Image::of("perl");
    assert!(image.is_known(&["perl", "-e", "print 1"]));
    assert!(!image.is_known(&["perl", "-e", "syscall(39)"]));
    image.put("app/plain.pl", "# syscall\nprint 1;\n=pod\n\nsyscall\n\n=cut\n");
    assert!(image.is_known(&["perl", "/app/plain.pl"]));
    image.put("app/lib/Beside.pm", "sub x { syscall(39) }\n1;\n");
    assert!(!image.is_known(&["perl", "/app/plain.pl"]));
}

#[test]
fn a_library_of_the_language_counts_where_a_script_names_it() {
    let image = Image::of("perl");
    image.put("usr/share/perl/5.36/Sys/Hostname.pm", "sub hostname { syscall(39) }\n");
    image.put("usr/share/perl/5.36/Net.pm", "package Net;\nuse Sys::Hostname;\n1;\n");
    assert!(image.is_known(&["perl", "-e", "print 1"]));
    assert!(!image.is_known(&["perl", "-MNet", "-e", "print 1"]));
    assert!(!image.is_known(&["perl", "-e", "use Net; 1"]));
}

#[test]
fn a_script_that_is_not_in_the_image_may_say_anything() {
    let image = Image::of("perl");
    assert!(!image.is_known(&["perl"]));
    assert!(!image.is_known(&["perl", "/data/script.pl"]));
    assert!(!image.is_known(&["perl", "-w"]));
    // A name that ends options of other programs.
    assert!(!image.is_known(&["perl", "-Mre", "/data/script.pl"]));
}

#[test]
fn a_name_that_a_script_asks_for_is_a_word_of_the_script() {
    let image = Image::of("perl");
    let calls = |code: &str| {
        let profile = image.profile(&["perl", "-e", code]);
        assert_eq!(profile.widened, None, "{code}");
        profile.rows.into_keys().collect::<BTreeSet<_>>()
    };
    assert!(calls("dl_find_symbol($x, 'working')").contains("getcwd"));
    assert!(!calls("dl_find_symbol($x, 'other')").contains("getcwd"));
    // The text is in the interpreter, and nobody asks.
    assert!(!calls("print 'working'").contains("getcwd"));
    // And the one that calls by number.
    assert!(!image.is_known(&["perl", "-e", "dl_find_symbol($x, 'syscall')"]));
}

/// The interpreter is looked at before the program that names the script.
#[test]
fn a_script_that_the_data_of_a_later_program_names_counts() {
    let image = Image::of("perl");
    image.put("app/plain.pl", "print 1;\n");
    let call = format!(
        "const char *volatile path = \"/opt/tool/helper.pl\";\n\
         void _start(void) {{ long r = {}; __asm__ volatile(\"syscall\" : \"+a\"(r) :: \"rcx\", \"r11\", \"memory\"); }}",
        syscall_number("execve").unwrap()
    );
    image.cc("usr/sbin/tool", &["-static", "-fno-pie", "-no-pie"], &call);
    let is_known = |script: &str| {
        image.put("opt/tool/helper.pl", script);
        let helper = image.0.path().join("opt/tool/helper.pl");
        fs::set_permissions(helper, fs::Permissions::from_mode(0o755)).unwrap();
        let profile = image.profile_with(&["perl", "/app/plain.pl"], &["/usr/sbin/tool"]);
        let assumed =
            profile.notes.iter().any(|note| note.contains("no code of run time has the word syscall"));
        assert_eq!(profile.widened.is_none(), assumed, "{:?}", profile.notes);
        profile.widened.is_none()
    };
    assert!(is_known("#!/usr/bin/perl\nprint 2;\n"));
    assert!(!is_known("#!/usr/bin/perl\nsyscall(99);\n"));
}

#[test]
fn another_program_has_no_scripts() {
    let image = Image::of("pearl");
    assert!(!image.is_known(&["pearl", "-e", "print 1"]));
}

#[test]
fn the_script_that_a_shell_is_given_is_followed_as_a_word_and_as_a_file() {
    let image = Image::of("sh");
    let call = format!(
        "void _start(void) {{ long r = {}; __asm__ volatile(\"syscall\" : \"+a\"(r) :: \"rcx\", \"r11\", \"memory\"); }}",
        syscall_number("sysinfo").unwrap()
    );
    image.cc("usr/bin/tool", &["-static", "-fno-pie", "-no-pie"], &call);
    image.put("app/run.sh", "set -e\ntool now\n");
    image.put("app/has-run.sh", "sh -e /app/run.sh\n");
    image.put("app/hands-on.sh", "exec \"$@\"\n");
    let runs = |argv: &[&str]| {
        let members = image.profile(argv).members;
        members.iter().any(|member| member.path.ends_with("usr/bin/tool"))
    };
    for argv in [
        &["sh", "-c", "cd /; exec tool x"][..],
        &["sh", "-ec", "tool"],
        &["sh", "-o", "pipefail", "-c", "tool"],
        &["sh", "-c", "\"$0\" \"$@\"", "tool", "x"],
        &["sh", "/app/run.sh"],
        &["sh", "-e", "/app/run.sh", "x"],
        &["sh", "/app/has-run.sh"],
        &["sh", "/app/hands-on.sh", "tool", "x"],
    ] {
        assert!(runs(argv), "{argv:?}");
    }
    for argv in [&["sh", "-c", "cd /; echo x"][..], &["sh", "/app/none.sh"], &["sh", "/app/hands-on.sh", "x"]]
    {
        assert!(!runs(argv), "{argv:?}");
    }
}
