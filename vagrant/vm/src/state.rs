//! A machine that was booted once and saved: its memory, its devices, what it changed on its disk.
//!
//! ```text
//! boot (KVM within its deadline, else TCG) ─► systemd says that it runs ─► stop ─► save ─► every restore begins here
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bulkhead_integration::HarnessError;
use nix::fcntl::{Flock, FlockArg};

use crate::{
    disk::Disk,
    machine::Machine,
    payload,
    qemu::{self, Accelerator, Memory, Parts},
};

/// How long a boot may take under TCG on a busy machine.
const BOOT_TCG: Duration = Duration::from_secs(300);

/// How long a boot may take by a KVM that is worth having: a device file alone proves nothing.
const BOOT_KVM: Duration = Duration::from_secs(30);

/// Where a saved machine is.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
    pub(crate) accelerator: Accelerator,
}

impl State {
    /// The saved machine with the kernel `version`; booted and saved where there is none yet.
    pub(crate) fn of(disk: &Disk, version: &str) -> Result<Self, HarnessError> {
        let _lock = lock(&disk.file(&format!("{version}.lock")))?;
        // The counter's frequency is part of what a TCG guest knows; the host's processor of what a KVM guest does.
        let key = |accelerator: Accelerator| {
            let name = format!("state-{version}-{}-{}", accelerator.name(), qemu::tsc_khz().unwrap_or(0));
            disk.file(&name)
        };
        let all = [Accelerator::Kvm, Accelerator::Tcg];
        // A KVM that did not boot a machine is asked again after the next start of the host.
        let no_kvm = disk.file("no-kvm");
        let this_boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let refused = fs::read_to_string(&no_kvm).is_ok_and(|boot| boot == this_boot);
        let worth = |accelerator: &Accelerator| {
            *accelerator == Accelerator::Tcg
                || !refused && fs::File::options().write(true).open("/dev/kvm").is_ok()
        };
        for accelerator in all.into_iter().filter(worth) {
            let dir = key(accelerator);
            if dir.join("complete").exists() {
                return Ok(Self { dir, accelerator });
            }
            match boot(disk, version, accelerator, &dir) {
                Ok(()) => return Ok(Self { dir, accelerator }),
                Err(error) if accelerator == Accelerator::Kvm => {
                    eprintln!("vm: /dev/kvm is there and boots no machine ({error}): going on without");
                    fs::write(&no_kvm, &this_boot).map_err(HarnessError::at("write", &no_kvm))?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(HarnessError::Missing { what: "an accelerator".to_owned(), fix: "see vagrant/README.md" })
    }

    pub(crate) fn memory(&self) -> PathBuf {
        self.dir.join("memory")
    }

    pub(crate) fn changes(&self) -> PathBuf {
        self.dir.join("changes.qcow2")
    }

    pub(crate) fn devices(&self) -> PathBuf {
        self.dir.join("devices")
    }
}

/// One at a time: a second caller finds what the first has saved.
fn lock(path: &Path) -> Result<Flock<fs::File>, HarnessError> {
    let file = fs::File::create(path).map_err(HarnessError::at("create", path))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| HarnessError::at("lock", path)(error.into()))
}

fn boot(disk: &Disk, version: &str, accelerator: Accelerator, to: &Path) -> Result<(), HarnessError> {
    eprintln!("vm: booting kernel {version} under {} once", accelerator.name());
    let began = std::time::Instant::now();
    let scratch = disk.scratch()?;
    let changes = scratch.file("changes.qcow2");
    qemu::changes(disk, &changes)?;
    let placeholder = scratch.file("payload.img");
    payload::image(&placeholder, None)?;
    let parts = Parts {
        disk,
        version,
        accelerator,
        memory: Memory::New(&scratch.file("memory")),
        changes: &changes,
        payload: &placeholder,
    };
    let mut machine = Machine::begin(&parts, disk.scratch()?)?;
    let within = if accelerator == Accelerator::Kvm { BOOT_KVM } else { BOOT_TCG };
    let booted = machine.wait_until_ready(within).and_then(|()| {
        machine.run_or_fail(
            "state=$(systemctl is-system-running --wait)\n\
             [ \"$state\" = running ] || { echo \"$state\"; systemctl --failed; exit 1; }\nsync\n",
        )
    });
    if let Err(error) = booted {
        eprintln!("{}", machine.last_words());
        return Err(error);
    }
    machine.monitor.save(&scratch.file("devices"))?;
    machine.wait()?;
    drop(machine);
    fs::remove_file(&placeholder).map_err(HarnessError::at("remove", placeholder))?;
    let complete = scratch.file("complete");
    fs::write(&complete, "").map_err(HarnessError::at("write", complete))?;
    if to.exists() {
        fs::remove_dir_all(to).map_err(HarnessError::at("remove", to))?;
    }
    scratch.keep_as(to)?;
    eprintln!("vm: booted and saved in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
