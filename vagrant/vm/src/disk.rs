//! The disk that machines boot from, and the place of what is kept beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bulkhead_integration::{HarnessError, workspace};

/// The machines: a kernel of the disk, with AppArmor as Debian has it, or with SELinux in its place.
pub(crate) const MACHINES: [&str; 3] = ["6.1", "6.12", "6.12-selinux"];

/// The kernel of a machine, if it is one with SELinux.
pub(crate) fn kernel_with_selinux(machine: &str) -> Option<&str> {
    machine.strip_suffix("-selinux")
}

/// What disk.sh made: it names the directory by its own content.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// Has it made where it is not there yet.
    pub(crate) fn made() -> Result<Self, HarnessError> {
        let script = workspace().join("vagrant/vm/disk.sh");
        let failed = |source| HarnessError::Run { program: script.display().to_string(), source };
        // Its complaints go where ours go.
        let output = Command::new(&script).stderr(std::process::Stdio::inherit()).output().map_err(failed)?;
        if !output.status.success() {
            let (line, outcome) = (script.display().to_string(), output.status.to_string());
            return Err(HarnessError::Command { line, outcome });
        }
        Ok(Self { dir: PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()) })
    }

    /// A file of it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A directory for one machine that runs; gone with the [`Scratch`].
    pub(crate) fn scratch(&self) -> Result<Scratch, HarnessError> {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("run-").and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(HarnessError::at("remove", path))?;
            }
        }
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.dir.join(format!("run-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(HarnessError::at("create", &path))?;
        Ok(Scratch(path))
    }
}

/// A directory that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Keeps it, under another name.
    pub(crate) fn keep_as(&self, path: &Path) -> Result<(), HarnessError> {
        fs::rename(&self.0, path).map_err(HarnessError::at("rename to", path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            eprintln!("vm: remove {}: {error}", self.0.display());
        }
    }
}
