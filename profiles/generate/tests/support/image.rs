//! Images that are made of a few lines of C. Each function that may run makes a call of its own, which tells it apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command as Process,
};

use bulkhead_generate::{Command, Layer, Limits, NoCache, Profile, Root, generate};
use bulkhead_profiles::syscall_number;
use tempfile::TempDir;

const LOADER: &str = "/lib/ld.so";

/// `call(N)`, as no C library is there to make it.
const CALL: &str = "#define call(n) ({ long r = (n); __asm__ volatile(\"syscall\" : \"+a\"(r) :: \"rcx\", \"r11\", \"memory\"); r; })\n";

/// An image in a directory of its own.
pub(crate) struct Image(TempDir);

impl Image {
    pub(crate) fn new() -> Self {
        let image = Self(TempDir::new().unwrap());
        image.library("lib/ld.so", "void _start(void) {}", &[]);
        image.library("lib/libdl.so", "void *dlopen(const char *n, int f) { return 0; }\nvoid *dlsym(void *h, const char *n) { return 0; }", &[]);
        image
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn cc(&self, to: &str, text: &str, flags: &[&str]) {
        let source = self.root().join("source.c");
        let mut head = CALL.to_owned();
        for name in ["getcwd", "sync", "umask", "sysinfo", "getpriority", "exit"] {
            head += &format!("#define SYS_{name} {}\n", syscall_number(name).unwrap());
        }
        head += "void *dlopen(const char *, int); void *dlsym(void *, const char *);\n";
        fs::write(&source, head + text).unwrap();
        let to = self.root().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let mut cc = Process::new("cc");
        cc.args(["-x", "c", "-O1", "-w", "-fno-stack-protector", "-nostdlib", "-o"]).arg(&to).arg(&source);
        let out = cc.args(["-x", "none", "-L"]).arg(self.root().join("lib")).args(flags).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn library(&self, to: &str, text: &str, flags: &[&str]) {
        let name = Path::new(to).file_name().unwrap().to_str().unwrap();
        let soname = format!("-Wl,-soname,{name}");
        // As of every real library, some data of it has a relocation.
        let text = format!("static void *kept = &kept; void **data(void) {{ return &kept; }}\n{text}");
        self.cc(to, &text, &[&["-shared", "-fPIC", &soname], flags].concat());
    }

    /// `/bin/program`, loaded by the loader above.
    pub(crate) fn program(&self, text: &str, flags: &[&str]) {
        let loader = format!("-Wl,--dynamic-linker,{LOADER}");
        self.cc("bin/program", text, &[&["-pie", "-fPIE", &loader], flags].concat());
    }

    pub(crate) fn calls(&self) -> BTreeSet<String> {
        self.profile(BTreeMap::new()).rows.into_keys().collect()
    }

    pub(crate) fn profile(&self, loader_environment: BTreeMap<String, String>) -> Profile {
        let limits = Limits::everyday();
        let root = Root::of(Layer::open(self.root()).unwrap(), &limits);
        let command = Command {
            argv: vec!["/bin/program".to_owned()],
            path: Vec::new(),
            cwd: "/".to_owned(),
            loader_environment,
            exec: Vec::new(),
        };
        let profile = generate(&root, None, &command, &NoCache, &limits).unwrap();
        assert_eq!(profile.widened, None);
        assert!(profile.unresolved.is_empty(), "{:?}", profile.unresolved);
        profile
    }
}

pub(crate) fn assert_allows(calls: &BTreeSet<String>, yes: &[&str], no: &[&str]) {
    for name in yes {
        assert!(calls.contains(*name), "{name} of {calls:?}");
    }
    for name in no {
        assert!(!calls.contains(*name), "{name} of {calls:?}");
    }
}
