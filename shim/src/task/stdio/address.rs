//! What containerd's client names as a process's streams, read.
//!
//! ```text
//! ""                               /dev/null
//! /path                            a FIFO; the process gets it, but for the outputs of an exec, which are copied into it
//! file:///path                     a file; standard error, where there is one, goes there too
//! binary:///path?arg=value…        a logger, which gets both outputs (binary-v2: one that must say that it is ready)
//! ttrpc+unix:///path?streaming_id= a stream of this server's own streaming service
//! ```
//! As in runc's shim the kind of standard output decides for standard error too.
//!
//! Invariant: pure; nothing is opened here.

use std::path::{Path, PathBuf};

use bulkhead_launch::{Log, LogProgram, Ready, Stdio, Stream};

use super::super::{TaskError, process::StdioPaths};

/// Longest id of a stream, in bytes: containerd's are a container's id and a word.
pub(super) const STREAM_ID_BYTES_MAX: usize = 256;

/// What kind of process they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A container's first. All that has its streams ends with it.
    Init,
    /// One that is exec'd. What it leaves behind may keep its streams for ever.
    Exec,
}

/// Whose streams they are, and where this server is found.
#[derive(Clone, Copy)]
pub(crate) struct Whose<'a> {
    /// What kind of process.
    pub(crate) role: Role,
    /// Id of the container or exec.
    pub(crate) id: &'a str,
    /// containerd's namespace.
    pub(crate) namespace: &'a str,
    /// The server's socket.
    pub(crate) socket: &'a Path,
}

/// What is to be launched, and which streams of the streaming service it is to be joined to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// For the worker.
    pub(crate) stdio: Stdio,
    /// Id of the stream that is standard input.
    pub(crate) stdin: Option<String>,
    /// Of standard output.
    pub(crate) stdout: Option<String>,
    /// Of standard error.
    pub(crate) stderr: Option<String>,
}

/// One address.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Null,
    Fifo(PathBuf),
    Log(Log),
    Stream(String),
}

impl Addresses {
    /// Reads them.
    pub(crate) fn of(paths: &StdioPaths, whose: Whose<'_>) -> Result<Self, TaskError> {
        let StdioPaths { stdin, stdout, stderr, terminal } = paths;
        let (stdin, stdin_stream) = match Address::of(stdin, whose)? {
            Address::Log(_) => return Err(wrong(stdin, "a log is no standard input")),
            other => plain(other, Role::Init),
        };
        // A terminal is copied anyway.
        let role = if *terminal { Role::Init } else { whose.role };
        let (stdout, stdout_stream, log) = match Address::of(stdout, whose)? {
            Address::Log(log) => (Stream::Log, None, Some(log)),
            other => {
                let (stream, id) = plain(other, role);
                (stream, id, None)
            }
        };
        let (stderr, stderr_stream) = match &log {
            // A terminal has one output.
            _ if *terminal => (Stream::Null, None),
            Some(Log::Program(_)) => (Stream::Log, None),
            Some(Log::File(_)) if stderr.is_empty() => (Stream::Null, None),
            Some(Log::File(_)) => (Stream::Log, None),
            None => match Address::of(stderr, whose)? {
                Address::Log(_) => {
                    return Err(wrong(
                        stderr,
                        "standard error goes to a log only where standard output does",
                    ));
                }
                other => plain(other, role),
            },
        };
        Ok(Self {
            stdio: Stdio { terminal: *terminal, stdin, stdout, stderr, log },
            stdin: stdin_stream,
            stdout: stdout_stream,
            stderr: stderr_stream,
        })
    }
}

fn plain(address: Address, role: Role) -> (Stream, Option<String>) {
    match (address, role) {
        (Address::Null | Address::Log(_), _) => (Stream::Null, None),
        (Address::Fifo(path), Role::Init) => (Stream::Fifo(path), None),
        (Address::Fifo(path), Role::Exec) => (Stream::Copied(path), None),
        (Address::Stream(id), _) => (Stream::Pipe, Some(id)),
    }
}

impl Address {
    fn of(text: &str, whose: Whose<'_>) -> Result<Self, TaskError> {
        if text.is_empty() {
            return Ok(Self::Null);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return match Path::new(text).is_absolute() {
                true => Ok(Self::Fifo(PathBuf::from(text))),
                false => Err(wrong(text, "the path of a FIFO must be absolute")),
            };
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place =
            place.strip_prefix("localhost/").map_or_else(|| place.to_owned(), |path| format!("/{path}"));
        let path = decoded(&place, Plus::IsItself).ok_or_else(|| wrong(text, "not percent-encoded text"))?;
        if !path.starts_with('/') {
            return Err(wrong(text, "the path must be absolute, with three slashes before it"));
        }
        let query = pairs(query).ok_or_else(|| wrong(text, "not a query of percent-encoded text"))?;
        match scheme {
            "file" => Ok(Self::Log(Log::File(path.into()))),
            "binary" | "binary-v2" => {
                let ready = if scheme == "binary" { Ready::SaidOrClosed } else { Ready::Said };
                Ok(Self::Log(Log::Program(LogProgram {
                    path: path.into(),
                    args: query.into_iter().flat_map(|(key, value)| [key, value]).collect(),
                    id: whose.id.to_owned(),
                    namespace: whose.namespace.to_owned(),
                    ready,
                })))
            }
            "ttrpc+unix" => stream(text, &path, query, whose.socket),
            scheme if scheme.starts_with("ttrpc+") || scheme.starts_with("grpc+") => {
                Err(wrong(text, "this shim serves streams by ttrpc+unix, at its own socket"))
            }
            _ => Err(wrong(text, "streams are FIFOs, file://, binary://, binary-v2:// or ttrpc+unix://")),
        }
    }
}

/// The streaming service is this server's: no other address is connected to, whoever asks.
fn stream(text: &str, path: &str, query: Vec<(String, String)>, socket: &Path) -> Result<Address, TaskError> {
    // Components: containerd writes one slash more than there is.
    if !Path::new(path).components().eq(socket.components()) {
        return Err(wrong(text, &format!("this shim's streams are at {}", socket.display())));
    }
    let id = query.into_iter().find(|(key, _)| key == "streaming_id").map(|(_, id)| id);
    match id {
        Some(id) if !id.is_empty() && id.len() <= STREAM_ID_BYTES_MAX => Ok(Address::Stream(id)),
        _ => Err(wrong(text, "streaming_id is missing, empty or too long")),
    }
}

fn wrong(text: &str, why: &str) -> TaskError {
    let mut shown = text.to_owned();
    if shown.len() > 200 {
        shown = shown.chars().take(200).chain("…".chars()).collect();
    }
    TaskError::InvalidArgument(format!("stdio {shown}: {why}"))
}

/// Keys with the first value of each, in their order.
///
/// Source: `NewBinaryCmd`, containerd cmd/containerd-shim-runc-v2/process/io_util.go (there in the order of a Go map).
fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    let mut found: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decoded(key, Plus::IsSpace)?, decoded(value, Plus::IsSpace)?);
        if found.iter().all(|(seen, _)| *seen != key) {
            found.push((key, value));
        }
    }
    Some(found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    IsSpace,
    IsItself,
}

/// Percent-decoded text, without a zero byte.
fn decoded(text: &str, plus: Plus) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            b'+' if plus == Plus::IsSpace => b' ',
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_of(
        role: Role,
        stdin: &str,
        stdout: &str,
        stderr: &str,
        terminal: bool,
    ) -> Result<Addresses, TaskError> {
        let paths =
            StdioPaths { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into(), terminal };
        let socket = Path::new("/run/containerd/s/abc");
        Addresses::of(&paths, Whose { role, id: "box", namespace: "tenants", socket })
    }

    fn read(stdin: &str, stdout: &str, stderr: &str, terminal: bool) -> Result<Addresses, TaskError> {
        read_of(Role::Init, stdin, stdout, stderr, terminal)
    }

    fn refused(stdin: &str, stdout: &str, stderr: &str) -> String {
        match read(stdin, stdout, stderr, false) {
            Err(TaskError::InvalidArgument(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fifos_and_nothing_are_taken_as_they_are() {
        let found = read("/f/in", "/f/out", "", false).unwrap().stdio;
        assert_eq!(found.stdin, Stream::Fifo("/f/in".into()));
        assert_eq!((found.stdout, found.stderr), (Stream::Fifo("/f/out".into()), Stream::Null));
        assert!(refused("", "f/out", "").contains("absolute"));
    }

    #[test]
    fn outputs_of_an_exec_are_copied_and_its_input_and_terminal_are_not() {
        let exec = |terminal| read_of(Role::Exec, "/f/in", "/f/out", "/f/err", terminal).unwrap().stdio;
        let found = exec(false);
        assert_eq!(found.stdin, Stream::Fifo("/f/in".into()));
        assert_eq!(
            (found.stdout, found.stderr),
            (Stream::Copied("/f/out".into()), Stream::Copied("/f/err".into()))
        );
        let found = exec(true);
        assert_eq!(
            (found.stdin, found.stdout),
            (Stream::Fifo("/f/in".into()), Stream::Fifo("/f/out".into()))
        );
    }

    #[test]
    fn terminal_has_one_output() {
        let found = read("/f/in", "/f/out", "/f/err", true).unwrap().stdio;
        assert!(found.terminal);
        assert_eq!(found.stderr, Stream::Null);
    }

    #[test]
    fn logger_gets_both_outputs_its_arguments_and_who_it_is_for() {
        let found = read("/f/in", "binary:///bin/log%20it?a=b+c&d=%2F&a=2&e", "", false).unwrap().stdio;
        assert_eq!((&found.stdout, &found.stderr), (&Stream::Log, &Stream::Log));
        let Some(Log::Program(program)) = found.log else { panic!() };
        assert_eq!(program.path, Path::new("/bin/log it"));
        assert_eq!(program.args, ["a", "b c", "d", "/", "e", ""]);
        assert_eq!((program.id.as_str(), program.namespace.as_str()), ("box", "tenants"));
        assert_eq!(program.ready, Ready::SaidOrClosed);
        let found = read("", "binary-v2:///bin/log", "", false).unwrap().stdio;
        assert!(matches!(found.log, Some(Log::Program(LogProgram { ready: Ready::Said, .. }))));
    }

    #[test]
    fn file_takes_standard_error_only_where_there_is_one() {
        let found = read("", "file:///var/log/x+y", "", false).unwrap().stdio;
        assert_eq!((found.stderr, found.log), (Stream::Null, Some(Log::File("/var/log/x+y".into()))));
        assert_eq!(read("", "file:///x", "file:///x", false).unwrap().stdio.stderr, Stream::Log);
        assert_eq!(
            read("", "file://localhost/x", "", false).unwrap().stdio.log,
            Some(Log::File("/x".into()))
        );
    }

    #[test]
    fn log_is_no_input_and_standard_error_has_none_of_its_own() {
        assert!(refused("file:///x", "", "").contains("no standard input"));
        assert!(refused("", "/f/out", "file:///x").contains("only where standard output does"));
        assert!(refused("", "", "binary:///x").contains("only where standard output does"));
    }

    #[test]
    fn stream_of_this_server_is_joined_and_none_of_another_is() {
        let address = |id: &str| format!("ttrpc+unix:///run/containerd/s/abc?streaming_id={id}");
        let found = read(&address("in"), &address("out"), &address("err"), false).unwrap();
        assert_eq!(
            found.stdio,
            Stdio { stdin: Stream::Pipe, stdout: Stream::Pipe, stderr: Stream::Pipe, ..Stdio::NULL }
        );
        assert_eq!(found.stdin.as_deref(), Some("in"));
        assert_eq!((found.stdout.as_deref(), found.stderr.as_deref()), (Some("out"), Some("err")));
        let other = "ttrpc+unix:///run/containerd/containerd.sock.ttrpc?streaming_id=x";
        assert!(refused("", other, "").contains("/run/containerd/s/abc"));
        assert!(refused("", &address(""), "").contains("streaming_id"));
        assert!(refused("", &address(&"x".repeat(300)), "").contains("streaming_id"));
        assert!(refused("", "grpc+vsock://3:1024?streaming_id=x", "").contains("three slashes"));
        assert!(refused("", "grpc+unix:///run/x?streaming_id=x", "").contains("ttrpc+unix"));
    }

    #[test]
    fn malformed_and_unknown_addresses_are_refused() {
        for (address, why) in [
            ("ftp:///x", "streams are FIFOs"),
            ("file://relative/x", "three slashes"),
            ("binary://", "three slashes"),
            ("file:///%zz", "percent"),
            ("file:///%0", "percent"),
            ("file:///a%00b", "percent"),
            ("file:///%ff", "percent"),
            ("binary:///x?a=%", "percent"),
        ] {
            assert!(refused("", address, "").contains(why), "{address}");
        }
    }
}
