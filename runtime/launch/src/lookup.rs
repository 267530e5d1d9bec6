//! Which file execve(2) is given, and which environment: looked up inside the container, without the C library.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::Process;

use crate::derive::HOME_PLACEHOLDER;

/// Where a name without slash is looked for when the process has no PATH.
///
/// Source: execvp(3) of glibc, `confstr(_CS_PATH)`.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// Most bytes of /etc/passwd that are read: it is the image's.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// Everything that execve(2) takes.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
}

/// Why a program cannot be run; the text is what runc says, which clients of containerd know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoProgram {
    pub(crate) errno: i32,
    pub(crate) message: String,
}

impl Program {
    /// Looks it up in the root and working directory of this process.
    pub(crate) fn of(process: &Process) -> Result<Self, NoProgram> {
        let argv = process.args().as_deref().unwrap_or_default();
        let name = argv.first().map(String::as_str).unwrap_or_default();
        let envp = environment(process);
        let path = envp.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(PATH_DEFAULT);
        let found = find(name, path)?;
        let null = |what: &str| NoProgram {
            errno: libc::EINVAL,
            message: format!("exec: {name:?}: {what} holds a zero byte"),
        };
        let strings = |list: &[String], what| -> Result<Vec<CString>, NoProgram> {
            list.iter().map(|s| CString::new(s.as_bytes()).map_err(|_| null(what))).collect()
        };
        Ok(Self {
            path: CString::new(found.as_os_str().as_bytes()).map_err(|_| null("path"))?,
            argv: strings(argv, "an argument")?,
            envp: strings(&envp, "the environment")?,
        })
    }

    /// The same, run by the small init at `init`. Whether there is such a program was seen before.
    pub(crate) fn under(self, init: &Path) -> Result<Self, NoProgram> {
        let null =
            |_| NoProgram { errno: libc::EINVAL, message: "exec: a path holds a zero byte".to_owned() };
        let name = CString::new(bulkhead_init::NAME).map_err(null)?;
        let argv = [name, self.path].into_iter().chain(self.argv).collect();
        let path = CString::new(init.as_os_str().as_bytes()).map_err(null)?;
        Ok(Self { path, argv, envp: self.envp })
    }
}

/// The environment in its order; of several entries for one name the last counts, as for the shell. HOME is
/// filled in from /etc/passwd.
fn environment(process: &Process) -> Vec<String> {
    let given = process.env().as_deref().unwrap_or_default();
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut envp: Vec<String> = Vec::with_capacity(given.len());
    for entry in given {
        match envp.iter_mut().find(|known| name(known) == name(entry)) {
            Some(known) => known.clone_from(entry),
            None => envp.push(entry.clone()),
        }
    }
    let no_home = |entry: &String| entry == "HOME=" || entry.strip_prefix("HOME=") == Some(HOME_PLACEHOLDER);
    if let Some(index) = envp.iter().position(no_home) {
        let home = home(process.user().uid()).unwrap_or_else(|| "/".to_owned());
        envp[index] = format!("HOME={home}");
    }
    envp
}

/// The home directory that the image's /etc/passwd has for `uid`.
fn home(uid: u32) -> Option<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/etc/passwd")
        .ok()?;
    file.metadata().ok()?.is_file().then(|| passwd_home(file, uid)).flatten()
}

fn passwd_home(file: File, uid: u32) -> Option<String> {
    let mut text = Vec::new();
    file.take(PASSWD_BYTES_MAX).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let matches = fields.len() == 7 && fields[2].parse() == Ok(uid) && fields[5].starts_with('/');
        matches.then(|| fields[5].to_owned())
    })
}

/// Finds the file that `name` means.
fn find(name: &str, path: &str) -> Result<PathBuf, NoProgram> {
    if name.is_empty() {
        return Err(NoProgram { errno: libc::ENOENT, message: "exec: no command was given".to_owned() });
    }
    if name.contains('/') {
        return executable(Path::new(name)).map(|()| PathBuf::from(name)).map_err(|error| NoProgram {
            errno: error.raw_os_error().unwrap_or(libc::EACCES),
            message: format!("exec: {name:?}: stat {name}: {}", plain(&error)),
        });
    }
    let mut denied = false;
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let file = Path::new(dir).join(name);
        match executable(&file) {
            Ok(()) => return Ok(file),
            Err(error) => denied |= error.kind() == io::ErrorKind::PermissionDenied && file.exists(),
        }
    }
    Err(match denied {
        true => {
            NoProgram { errno: libc::EACCES, message: format!("exec: {name:?}: permission denied in $PATH") }
        }
        false => NoProgram {
            errno: libc::ENOENT,
            message: format!("exec: {name:?}: executable file not found in $PATH"),
        },
    })
}

fn executable(file: &Path) -> io::Result<()> {
    let found = std::fs::metadata(file)?;
    if found.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    // The ids of this process are the container's by now, all of them.
    access(file, AccessFlags::X_OK).map_err(io::Error::from)
}

/// The error's text as C has it, which is what clients look for.
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::EISDIR) => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use oci_spec::runtime::ProcessBuilder;

    use super::*;

    fn process(env: &[&str], args: &[&str]) -> Process {
        ProcessBuilder::default()
            .env(env.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
            .args(args.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
            .cwd("/")
            .build()
            .unwrap()
    }

    #[test]
    fn name_is_looked_up_in_path_and_in_the_default_when_there_is_none() {
        let found = Program::of(&process(&["PATH=/nowhere:/bin"], &["sh", "-c", "x"])).unwrap();
        assert_eq!(found.path.to_str().unwrap(), "/bin/sh");
        assert_eq!(found.argv.len(), 3);
        assert_eq!(Program::of(&process(&[], &["sh"])).unwrap().path.to_str().unwrap(), "/bin/sh");
    }

    #[test]
    fn missing_programs_are_errors_in_the_words_of_runc() {
        let missing = Program::of(&process(&["PATH=/bin"], &["no-such"])).unwrap_err();
        assert_eq!(missing.message, "exec: \"no-such\": executable file not found in $PATH");
        assert_eq!(missing.errno, libc::ENOENT);
        let missing = Program::of(&process(&[], &["/no/such"])).unwrap_err();
        assert_eq!(missing.message, "exec: \"/no/such\": stat /no/such: no such file or directory");
        let directory = Program::of(&process(&[], &["/etc"])).unwrap_err();
        assert_eq!(directory.errno, libc::EISDIR);
        let denied = Program::of(&process(&[], &["/etc/passwd"])).unwrap_err();
        assert_eq!(denied.errno, libc::EACCES);
    }

    #[test]
    fn last_entry_of_a_name_counts_and_order_stays() {
        let envp = environment(&process(&["A=1", "B=2", "A=3", "HOME=/h"], &["x"]));
        assert_eq!(envp, ["A=3", "B=2", "HOME=/h"]);
    }

    #[test]
    fn home_that_is_not_given_comes_from_passwd() {
        let placeholder = format!("HOME={HOME_PLACEHOLDER}");
        assert_eq!(environment(&process(&[&placeholder], &["x"])), ["HOME=/root"]);
    }
}
