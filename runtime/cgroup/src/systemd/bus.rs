//! A connection to systemd: blocking, one call at a time, every wait bounded. Three calls in the life of a container
//! are not worth a library with threads and an executor, least of all in a process that must have one thread.

use std::{
    io::{self, Read},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::socket::{MsgFlags, send};

use super::message::{self, Argument, Call, ERROR, FIXED_BYTES, Incoming, RETURN, SIGNAL};

/// systemd itself, for root alone. First choice: nobody is between.
///
/// Source: `bus_init_private`, systemd src/core/dbus.c; systemctl and runc use it as well.
const PRIVATE: &str = "/run/systemd/private";

/// The system's bus.
const SYSTEM: &str = "/run/dbus/system_bus_socket";

/// How long a call and the job that it starts may take, in all.
///
/// Source: 30 s, opencontainers/cgroups systemd/common.go.
const ANSWER_MS_MAX: u64 = 30_000;

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Why a call failed.
#[derive(Debug)]
pub(super) enum BusError {
    /// systemd could not be spoken to.
    Broken(String),
    /// systemd said no.
    Refused {
        /// Such as `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// Its words.
        text: String,
    },
}

impl BusError {
    /// Whether systemd gave this error of its own.
    pub(super) fn is(&self, short: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.strip_prefix("org.freedesktop.systemd1.") == Some(short))
    }
}

impl std::fmt::Display for BusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(text) => f.write_str(text),
            Self::Refused { name, text } => write!(f, "{text} ({name})"),
        }
    }
}

/// A connection.
pub(super) struct Bus {
    stream: UnixStream,
    deadline: Instant,
    serial: u32,
    /// Jobs that ended while another answer was waited for: path and result.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// Connects to whichever is there.
    pub(super) fn connect() -> Result<Self, BusError> {
        match Self::connect_to(Path::new(PRIVATE), false) {
            Ok(bus) => Ok(bus),
            Err(private) => Self::connect_to(Path::new(SYSTEM), true)
                .map_err(|system| BusError::Broken(format!("{private}; {system}"))),
        }
    }

    fn connect_to(socket: &Path, is_shared: bool) -> Result<Self, BusError> {
        let failed = |error: io::Error| BusError::Broken(format!("{}: {error}", socket.display()));
        let stream = UnixStream::connect(socket).map_err(failed)?;
        let deadline = Instant::now() + Duration::from_millis(ANSWER_MS_MAX);
        let mut bus = Self { stream, deadline, serial: 0, ended: Vec::new() };
        bus.authenticate().map_err(failed)?;
        if is_shared {
            bus.ask_bus("Hello", &[])?;
            let jobs = format!("type='signal',interface='{MANAGER}',member='JobRemoved'");
            bus.ask_bus("AddMatch", &[Argument::Text(&jobs)])?;
        }
        Ok(bus)
    }

    /// As the uid that the kernel tells the other side.
    fn authenticate(&mut self) -> io::Result<()> {
        let uid: String = nix::unistd::geteuid().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.push(byte[0]);
            if line.len() > 256 {
                return Err(io::Error::other("answers with no line"));
            }
        }
        if !line.starts_with(b"OK ") {
            let text = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(io::Error::other(format!("does not let us in: {text}")));
        }
        self.write(b"BEGIN\r\n")
    }

    /// A worker has SIGPIPE as it was: a systemd that goes away must not end it.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(Duration::from_millis(ANSWER_MS_MAX)))?;
        while !bytes.is_empty() {
            bytes = &bytes[send(self.stream.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?..];
        }
        Ok(())
    }

    /// Fills `buffer` before the deadline.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })
    }

    fn ask_bus(&mut self, member: &str, arguments: &[Argument<'_>]) -> Result<Vec<String>, BusError> {
        self.call(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            arguments,
        })
    }

    /// Calls a method of systemd's manager; the texts of its answer.
    pub(super) fn ask(&mut self, member: &str, arguments: &[Argument<'_>]) -> Result<Vec<String>, BusError> {
        self.call(&Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: MANAGER,
            member,
            arguments,
        })
    }

    /// The same for one that starts a job: waits for its end; how it ended, `done` where all is well.
    pub(super) fn run(&mut self, member: &str, arguments: &[Argument<'_>]) -> Result<String, BusError> {
        let job = self.ask(member, arguments)?.into_iter().next();
        let job = job.ok_or_else(|| BusError::Broken(format!("{member} was answered without a job")))?;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| *ended == job) {
                return Ok(result.clone());
            }
            self.next()?;
        }
    }

    fn call(&mut self, call: &Call<'_>) -> Result<Vec<String>, BusError> {
        self.serial += 1;
        self.deadline = Instant::now() + Duration::from_millis(ANSWER_MS_MAX);
        let broken = |error: io::Error| BusError::Broken(format!("{}: {error}", call.member));
        self.write(&call.encode(self.serial)).map_err(broken)?;
        loop {
            let Incoming { kind, reply_to, error, texts, .. } = self.next()?;
            match kind {
                RETURN if reply_to == self.serial => return Ok(texts),
                ERROR if reply_to == self.serial => {
                    let text = texts.into_iter().next().unwrap_or_default();
                    return Err(BusError::Refused { name: error, text });
                }
                _ => {}
            }
        }
    }

    /// The next message; of a job's end a note is taken.
    fn next(&mut self) -> Result<Incoming, BusError> {
        let broken = |text: String| BusError::Broken(format!("answer: {text}"));
        let mut bytes = vec![0; FIXED_BYTES];
        self.read(&mut bytes).map_err(|error| broken(error.to_string()))?;
        let length = message::length(&bytes).ok_or_else(|| broken("no message".to_owned()))?;
        bytes.resize(length, 0);
        self.read(&mut bytes[FIXED_BYTES..]).map_err(|error| broken(error.to_string()))?;
        let incoming = message::decode(&bytes).ok_or_else(|| broken("no message".to_owned()))?;
        if incoming.kind == SIGNAL
            && incoming.member == "JobRemoved"
            && let [job, _, result] = incoming.texts.as_slice()
        {
            self.ended.push((job.clone(), result.clone()));
        }
        Ok(incoming)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        io::Write as _,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A bus of its own: the same protocol, without systemd on it.
    struct Daemon {
        child: Child,
        dir: tempfile::TempDir,
    }

    impl Daemon {
        fn start() -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            // No service is started on demand.
            let config = dir.path().join("config");
            let text = format!(
                "<busconfig><listen>unix:path={}</listen><policy context='default'><allow send_destination='*'/>\
                 <allow receive_sender='*'/>\
                 <allow own='*'/></policy></busconfig>",
                dir.path().join("bus").display()
            );
            std::fs::write(&config, text).unwrap();
            let mut child = Command::new("dbus-daemon")
                .args(["--nofork", "--nopidfile", "--print-address=1", "--config-file"])
                .arg(&config)
                .stdout(Stdio::piped())
                .spawn()
                .inspect_err(|_| println!("skipped: needs dbus-daemon"))
                .ok()?;
            // It prints its address when it listens.
            let mut byte = [0];
            child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            Some(Self { child, dir })
        }
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    #[test]
    fn a_real_bus_answers_calls_and_refusals() {
        let Some(daemon) = Daemon::start() else { return };
        let mut bus = Bus::connect_to(&daemon.dir.path().join("bus"), true).unwrap();
        let id = bus.ask_bus("GetId", &[]).unwrap();
        assert_eq!(id[0].len(), 32, "{id:?}");
        let owner = bus.ask_bus("GetNameOwner", &[Argument::Text("org.freedesktop.DBus")]).unwrap();
        assert_eq!(owner, ["org.freedesktop.DBus"]);
        let properties = [("Delegate", super::super::message::Value::Flag(true))];
        let arguments = [Argument::Text("a.scope"), Argument::Flag(true), Argument::Properties(&properties)];
        let error = bus.ask("SetUnitProperties", &arguments).unwrap_err();
        assert!(
            matches!(&error, BusError::Refused { name, .. } if name.ends_with("ServiceUnknown")),
            "{error}"
        );
        assert!(!error.is("NoSuchUnit"));
    }

    #[test]
    fn what_is_no_bus_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none");
        assert!(matches!(Bus::connect_to(&path, false), Err(BusError::Broken(_))));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // An end with unread bytes resets the connection.
            let mut byte = [0];
            while byte != *b"\n" {
                stream.read_exact(&mut byte).unwrap();
            }
            stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        });
        let error = Bus::connect_to(&path, false).err().unwrap().to_string();
        assert!(error.contains("REJECTED"), "{error}");
        other.join().unwrap();
    }
}
