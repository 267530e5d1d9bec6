//! One of each kind of refusal, on the real containerd.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use bulkhead_integration::{BULKHEAD, Digests, Entry, HarnessError, Image, Layer, Refused, until};
use serde_json::json;

use crate::{APP, Stage, wrong};

/// Something that must be refused, and by which rule.
type Case = (&'static str, &'static str, fn(&Stage) -> Result<Refused, HarnessError>);

const CASES: &[Case] = &[
    ("an image whose digest is not listed", "image-digest", unlisted_digest),
    ("an image that no scope names", "image-scope", unnamed_image),
    ("a tag moved after the container was created", "snapshot-chain", moved_tag),
    ("a directory instead of an image", "image-missing", rootfs_directory),
    ("another root file system in the request", "rootfs", other_mounts),
    ("an image whose config was changed on disk", "image-contents", changed_config),
    ("root, where policy says non-root", "user", |stage| stage.run_as_strict(&[])),
    ("a privileged container", "devices|capabilities|namespaces|spec", |stage| stage.run(&["--privileged"])),
    ("an added capability", "capabilities", |stage| stage.run(&["--cap-add", "CAP_SYS_ADMIN"])),
    ("the host's network", "namespaces", |stage| stage.run(&["--net-host"])),
    ("a host device", "devices", |stage| stage.run(&["--device", "/dev/kmsg"])),
    ("a host directory", "mounts", |stage| {
        stage.run(&["--mount", "type=bind,src=/etc,dst=/mnt,options=rbind:ro"])
    }),
    ("an OCI hook", "hooks", |stage| {
        stage.run_edited(|spec| spec["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true" }] }))
    }),
    ("an unsafe sysctl", "sysctl", |stage| {
        stage.run_edited(|spec| spec["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/bin/sh" }))
    }),
    ("a seccomp profile with a notifier", "seccomp", |stage| {
        stage.run_edited(|spec| {
            spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": "/run/notify.sock",
                "syscalls": [{ "names": ["getpid"], "action": "SCMP_ACT_NOTIFY" }],
            });
        })
    }),
    ("a personality", "spec", |stage| {
        stage.run_edited(|spec| spec["linux"]["personality"] = json!({ "domain": "LINUX32" }))
    }),
    ("a command that may not be exec'd", "exec", unnamed_command),
    ("a policy that others can write", "policy", writable_policy),
    ("no policy", "policy", no_policy),
];

pub(crate) fn show(stage: &Stage) -> Result<(), HarnessError> {
    println!("What is refused, and what containerd is told:");
    for (title, rules, attempt) in CASES {
        let refused = attempt(stage)?;
        if !rules.split('|').any(|rule| rule == refused.rule()) {
            return Err(wrong("a refusal by the rule it is about", format!("{title}: {}", refused.line())));
        }
        println!("- {title}\n    {}", refused.line());
    }
    println!();
    Ok(())
}

impl Stage {
    /// `ctr run` of the allowed image with options.
    fn run(&self, options: &[&str]) -> Result<Refused, HarnessError> {
        self.run_image(APP, options)
    }

    /// Under a name whose scope has the default confinement: non-root.
    fn run_as_strict(&self, options: &[&str]) -> Result<Refused, HarnessError> {
        let name = "registry.test/strict/app:1";
        self.daemon.ctr(&["images", "tag", APP, name])?.success()?;
        let refused = self.run_image(name, options)?;
        self.daemon.ctr(&["images", "remove", name])?.success()?;
        Ok(refused)
    }

    pub(crate) fn run_image(&self, image: &str, options: &[&str]) -> Result<Refused, HarnessError> {
        let id = self.daemon.id("refused");
        let mut args = vec!["run", "--rm", "--runtime", BULKHEAD];
        args.extend(options);
        args.extend([image, &id, "/bin/probe", "true"]);
        let output = self.daemon.ctr(&args)?;
        // Some versions of ctr leave the container's record when its task is refused.
        self.daemon.ctr(&["container", "delete", &id])?;
        Refused::of(output)
    }

    /// A container of the allowed image with a spec that `ctr` would not write.
    fn run_edited(&self, edit: fn(&mut serde_json::Value)) -> Result<Refused, HarnessError> {
        let id = self.create("edited")?;
        self.daemon.edit_spec(&id, edit)?;
        self.start_and_delete(&id)
    }

    fn create(&self, name: &str) -> Result<String, HarnessError> {
        let id = self.daemon.id(name);
        let args = ["container", "create", "--runtime", BULKHEAD, APP, &id, "/bin/probe", "true"];
        self.daemon.ctr(&args)?.success()?;
        Ok(id)
    }

    fn start_and_delete(&self, id: &str) -> Result<Refused, HarnessError> {
        let output = self.daemon.ctr(&["task", "start", id])?;
        self.daemon.ctr(&["container", "delete", id])?.success()?;
        Refused::of(output)
    }

    /// Kills, deletes and removes a task with its container.
    pub(crate) fn remove(&self, id: &str) -> Result<(), HarnessError> {
        self.daemon.ctr(&["task", "kill", "-s", "SIGKILL", id])?.success()?;
        until("the end of a killed task", Duration::from_secs(10), || {
            // The exit code of `task delete` is that of the task.
            let deleted = self.daemon.ctr(&["task", "delete", id])?;
            Ok(deleted.ok() || deleted.code() == 137)
        })?;
        self.daemon.ctr(&["container", "delete", id])?.success().map(drop)
    }

    /// The allowed image with one more file, under another name.
    fn import_other(&self, name: &str) -> Result<Digests, HarnessError> {
        let layer = Layer::of(&[Entry::File("etc/planted", 0o644, b"other content\n")])?;
        self.daemon.import(&Image::busybox(name, "")?.with(layer))
    }
}

fn unlisted_digest(stage: &Stage) -> Result<Refused, HarnessError> {
    let name = "registry.test/team-a/other:1";
    stage.import_other(name)?;
    stage.run_image(name, &[])
}

fn unnamed_image(stage: &Stage) -> Result<Refused, HarnessError> {
    let name = "registry.test/team-b/other:1";
    stage.import_other(name)?;
    stage.run_image(name, &[])
}

fn moved_tag(stage: &Stage) -> Result<Refused, HarnessError> {
    let other = "registry.test/moved/other:1";
    stage.import_other(other)?;
    // Made of the other image; then the tag is moved to the allowed one.
    let id = stage.daemon.id("moved");
    let args = ["container", "create", "--runtime", BULKHEAD, other, &id, "/bin/probe", "true"];
    stage.daemon.ctr(&args)?.success()?;
    stage.daemon.ctr(&["images", "tag", "--force", APP, other])?.success()?;
    stage.start_and_delete(&id)
}

fn rootfs_directory(stage: &Stage) -> Result<Refused, HarnessError> {
    let dir = stage.daemon.dir().join("directory");
    fs::create_dir_all(dir.join("bin")).map_err(HarnessError::at("create", &dir))?;
    let path = dir.to_string_lossy().into_owned();
    let id = stage.daemon.id("rootfs");
    let args = ["run", "--rm", "--runtime", BULKHEAD, "--rootfs", &path, &id, "/bin/probe", "true"];
    let output = stage.daemon.ctr(&args)?;
    stage.daemon.ctr(&["container", "delete", &id])?;
    Refused::of(output)
}

fn other_mounts(stage: &Stage) -> Result<Refused, HarnessError> {
    let id = stage.create("mounts")?;
    let tasks = stage.daemon.tasks()?;
    let mut mounts = tasks.mounts(&id)?;
    for mount in &mut mounts {
        mount.options.push("volatile".to_owned());
    }
    let told = match tasks.create(&id, mounts) {
        Ok(_) => return Err(wrong("a refusal, but it was created", id)),
        Err(error) => error.status().map(|status| status.message().to_owned()).unwrap_or_default(),
    };
    stage.daemon.ctr(&["container", "delete", &id])?.success()?;
    Refused::read(&told)
}

fn changed_config(stage: &Stage) -> Result<Refused, HarnessError> {
    let name = "registry.test/team-a/changed:1";
    let layer = Layer::of(&[Entry::File("etc/changed", 0o644, b"to be changed\n")])?;
    let digests = stage.daemon.import(&Image::busybox(name, "")?.with(layer))?;
    let hex = digests.config.trim_start_matches("sha256:");
    let blob = stage.daemon.dir().join("root/io.containerd.content.v1.content/blobs/sha256").join(hex);
    let text = fs::read_to_string(&blob).map_err(HarnessError::at("read", &blob))?;
    // The same length, another command line of the build history: only the hash can tell.
    let changed = text.replacen("bulkhead-integration", "bulkhead-INTEGRATION", 1);
    fs::write(&blob, changed).map_err(HarnessError::at("write", &blob))?;
    stage.run_image(name, &[])
}

fn unnamed_command(stage: &Stage) -> Result<Refused, HarnessError> {
    let id = stage.daemon.id("noexec");
    let args = ["run", "-d", "--runtime", BULKHEAD, APP, &id, "/bin/probe", "pause"];
    stage.daemon.ctr(&args)?.success()?;
    let output = stage.daemon.ctr(&["task", "exec", "--exec-id", "sh", &id, "/bin/sh"])?;
    stage.remove(&id)?;
    Refused::of(output)
}

fn writable_policy(stage: &Stage) -> Result<Refused, HarnessError> {
    let path = stage.daemon.bulkhead_root().join("etc/bulkhead/policy.toml");
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
    mode(0o666).map_err(HarnessError::at("chmod", &path))?;
    let refused = stage.run(&[]);
    mode(0o644).map_err(HarnessError::at("chmod", &path))?;
    refused
}

fn no_policy(stage: &Stage) -> Result<Refused, HarnessError> {
    let path = stage.daemon.bulkhead_root().join("etc/bulkhead/policy.toml");
    fs::remove_file(&path).map_err(HarnessError::at("remove", &path))?;
    let refused = stage.run(&[])?;
    stage.write_policy()?;
    Ok(refused)
}
