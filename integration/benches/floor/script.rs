//! The kernel calls of a Plan, one a line, in the order in which a container needs them: what floor.c carries out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_integration::{HarnessError, RootMount};
use bulkhead_plan::Plan;
use serde_json::Value;

use super::rights;
use crate::wrong;

// Source: include/uapi/linux/mount.h.
const MS_RDONLY: u64 = 1;
const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_REC: u64 = 1 << 14;
const MS_PRIVATE: u64 = 1 << 18;
const MS_STRICTATIME: u64 = 1 << 24;

// Source: include/uapi/linux/sched.h.
const NAMESPACES: [(&str, u64); 6] = [
    ("mount", 0x0002_0000),
    ("cgroup", 0x0200_0000),
    ("uts", 0x0400_0000),
    ("ipc", 0x0800_0000),
    ("pid", 0x2000_0000),
    ("network", 0x4000_0000),
];

// Source: include/uapi/asm-generic/resource.h.
const RLIMITS: [(&str, u64); 4] =
    [("RLIMIT_CORE", 4), ("RLIMIT_NPROC", 6), ("RLIMIT_NOFILE", 7), ("RLIMIT_MEMLOCK", 8)];

/// Source: OCI runtime spec, config-linux.md, "Default Devices".
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Source: OCI runtime spec, runtime-linux.md, "Dev symbolic links".
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// The script; seccomp programs are files in `dir`, below which the root is mounted.
pub(super) fn of(plan: &Plan, rootfs: &[RootMount], dir: &Path) -> Result<String, HarnessError> {
    let json =
        |value: Result<Value, serde_json::Error>| value.map_err(|error| wrong("a plan", error.to_string()));
    let spec = json(serde_json::to_value(plan.spec()))?;
    let confine = json(serde_json::to_value(plan.confine()))?;
    // By level, where there is more than one.
    let confine = confine.get("hardened").unwrap_or(&confine);
    let root = dir.join("root");
    fs::create_dir_all(&root).map_err(HarnessError::at("create", &root))?;
    let [overlay] = rootfs else { return Err(wrong("one overlay mount", format!("{rootfs:?}"))) };
    let layers: Vec<PathBuf> = overlay
        .options
        .iter()
        .filter_map(|option| option.strip_prefix("lowerdir="))
        .flat_map(|layers| layers.split(':').map(PathBuf::from))
        .collect();

    let mut script = Script::default();
    let groups = script.cgroup(&spec)?;
    script.namespaces(&spec)?;
    script.add(["propagation", &format!("{:#x}", MS_REC | MS_PRIVATE)]);
    let at = root.display().to_string();
    let flags = format!("{:#x}", MS_NOSUID | MS_NODEV);
    script.add(["mount", "overlay", &at, "overlay", &flags, &overlay.options.join(",")]);
    script.mounts(&spec, &root, &layers)?;
    script.devices(&root);
    if new_network(&spec) {
        script.add(["loopback"]);
    }
    script.add(["pivot", &at]);
    script.inside(&spec)?;
    script.confined(&spec, confine, &layers, dir)?;
    script.add(["execve", "/bin/probe", "true"]);
    script.add(["after"]);
    groups.iter().for_each(|group| script.add(["rmdir", group]));
    Ok(script.0)
}

#[derive(Default)]
struct Script(String);

impl Script {
    fn add<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        let words: Vec<&str> = words.into_iter().collect();
        self.0 += &words.join("\t");
        self.0.push('\n');
    }

    /// Makes and limits the control group, and starts the worker that joins it; its directories.
    fn cgroup(&mut self, spec: &Value) -> Result<Vec<String>, HarnessError> {
        let top = Path::new("/sys/fs/cgroup");
        let path = text(&spec["linux"]["cgroupsPath"]).trim_start_matches('/').to_owned();
        let parent = Path::new(&path).parent().unwrap_or(Path::new("")).to_owned();
        let unified = top.join("cgroup.controllers").exists();
        let mut tops = vec![top.to_owned()];
        if !unified {
            let entries = fs::read_dir(top).map_err(HarnessError::at("read", top))?;
            tops = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|dir| dir.join("tasks").exists())
                .collect();
            tops.sort();
        }
        let mut groups = Vec::new();
        for top in tops {
            self.add(["mkdir", &top.join(&parent).display().to_string(), "755"]);
            let group = top.join(&path).display().to_string();
            self.add(["mkdir", &group, "755"]);
            self.limits(spec, &top, &group)?;
            groups.push(group);
        }
        if unified {
            self.add(["worker", &groups[0]]);
        } else {
            self.add(["worker"]);
            groups.iter().for_each(|group| self.add(["write", &format!("{group}/tasks"), "0"]));
        }
        Ok(groups)
    }

    /// Limits of one hierarchy. A Plan with one that is not known here has no floor.
    fn limits(&mut self, spec: &Value, top: &Path, group: &str) -> Result<(), HarnessError> {
        let resources = spec["linux"]["resources"].as_object().cloned().unwrap_or_default();
        if let Some(other) = resources.keys().find(|key| !["devices", "pids"].contains(&key.as_str())) {
            return Err(wrong("limits that the floor knows", other.as_str()));
        }
        let name = top.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "cpuset" {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let path = top.join(file);
                let value = fs::read_to_string(&path).map_err(HarnessError::at("read", &path))?;
                self.add(["write", &format!("{group}/{file}"), value.trim()]);
            }
        }
        let is = |controller: &str| name.split(',').any(|name| name == controller);
        if (is("pids") || name == "cgroup")
            && let Some(limit) = resources.get("pids").and_then(|pids| pids["limit"].as_i64())
        {
            self.add(["write", &format!("{group}/pids.max"), &limit.to_string()]);
        }
        if is("devices") {
            for rule in resources.get("devices").and_then(Value::as_array).into_iter().flatten() {
                let number =
                    |key: &str| rule[key].as_i64().map_or("*".to_owned(), |number| number.to_string());
                let (file, line) = match rule["type"].as_str() {
                    None => ("devices.deny", "a".to_owned()),
                    Some(kind) => (
                        "devices.allow",
                        format!("{kind} {}:{} {}", number("major"), number("minor"), text(&rule["access"])),
                    ),
                };
                self.add(["write", &format!("{group}/{file}"), &line]);
            }
        }
        Ok(())
    }

    fn namespaces(&mut self, spec: &Value) -> Result<(), HarnessError> {
        let mut flags = 0;
        for namespace in rows(&spec["linux"]["namespaces"]) {
            let kind = text(&namespace["type"]);
            let known = NAMESPACES.iter().find(|(name, _)| *name == kind && namespace["path"].is_null());
            flags |= known.ok_or_else(|| wrong("new namespaces only", namespace.to_string()))?.1;
        }
        self.add(["init", &format!("{flags:#x}")]);
        Ok(())
    }

    fn mounts(&mut self, spec: &Value, root: &Path, layers: &[PathBuf]) -> Result<(), HarnessError> {
        for mount in rows(&spec["mounts"]) {
            let destination = text(&mount["destination"]);
            let inside = destination.trim_start_matches('/');
            let at = root.join(inside).display().to_string();
            let (flags, bind, data) = options(mount)?;
            let in_image = layers.iter().any(|layer| layer.join(inside).exists());
            if bind {
                self.add(["file", &at]);
                self.add(["bind", &text(&mount["source"]), &at, &format!("{flags:#x}")]);
                continue;
            }
            if !in_image {
                self.add(["mkdir", &at, "755"]);
            }
            let (source, kind) = (text(&mount["source"]), text(&mount["type"]));
            self.add(["mount", &source, &at, &kind, &format!("{flags:#x}"), &data]);
        }
        Ok(())
    }

    fn devices(&mut self, root: &Path) {
        let dev = |name: &str| root.join("dev").join(name).display().to_string();
        self.add(["umask", "0"]);
        for (name, major, minor) in DEVICES {
            self.add(["mknod", &dev(name), "20666", &major.to_string(), &minor.to_string()]);
        }
        for (target, name) in LINKS {
            self.add(["symlink", target, &dev(name)]);
        }
    }

    fn inside(&mut self, spec: &Value) -> Result<(), HarnessError> {
        let linux = &spec["linux"];
        for (name, value) in linux["sysctl"].as_object().into_iter().flatten() {
            self.add(["write", &format!("/proc/sys/{}", name.replace('.', "/")), &text(value)]);
        }
        rows(&linux["readonlyPaths"]).iter().for_each(|path| self.add(["read-only", &text(path)]));
        rows(&linux["maskedPaths"]).iter().for_each(|path| self.add(["mask", &text(path)]));
        let mut attributes = MS_NOSUID | MS_NODEV;
        if spec["root"]["readonly"] == true {
            attributes |= MS_RDONLY;
        }
        self.add(["attributes", "/", &format!("{attributes:#x}")]);
        if let Some(name) = spec["hostname"].as_str().filter(|name| !name.is_empty()) {
            self.add(["hostname", name]);
        }
        for limit in rows(&spec["process"]["rlimits"]) {
            let kind = text(&limit["type"]);
            let known = RLIMITS.iter().find(|(name, _)| *name == kind);
            let number = known.ok_or_else(|| wrong("rlimits that the floor knows", kind.as_str()))?.1;
            self.add(["rlimit", &number.to_string(), &limit["soft"].to_string(), &limit["hard"].to_string()]);
        }
        let umask = spec["process"]["user"]["umask"].as_u64().unwrap_or(0o022);
        self.add(["umask", &format!("{umask:o}")]);
        self.add(["chdir", &text(&spec["process"]["cwd"])]);
        Ok(())
    }

    fn confined(
        &mut self,
        spec: &Value,
        confine: &Value,
        layers: &[PathBuf],
        dir: &Path,
    ) -> Result<(), HarnessError> {
        let ids = &confine["credentials"];
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
        self.add(["bounding", last.trim()]);
        let groups: Vec<String> = rows(&ids["groups"]).iter().map(Value::to_string).collect();
        self.add(std::iter::once("groups").chain(groups.iter().map(String::as_str)));
        self.add(["gid", &ids["gid"].to_string()]);
        self.add(["uid", &ids["uid"].to_string()]);
        self.add(["capabilities"]);
        self.add(["no_new_privs"]);
        let mounts: Vec<String> =
            rows(&spec["mounts"]).iter().map(|mount| text(&mount["destination"])).collect();
        rights::lines(&confine["landlock"], layers, &mounts)?
            .iter()
            .for_each(|line| self.add([line.as_str()]));
        let programs = rows(&confine["seccomp"]);
        if programs.is_empty() {
            return Err(wrong("seccomp programs", "none"));
        }
        for (number, program) in programs.iter().enumerate() {
            let words = rows(program).iter().filter_map(Value::as_u64);
            // A u64 of the Plan is a `sock_filter` as the kernel lays it out on this little-endian machine.
            let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            let path = dir.join(format!("seccomp-{number}"));
            fs::write(&path, bytes).map_err(HarnessError::at("write", &path))?;
            self.add(["seccomp", &number.to_string(), &path.display().to_string()]);
        }
        Ok(())
    }
}

/// Flags, whether it is a bind mount, and what is the file system's own.
fn options(mount: &Value) -> Result<(u64, bool, String), HarnessError> {
    let (mut flags, mut bind, mut data) = (0, false, Vec::new());
    for option in rows(&mount["options"]) {
        match option.as_str().unwrap_or_default() {
            "nosuid" => flags |= MS_NOSUID,
            "nodev" => flags |= MS_NODEV,
            "noexec" => flags |= MS_NOEXEC,
            "ro" => flags |= MS_RDONLY,
            "strictatime" => flags |= MS_STRICTATIME,
            "bind" => bind = true,
            "private" | "rw" | "relatime" => {}
            "rbind" => return Err(wrong("mounts that the floor knows", mount.to_string())),
            other => data.push(other.to_owned()),
        }
    }
    Ok((flags, bind, data.join(",")))
}

fn new_network(spec: &Value) -> bool {
    rows(&spec["linux"]["namespaces"])
        .iter()
        .any(|namespace| namespace["type"] == "network" && namespace["path"].is_null())
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
