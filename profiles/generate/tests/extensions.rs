//! Native extensions of languages where users' images have them: virtual environments, applications with their packages
//! below them, interpreters outside of /usr. Interpreters and extensions are a function by their names.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
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

    fn profile(&self, environment: &[(&str, &str)], limits: &Limits, cwd: &str, argv: &[&str]) -> Profile {
        let root = Root::of(Layer::open(self.0.path()).unwrap(), limits);
        let command = Command {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            path: ["/opt/venv/bin", "/usr/local/bin", "/usr/bin"].map(str::to_owned).to_vec(),
            cwd: cwd.to_owned(),
            loader_environment: environment.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            exec: Vec::new(),
        };
        generate(&root, None, &command, &NoCache, limits).unwrap()
    }

    /// Whether the extension at that path is of the closure; it is not there before and after.
    fn loads(&self, extension: &str, cwd: &str, argv: &[&str]) -> bool {
        self.loads_with(&[], extension, cwd, argv)
    }

    fn loads_with(&self, environment: &[(&str, &str)], extension: &str, cwd: &str, argv: &[&str]) -> bool {
        self.copy(&FILES[1], extension);
        let profile = self.profile(environment, &Limits::everyday(), cwd, argv);
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
fn extensions_of_a_virtual_environment_of_copies_are_those_of_the_python_that_its_configuration_names() {
    let image = Image::of("/venv/bin/python3").put("/venv/bin/serve", "#!/venv/bin/python3\n");
    let extension = "/opt/py/lib/python3.12/lib-dynload/x.cpython-312-x86_64-linux-gnu.so";
    let linked = "/opt/real/lib/python3.12/lib-dynload/x.cpython-312-x86_64-linux-gnu.so";
    assert!(!image.loads(extension, "/", &["/venv/bin/python3"]));
    let image = image
        .put(
            "/venv/pyvenv.cfg",
            "include-system-site-packages = false\nHome = /opt/py/bin\nversion = 3.12.1\n",
        )
        .link("/opt/py/bin/python3", "/opt/real/bin/python3");
    image.copy(&FILES[0], "/opt/real/bin/python3");
    for argv in [&["/venv/bin/python3", "-m", "a"][..], &["/venv/bin/serve"]] {
        assert!(image.loads(extension, "/", argv), "{argv:?}");
        assert!(image.loads(linked, "/", argv), "{argv:?}");
    }
    let image = image.put("/venv/pyvenv.cfg", "home = /srv/py/bin\nhome = /opt/py/bin\n");
    assert!(!image.loads(extension, "/", &["/venv/bin/python3"]));
    // Beside the program, as one has it whose programs lie in no `bin`.
    let image = Image::of("/env/python3").put("/env/pyvenv.cfg", "home=/opt/py/bin");
    assert!(image.loads(extension, "/", &["/env/python3"]));
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
        .put("/entry/other.sh", "ls /app2; exec node /usr/lib/tool.js\n");
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
    for argv in [&["sh", "-c", "ls app; node main.js"][..], &["sh", "/entry/other.sh"]] {
        assert!(!image.loads(extension, "/", argv), "{argv:?}");
    }
    assert!(!image.loads("/usr/lib/x/a.node", "/", &["sh", "/entry/other.sh"]));
}

#[test]
fn extensions_of_the_directories_that_a_shell_script_names_by_their_path_are_of_the_closure_and_of_shared_ones_not()
 {
    let image = Image::of("/usr/bin/python3").put("/srv/app/main.py", "");
    image.copy(&FILES[0], "/usr/bin/sh");
    image.copy(&FILES[0], "/usr/bin/env");
    let extension = "/srv/vendor/fast.abi3.so";
    for text in [
        "export PYTHONPATH=/srv/vendor; exec python3 -m a",
        "PYTHONPATH=/srv/app:/srv/vendor/ python3 -m a",
        "export PYTHONPATH=\"$PYTHONPATH:/srv/vendor\"; exec \"$@\"",
        "APP=/srv/vendor; cd \"$APP\"; python3 -m a",
        "cd \"${APP:-/srv/vendor}\"; python3 -m a",
        "env -C /srv/vendor python3 -m a",
        "env -C/srv/vendor python3 -m a",
        "exec python3 /srv/vendor",
    ] {
        assert!(image.loads(extension, "/", &["sh", "-c", text, "sh", "python3"]), "{text}");
    }
    for argv in [
        &["env", "PYTHONPATH=/srv/vendor", "python3", "/srv/app/main.py"][..],
        &["env", "-C", "/srv/vendor", "python3", "-m", "a"],
    ] {
        assert!(image.loads(extension, "/", argv), "{argv:?}");
    }
    for text in ["python3 -m a", "PYTHONPATH=/srv/app python3 -m a", "# /srv/vendor\npython3 -m a"] {
        assert!(!image.loads(extension, "/", &["sh", "-c", text]), "{text}");
    }
    assert!(!image.loads(extension, "/", &["env", "PYTHONPATH=/srv/app", "python3"]));
    for shared in ["/opt", "/usr/share", "/usr/lib/x86_64-linux-gnu", "/var/lib"] {
        let text = format!("export PYTHONPATH={shared}; exec python3 -m a");
        assert!(!image.loads(&format!("{shared}/x/fast.so"), "/", &["sh", "-c", &text]), "{shared}");
    }
}

#[test]
fn no_directory_that_many_packages_share_is_a_place_whoever_names_it() {
    let image = Image::of("/usr/local/bin/python3.11")
        .put("/usr/local/lib/python3.11/site-packages/a.pth", "/usr/share\n/opt/../opt\n/linked\n")
        .put("/usr/lib/tool.py", "")
        .link("/linked", "/usr/lib");
    let argv = &["python3.11", "-m", "a"];
    for shared in ["/opt", "/home", "/usr/lib", "/usr/share", "/usr/lib/x86_64-linux-gnu"] {
        let extension = &*format!("{shared}/x/fast.so");
        assert!(!image.loads(extension, shared, argv), "{shared}");
        assert!(!image.loads_with(&[("PYTHONPATH", shared)], extension, "/", argv), "{shared}");
        assert!(!image.loads(extension, "/", argv), "{shared}");
        let below = &*format!("{shared}/x");
        assert!(image.loads(extension, below, argv), "{below}");
        assert!(image.loads_with(&[("PYTHONPATH", below)], extension, "/", argv), "{below}");
    }
    assert!(!image.loads("/usr/lib/x/fast.so", "/linked", argv));
    assert!(!image.loads("/usr/lib/x/fast.so", "/", &["python3.11", "/usr/lib/tool.py"]));
    // What scripts in such a directory look for by its name is theirs.
    let image = Image::of("/usr/bin/node");
    assert!(image.loads("/opt/node_modules/a/a.node", "/opt", &["node", "main.js"]));
    assert!(!image.loads("/opt/a/a.node", "/opt", &["node", "main.js"]));
}

#[test]
fn places_are_walked_once_for_each_interpreter() {
    let starts = 40;
    let mut image = Image::of("/usr/bin/python3");
    image.copy(&FILES[0], "/usr/bin/sh");
    let mut script = String::new();
    for at in 0..starts {
        image = image.put(&format!("/entry/{at}"), &format!("#!/usr/bin/python3 -{at}\n"));
        image = image.put(&format!("/srv/{at}/more.sh"), "");
        script += &format!("/entry/{at}; cd /srv/{at}\n");
    }
    for at in 0..500 {
        image = image.put(&format!("/usr/lib/python3/site-packages/{at}.py"), "");
    }
    let extension = "/srv/7/fast.abi3.so";
    image.copy(&FILES[1], extension);
    let mut limits = Limits::everyday();
    limits.names_max = 10_000;
    let profile = image.profile(&[], &limits, "/", &["sh", "-c", &script]);
    assert!(profile.members.iter().any(|member| member.path == Path::new(extension)));
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
