//! The command line of QEMU.
//!
//! A machine that is saved and one that is restored have the same devices in the same order: all that differs is where
//! the memory's changes go, and that the restored one waits for its state.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bulkhead_integration::HarnessError;

use crate::disk::{Disk, Scratch, kernel_with_selinux};

/// Memory of a machine, in MiB.
const MEMORY_MIB: u32 = 768;

/// How the guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// By the processor.
    Kvm,
    /// By QEMU: some ten times slower, and possible everywhere.
    Tcg,
}

impl Accelerator {
    /// Its name in QEMU.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Where the machine's memory is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory<'a> {
    /// A new file, which will hold all that the machine writes.
    New(&'a Path),
    /// The file of a machine that was saved, which stays as it is.
    CopyOf(&'a Path),
}

/// One machine's parts.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) version: &'a str,
    pub(crate) accelerator: Accelerator,
    pub(crate) memory: Memory<'a>,
    /// What the machine changes on its disk: a qcow2 file.
    pub(crate) changes: &'a Path,
    /// A raw image.
    pub(crate) payload: &'a Path,
}

/// A QEMU that runs; dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Qemu(Child);

impl Qemu {
    /// Starts it, with its sockets and logs in `scratch`. It ends with the thread that started it, too.
    pub(crate) fn start(parts: &Parts<'_>, scratch: &Scratch) -> Result<Self, HarnessError> {
        let log = scratch.file("qemu.log");
        let output = fs::File::create(&log).map_err(HarnessError::at("create", &log))?;
        let errors = output.try_clone().map_err(HarnessError::at("dup", &log))?;
        let mut command = command(parts, scratch);
        let started = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        started.map(Self).map_err(failed)
    }

    /// An error when it has ended.
    pub(crate) fn alive(&mut self, scratch: &Scratch) -> Result<(), HarnessError> {
        let Some(status) = self.0.try_wait().map_err(failed)? else { return Ok(()) };
        let said = fs::read_to_string(scratch.file("qemu.log")).unwrap_or_default();
        Err(HarnessError::Command { line: QEMU.to_owned(), outcome: format!("{status}\n{said}") })
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, within: Duration) -> Result<(), HarnessError> {
        match bulkhead_integration::wait(&mut self.0, within).map_err(failed)? {
            Some(_) => Ok(()),
            None => Err(HarnessError::Timeout { what: "the end of QEMU".to_owned(), within }),
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("vm: end QEMU: {error}");
        }
    }
}

const QEMU: &str = "qemu-system-x86_64";

fn failed(source: std::io::Error) -> HarnessError {
    HarnessError::Run { program: QEMU.to_owned(), source }
}

fn command(parts: &Parts<'_>, scratch: &Scratch) -> Command {
    let Parts { disk, version, accelerator, memory, changes, payload } = parts;
    let path = |name: &str| scratch.file(name).display().to_string();
    let (file, share) = match memory {
        Memory::New(file) => (file, "on"),
        Memory::CopyOf(file) => (file, "off"),
    };
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "--"]).arg(disk.file("qemu")).arg(QEMU);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu.args(["-M", "q35,memory-backend=ram", "-smp", "2", "-m", &format!("{MEMORY_MIB}M")]);
    match accelerator {
        Accelerator::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
        // A model without AVX: fewer instructions to translate, and no crash of newer kernels.
        Accelerator::Tcg => qemu.args(["-accel", "tcg,thread=multi", "-cpu", "Nehalem"]),
    };
    qemu.arg("-object").arg(format!(
        "memory-backend-file,id=ram,size={MEMORY_MIB}M,mem-path={},share={share}",
        file.display()
    ));
    let kernel = kernel_with_selinux(version).unwrap_or(version);
    qemu.arg("-kernel").arg(disk.file(&format!("vmlinuz-{kernel}")));
    qemu.arg("-initrd").arg(disk.file(&format!("initrd-{kernel}")));
    qemu.arg("-append").arg(kernel_line(*accelerator, version));
    // The state of a saved machine holds what was on its disk: changes of a copy go nowhere.
    let snapshot = if matches!(memory, Memory::CopyOf(_)) { "on" } else { "off" };
    qemu.arg("-drive")
        .arg(format!("file={},if=virtio,format=qcow2,cache=unsafe,snapshot={snapshot}", changes.display()));
    qemu.arg("-drive").arg(format!("file={},if=virtio,format=raw,snapshot=on", payload.display()));
    qemu.arg("-serial").arg(format!("file:{}", path("console.log")));
    qemu.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port"]);
    qemu.arg("-chardev").arg(format!("socket,id=port,path={}", path("port")));
    qemu.arg("-chardev").arg(format!("socket,id=monitor,path={}", path("monitor")));
    qemu.args(["-mon", "chardev=monitor,mode=control"]);
    if matches!(memory, Memory::CopyOf(_)) {
        qemu.args(["-incoming", "defer"]);
    }
    qemu
}

/// Makes an empty file of changes to the disk.
pub(crate) fn changes(disk: &Disk, at: &Path) -> Result<(), HarnessError> {
    let mut command = Command::new(disk.file("qemu"));
    command.args(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    command.arg(disk.file("root.ext4")).arg(at);
    bulkhead_integration::run(&mut command, Duration::from_secs(60))?.success().map(drop)
}

fn kernel_line(accelerator: Accelerator, version: &str) -> String {
    let mut line =
        "console=ttyS0 quiet mitigations=off random.trust_cpu=on panic=-1 systemd.show_status=no".to_owned();
    if kernel_with_selinux(version).is_some() {
        // Its policy is loaded by the tests.
        line += " security=selinux selinux=1 enforcing=0";
    }
    if accelerator == Accelerator::Tcg
        && let Some(khz) = tsc_khz()
    {
        // Measured by a guest that the host interrupts, it comes out wrong, and the guest's time stands still.
        line += &format!(" tsc_early_khz={khz} tsc=reliable");
    }
    line
}

/// Frequency of the time stamp counter, which a TCG guest reads as it is.
///
/// A hypervisor shows its guests the counter's own frequency; real hardware shows the processor's, which changes: there
/// the guest measures it.
pub(crate) fn tsc_khz() -> Option<u64> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    if !value("flags")?.split(' ').any(|flag| flag == "hypervisor") {
        return None;
    }
    let (whole, fraction) = value("cpu MHz")?.split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    format!("{whole}{fraction:0<3.3}").parse().ok()
}
