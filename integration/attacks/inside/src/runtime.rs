//! Writes into the runtime's own file: whoever makes the runtime execute `/proc/self/exe` in the container has a process
//! there that is the runtime, and through its /proc/PID/exe the file of the node.
//!
//! ```text
//! attacker await-runtime    pid 1: a child looks at every process that is not this program
//! HOSTILE                   exec'd by the node: #!/proc/self/exe --log=HELD makes the runtime wait for a reader of HELD
//! attacker runtime-written  what came of it
//! ```
//! Source: CVE-2019-5736.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    time::{Duration, Instant},
};

use crate::{Stop, sys};

/// A FIFO that nobody reads: a runtime that opens it for its log waits.
const HELD: &str = "/tmp/held";

/// Made when no more is to come.
const OVER: &str = "/tmp/over";

/// What came of it.
const REPORT: &str = "/tmp/report";

/// What is added to the runtime's file: at its end, where it harms nobody.
const MARK: &[u8] = b"\nwritten by a container\n";

/// Longer than the node takes to exec a few times.
const WITHIN: Duration = Duration::from_secs(60);

/// How long a runtime is held, so that it is looked at.
const HOLD: Duration = Duration::from_millis(200);

/// As the container's first process: watches in a child.
pub(crate) fn wait() -> ! {
    // Without it the runtime lives shorter, and is looked at all the same.
    drop(sys::fifo(HELD));
    if let Ok(0) = sys::fork() {
        let said = match watch() {
            Ok(()) => "written".to_owned(),
            Err(Stop(by)) => by,
        };
        let half = format!("{REPORT}.half");
        // Unwritten it is told by `report`.
        drop(fs::write(&half, said).and_then(|()| fs::rename(&half, REPORT)));
        // Those that come later must not wait for ever.
        loop {
            let_go();
            std::thread::sleep(HOLD);
        }
    }
    sys::pause()
}

/// Says that no more is to come; what came of it.
pub(crate) fn report() -> io::Result<String> {
    File::create(OVER)?;
    let deadline = Instant::now() + WITHIN / 3;
    while !Path::new(REPORT).exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::read_to_string(REPORT)
}

fn watch() -> Result<(), Stop> {
    let file = look(Instant::now() + WITHIN)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // A file that runs can be written by nobody, but its mode changed: whether its mount is read-only is not hidden by that.
    let mode = file.metadata().map_err(Stop::at("the runtime's file"))?.permissions();
    match fs::set_permissions(&path, mode) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            return Err(Stop::at("change the mode of the runtime's file")(error));
        }
        _ => {}
    }
    loop {
        let_go();
        let over = Path::new(OVER).exists();
        match File::options().append(true).open(&path) {
            // It runs still.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && !over => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(Stop::at("open the runtime's file for writing")(error)),
            Ok(mut file) => return file.write_all(MARK).map_err(Stop::at("write to the runtime's file")),
        }
    }
}

/// The file of a process that is another program than this one.
fn look(deadline: Instant) -> Result<File, Stop> {
    let own = fs::metadata("/proc/self/exe").map_err(Stop::at("/proc/self/exe"))?;
    let mut stopped = Stop::because("no process was the runtime");
    let mut held = Instant::now();
    while Instant::now() < deadline {
        let over = Path::new(OVER).exists();
        for process in fs::read_dir("/proc").map_err(Stop::at("/proc"))?.flatten() {
            if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            match File::open(process.path().join("exe")).and_then(|file| Ok((file.metadata()?, file))) {
                Ok((found, file)) if (found.dev(), found.ino()) != (own.dev(), own.ino()) => return Ok(file),
                // A process that ends has none.
                Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                    stopped = Stop::at("/proc/PID/exe of the runtime")(error);
                }
                _ => {}
            }
        }
        if over {
            break;
        }
        if held.elapsed() > HOLD {
            let_go();
            held = Instant::now();
        }
    }
    Err(stopped)
}

/// A reader comes and goes: whoever waited for one goes on.
fn let_go() {
    drop(File::options().read(true).custom_flags(libc::O_NONBLOCK).open(HELD));
}
