//! Native extensions of languages where users' images have them: virtual environments, applications with their packages
//! below them, interpreters outside of /usr. Interpreters and extensions are a function by their names.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command as Process,
    sync::LazyLock,
};

use bulkhead_generate::{Access, Command, Layer, Limits, NoCache, Profile, Root, generate};
use tempfile::TempDir;

/// A program, and a library.
static FILES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    [&["-static", "-no-pie"][..], &["-shared", "-fPIC"]].map(|flags| {
        let directory = TempDir::new().unwrap();
        let (source, to) = (directory.path().join("source.c"), directory.path().join("to"));
        fs::write(&source, "void _start(void) { for (;;); }").unwrap();
        let mut cc = Process::new("cc");
        cc.args(["-O1", "-nostdlib", "-o"]).arg(&to).arg(&source).args(flags);
        assert!(cc.status().unwrap().success());
        fs::read(&to).unwrap()
    })
});

struct Image(TempDir);

impl Image {
    /// With an interpreter at this path.
    fn of(interpreter: &str) -> Self {
        let image = Self(TempDir::new().unwrap());
        image.copy(&FILES[0], interpreter);
        image
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn copy(&self, bytes: &[u8], to: &str) {
        fs::write(self.at(to), bytes).unwrap();
        fs::set_permissions(self.at(to), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn put(self, path: &str, text: &str) -> Self {
        fs::write(self.at(path), text).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn link(self, at: &str, to: &str) -> Self {
        symlink(to, self.at(at)).unwrap();
        self
    }

    fn profile(&self, cwd: &str, argv: &[&str]) -> Profile {
        let limits = Limits::everyday();
        let root = Root::of(Layer::open(self.0.path()).unwrap(), &limits);
        let command = Command {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            path: ["/opt/venv/bin", "/usr/local/bin", "/usr/bin"].map(str::to_owned).to_vec(),
            cwd: cwd.to_owned(),
            loader_environment: BTreeMap::new(),
            exec: Vec::new(),
        };
        generate(&root, None, &command, &NoCache, &limits).unwrap()
    }

    /// Whether the extension at that path is of the closure; it is not there before and after.
    fn loads(&self, extension: &str, cwd: &str, argv: &[&str]) -> bool {
        self.copy(&FILES[1], extension);
        let profile = self.profile(cwd, argv);
        fs::remove_file(self.at(extension)).unwrap();
        let member = profile.members.iter().any(|member| member.path == Path::new(extension));
        let read = profile.landlock.rule_for(Path::new(extension)).map(|rule| rule.access);
        assert_eq!(read, member.then_some(Access::Read), "{extension}");
        member
    }
}

#[test]
fn extensions_of_a_virtual_environment_are_those_of_the_python_that_is_called_by_its_link() {
    let image = Image::of("/usr/bin/python3.11")
        .link("/usr/bin/python3", "python3.11")
        .link("/opt/venv/bin/python3", "/usr/bin/python3")
        .link("/opt/venv/bin/python", "python3")
        .put("/opt/venv/bin/serve", "#!/opt/venv/bin/python3\n")
        .put("/start.sh", "#!/usr/bin/sh\nexec python\n");
    image.copy(&FILES[0], "/usr/bin/sh");
    let extension = "/opt/venv/lib/python3.11/site-packages/a/b.cpython-311-x86_64-linux-gnu.so";
    for argv in
        [&["/opt/venv/bin/serve"][..], &["python", "-m", "a"], &["/opt/venv/bin/python3"], &["/start.sh"]]
    {
        assert!(image.loads(extension, "/", argv), "{argv:?}");
    }
    let other = "/srv/other/lib/python3.11/site-packages/a/b.cpython-311-x86_64-linux-gnu.so";
    assert!(!image.loads(other, "/", &["/opt/venv/bin/serve"]));
}

#[test]
fn extensions_below_the_script_or_the_working_directory_are_of_the_closure_and_of_the_systems_directories_not()
 {
    let image = Image::of("/usr/local/bin/python3.11")
        .put("/app/main.py", "")
        .put("/main.py", "")
        .put("/srv/web/bin/serve", "#!/usr/local/bin/python3.11\n");
    assert!(image.loads("/app/fast.abi3.so", "/", &["python3.11", "/app/main.py"]));
    assert!(image.loads("/app/fast.abi3.so", "/app", &["python3.11", "-m", "main"]));
    assert!(image.loads("/app/fast.abi3.so", "/app", &["python3.11", "main.py"]));
    assert!(image.loads("/srv/web/lib/fast.so", "/", &["/srv/web/bin/serve"]));
    assert!(image.loads("/app/fast.abi3.so", "/", &["python3.11", "-m", "main", "--chdir", "/app"]));
    assert!(image.loads("/app/fast.abi3.so", "/", &["python3.11", "-m", "main", "--app-dir=/app"]));
    for (cwd, argv) in [
        ("/", &["python3.11", "-m", "main", "--chdir", "/"][..]),
        ("/", &["python3.11", "-m", "main"]),
        ("/", &["python3.11", "/main.py"]),
        ("/usr/bin", &["python3.11", "/main.py"]),
    ] {
        assert!(!image.loads("/app/fast.abi3.so", cwd, argv), "{cwd} {argv:?}");
    }
}

#[test]
fn extensions_of_where_a_shell_script_goes_and_of_the_scripts_that_it_names_are_of_the_closure() {
    let image = Image::of("/usr/bin/node")
        .put("/app/dist/main.js", "")
        .put("/usr/lib/tool.js", "")
        .put("/entry/run.sh", "#!/usr/bin/sh\ncd /app && exec node dist/main.js\n")
        .put("/entry/named.sh", "exec node --enable-source-maps /app/dist/main.js\n")
        .put("/entry/other.sh", "ls /app; exec node /usr/lib/tool.js\n");
    image.copy(&FILES[0], "/usr/bin/sh");
    let extension = "/app/node_modules/a/a.node";
    for argv in [
        &["sh", "-c", "cd /app; node dist/main.js"][..],
        &["sh", "/entry/run.sh"],
        &["sh", "/entry/named.sh"],
        // The interpreter is looked at before the script that goes there.
        &["sh", "-c", "node; sh /entry/run.sh"],
    ] {
        assert!(image.loads(extension, "/", argv), "{argv:?}");
    }
    for argv in [&["sh", "-c", "ls /app; node main.js"][..], &["sh", "/entry/other.sh"]] {
        assert!(!image.loads(extension, "/", argv), "{argv:?}");
    }
    assert!(!image.loads("/usr/lib/x/a.node", "/", &["sh", "/entry/other.sh"]));
}

#[test]
fn packages_of_node_are_found_above_the_script_and_its_extensions_by_their_name() {
    let image =
        Image::of("/usr/local/bin/node").put("/app/dist/server.js", "").put("/app/package.json", "{}");
    let argv = &["node", "/app/dist/server.js"];
    assert!(image.loads("/app/node_modules/@img/sharp/lib/sharp-linux-x64.node", "/", argv));
    assert!(image.loads(
        "/app/node_modules/.pnpm/a@1/node_modules/b/node_modules/c/build/Release/c.node",
        "/",
        argv
    ));
    assert!(image.loads("/node_modules/a/a.node", "/", argv));
    assert!(image.loads("/app/build/Release/own.node", "/", argv));
    assert!(!image.loads("/app2/node_modules/a/a.node", "/", argv));
    assert!(!Image::of("/usr/bin/other").put("/app/x.js", "").loads(
        "/app/node_modules/a/a.node",
        "/",
        &["other", "/app/x.js"]
    ));
}

#[test]
fn an_interpreter_outside_of_usr_has_the_extensions_of_its_own_prefix() {
    for (interpreter, extension) in [
        (
            "/opt/conda/bin/python3.11",
            "/opt/conda/lib/python3.11/lib-dynload/x.cpython-311-x86_64-linux-gnu.so",
        ),
        ("/opt/jre/bin/java", "/opt/jre/lib/server/libjvm.so"),
        ("/usr/local/openjdk-8/jre/bin/java", "/usr/local/openjdk-8/jre/lib/amd64/server/libjvm.so"),
        ("/opt/ruby/bin/ruby", "/opt/ruby/lib/ruby/3.3.0/x86_64-linux/socket.so"),
        ("/opt/node/bin/node", "/opt/node/lib/node_modules/a/build/Release/a.node"),
    ] {
        let image = Image::of(interpreter);
        assert!(image.loads(extension, "/", &[interpreter, "x"]), "{extension}");
        let elsewhere = extension.replace("/lib/", "/share/");
        assert!(!image.loads(&elsewhere, "/", &[interpreter, "x"]), "{elsewhere}");
    }
}

#[test]
fn what_a_file_of_paths_tells_python_of_is_a_place_of_extensions() {
    let image = Image::of("/usr/local/bin/python3.11");
    let argv = &["python3.11", "-m", "a"];
    assert!(!image.loads("/src/a/fast.abi3.so", "/", argv));
    let image = image.put("/usr/local/lib/python3.11/site-packages/a.pth", "# \nimport os\n/src/a\n/usr\n");
    assert!(image.loads("/src/a/fast.abi3.so", "/", argv));
    assert!(!image.loads("/usr/share/other/fast.abi3.so", "/", argv));
}

#[test]
fn php_has_its_extensions_as_a_server_too() {
    for name in ["php", "php-fpm", "php-fpm8.2", "php-cgi8.2"] {
        let image = Image::of(&format!("/usr/local/sbin/{name}"));
        let argv = &[&*format!("/usr/local/sbin/{name}"), "-F"];
        let extension = "/usr/local/lib/php/extensions/no-debug-non-zts-20220829/opcache.so";
        assert!(image.loads(extension, "/", argv), "{name}");
        assert!(!image.loads("/usr/local/lib/python3.11/x.so", "/", argv), "{name}");
    }
}

/// As those of a JDK are: a few lines around the launcher of libjli.so, which loads the machine.
#[test]
fn programs_that_link_javas_launcher_have_its_machine_and_others_have_not() {
    let image = Image::of("/usr/lib/jvm/17/bin/other");
    let cc = |arguments: &[&str], text: &str| {
        fs::write(image.at("/source.c"), text).unwrap();
        let mut cc = std::process::Command::new("cc");
        let out = cc.arg(image.at("/source.c")).args(arguments).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    for (from, to) in [
        ("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
        ("/lib/x86_64-linux-gnu/libc.so.6", "/lib/libc.so.6"),
    ] {
        image.copy(&fs::read(from).unwrap(), to);
    }
    let (program, library) = ("/usr/lib/jvm/17/bin/javac", "/usr/lib/jvm/17/lib/libjli.so");
    let library = image.at(library).to_string_lossy().into_owned();
    cc(&["-shared", "-Wl,-soname,libjli.so", "-o", &library], "int JLI_Launch(void) { return 0; }");
    let to = image.at(program).to_string_lossy().into_owned();
    let text = "int JLI_Launch(void); int main(void) { return JLI_Launch(); }";
    cc(&[&library, "-Wl,-rpath,$ORIGIN/../lib", "-o", &to], text);
    let machine = "/usr/lib/jvm/17/lib/server/libjvm.so";
    assert!(image.loads(machine, "/", &[program]));
    assert!(!image.loads(machine, "/", &["/usr/lib/jvm/17/bin/other"]));
}
