//! The namespaces of a container, in which its first process is before its mounts are made.
//!
//! ```text
//! hardened, or no user namespace     new ones belong to the node's user namespace: the container's root has no power over them
//! compatible, with a user namespace  new ones belong to that, as under runc: a helper makes them in there, the container's
//!                                    first process, which is the node's root still, joins them
//! ```
//! One exception: a pid namespace always belongs to the node's, for nobody can join one that has no process yet.

use std::{
    fs::{self, File},
    io::{PipeWriter, Read as _, Write as _},
    os::fd::OwnedFd,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::wait::waitpid,
    unistd::Pid,
};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType as Kind, Spec};

use crate::{
    LaunchError, loopback,
    sys::{self, Forked},
    user_namespace::Inside,
};

/// Not in libc's constants of every version. Source: include/uapi/linux/sched.h.
pub(crate) const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// In the order in which they are entered: the mount namespace last, for paths are of the one before.
const ENTERED: [(Kind, CloneFlags, &str); 5] = [
    (Kind::Ipc, CloneFlags::CLONE_NEWIPC, "ipc"),
    (Kind::Network, CloneFlags::CLONE_NEWNET, "net"),
    (Kind::Uts, CloneFlags::CLONE_NEWUTS, "uts"),
    (Kind::Cgroup, CloneFlags::CLONE_NEWCGROUP, "cgroup"),
    (Kind::Mount, CloneFlags::CLONE_NEWNS, "mnt"),
];

/// How a namespace is entered.
pub(crate) enum Entry {
    New,
    Join(OwnedFd),
}

impl Entry {
    pub(crate) fn find(namespaces: &[LinuxNamespace], typ: Kind) -> Result<Option<Self>, LaunchError> {
        let Some(namespace) = namespaces.iter().find(|namespace| namespace.typ() == typ) else {
            return Ok(None);
        };
        let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(Some(Self::New));
        };
        let file = File::open(path).map_err(LaunchError::io("open(2)", path.display().to_string()))?;
        Ok(Some(Self::Join(file.into())))
    }

    pub(crate) fn enter(&self, flag: CloneFlags) -> Result<(), LaunchError> {
        match self {
            Self::New => unshare(flag).map_err(LaunchError::io("unshare(2)", format!("{flag:?}"))),
            Self::Join(fd) => setns(fd, flag).map_err(ended_or("setns(2)")),
        }
    }
}

pub(crate) fn ended_or(call: &'static str) -> impl Fn(Errno) -> LaunchError {
    move |errno| match errno {
        Errno::ESRCH => LaunchError::Plan("the container has ended"),
        errno => LaunchError::io(call, "a namespace of the container")(errno),
    }
}

/// What a first process enters.
pub(crate) struct Namespaces {
    list: Vec<LinuxNamespace>,
    /// New ones that were made already, and who keeps them until they are joined.
    owned: Option<Owned>,
    time: Option<Entry>,
    offsets: String,
    names: Names,
}

struct Names {
    hostname: Option<String>,
    domainname: Option<String>,
}

impl Namespaces {
    /// Those of a spec. In the worker, where the root file system is mounted already: a mount namespace is a copy.
    pub(crate) fn of(spec: &Spec, inside: Option<&Inside>) -> Result<Self, LaunchError> {
        let linux = spec.linux().as_ref();
        let list = linux.and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
        let owned = match inside.filter(|inside| inside.has_namespaces()) {
            Some(inside) => Some(Owned::make(inside, new_of(&list))?),
            None => None,
        };
        let time = Entry::find(&list, Kind::Time)?;
        let names = Names { hostname: spec.hostname().clone(), domainname: spec.domainname().clone() };
        Ok(Self { list, owned, time, offsets: offsets(spec), names })
    }

    pub(crate) fn pid(&self) -> Result<Option<Entry>, LaunchError> {
        Entry::find(&self.list, Kind::Pid)
    }

    /// Those that this process's next child is in, and not this process: clocks. What is done is undone when it is dropped.
    pub(crate) fn before_clone(&self) -> Result<Option<Clocks>, LaunchError> {
        let Some(Entry::New) = &self.time else { return Ok(None) };
        Clocks::with(&self.offsets).map(Some)
    }

    /// Enters them, in the container's first process: its file systems show them, and its mounts are in its own.
    pub(crate) fn enter(&self) -> Result<(), LaunchError> {
        if let Some(time @ Entry::Join(_)) = &self.time {
            time.enter(CLONE_NEWTIME)?;
        }
        // By their paths, which are of the mount namespace that this process is in.
        let found = ENTERED.map(|(kind, flag, _)| Ok((kind, flag, Entry::find(&self.list, kind)?)));
        let found = found.into_iter().collect::<Result<Vec<_>, LaunchError>>()?;
        let mut new = CloneFlags::empty();
        for (kind, flag, entry) in &found {
            match (entry, &self.owned) {
                (Some(Entry::New), Some(owned)) => Entry::Join(owned.open(*kind)?).enter(*flag)?,
                (Some(Entry::New), None) => new |= *flag,
                (Some(joined @ Entry::Join(_)), _) => joined.enter(*flag)?,
                (None, _) => {}
            }
        }
        if !new.is_empty() {
            unshare(new).map_err(LaunchError::io("unshare(2)", format!("{new:?}")))?;
        }
        let is_new =
            |kind: Kind| found.iter().any(|(k, _, entry)| *k == kind && matches!(entry, Some(Entry::New)));
        // One that the request names is the network plugin's.
        if is_new(Kind::Network) {
            loopback::up()?;
        }
        if is_new(Kind::Uts) {
            self.names.set()?;
        }
        Ok(())
    }
}

impl Names {
    fn set(&self) -> Result<(), LaunchError> {
        if let Some(name) = &self.hostname {
            sys::set_host_name(name).map_err(LaunchError::io("sethostname(2)", name.as_str()))?;
        }
        match &self.domainname {
            Some(name) => {
                sys::set_domain_name(name).map_err(LaunchError::io("setdomainname(2)", name.as_str()))
            }
            None => Ok(()),
        }
    }
}

fn new_of(list: &[LinuxNamespace]) -> CloneFlags {
    let is_new = |kind: Kind| {
        let path = |namespace: &LinuxNamespace| {
            namespace.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty())
        };
        list.iter().any(|namespace| namespace.typ() == kind && !path(namespace))
    };
    ENTERED
        .iter()
        .filter(|(kind, ..)| is_new(*kind))
        .fold(CloneFlags::empty(), |all, (_, flag, _)| all | *flag)
}

/// Namespaces that a helper has made in a user namespace; it lives as long as this.
struct Owned {
    helper: u32,
    lets_go: PipeWriter,
}

impl Owned {
    fn make(inside: &Inside, new: CloneFlags) -> Result<Self, LaunchError> {
        let pipe = || std::io::pipe().map_err(LaunchError::io("pipe2(2)", "namespaces"));
        let ((mut made, mut says), (mut waits, lets_go)) = (pipe()?, pipe()?);
        let helper = match sys::fork().map_err(LaunchError::io("fork(2)", "namespaces"))? {
            Forked::Parent(pid) => pid,
            Forked::Child => {
                drop(lets_go);
                let done = inside.become_root().and_then(|()| {
                    unshare(new).map_err(|errno| format!("unshare(2) in the user namespace: {errno}"))
                });
                let text = done.err().unwrap_or_else(|| MADE.to_owned());
                let said = says.write_all(text.as_bytes());
                drop(says);
                // Until the container's process has joined them, or nobody will.
                let waited = waits.read(&mut [0]);
                sys::exit_now(i32::from(said.is_err() || waited.is_err()))
            }
        };
        drop(says);
        let owned = Self { helper, lets_go };
        let mut text = String::new();
        made.read_to_string(&mut text).map_err(LaunchError::io("read(2)", "namespaces"))?;
        if text == MADE { Ok(owned) } else { Err(LaunchError::Failed(text)) }
    }

    fn open(&self, kind: Kind) -> Result<OwnedFd, LaunchError> {
        let name = ENTERED.iter().find(|(known, ..)| *known == kind).map_or("", |(_, _, name)| name);
        let path = format!("/proc/{}/ns/{name}", self.helper);
        File::open(&path).map(OwnedFd::from).map_err(LaunchError::io("open(2)", path))
    }

    /// Ends the helper. In the worker alone: to its clones it is no child.
    fn end(self) -> Result<(), LaunchError> {
        let Self { helper, mut lets_go } = self;
        // A word, for the container's process has a copy of this end.
        lets_go.write_all(b"g").map_err(LaunchError::io("write(2)", "namespaces"))?;
        waitpid(Pid::from_raw(helper.cast_signed()), None)
            .map(drop)
            .map_err(LaunchError::io("waitpid(2)", "namespaces"))
    }
}

impl Namespaces {
    /// To be called when the first process has entered them.
    pub(crate) fn entered(&mut self) -> Result<(), LaunchError> {
        self.owned.take().map_or(Ok(()), Owned::end)
    }
}

/// What a helper says that has made them.
const MADE: &str = "made";

/// Clocks that this process's next children have, for as long as it is there.
pub(crate) struct Clocks {
    own: File,
}

impl Clocks {
    fn with(offsets: &str) -> Result<Self, LaunchError> {
        let path = "/proc/self/ns/time";
        let own = File::open(path).map_err(LaunchError::io("open(2)", path))?;
        unshare(CLONE_NEWTIME).map_err(LaunchError::io("unshare(2)", "CLONE_NEWTIME"))?;
        if !offsets.is_empty() {
            let path = "/proc/self/timens_offsets";
            fs::write(path, offsets).map_err(LaunchError::io("write(2)", path))?;
        }
        Ok(Self { own })
    }

    /// From here on, children have this process's own.
    pub(crate) fn undo(self) -> Result<(), LaunchError> {
        setns(&self.own, CLONE_NEWTIME).map_err(LaunchError::io("setns(2)", "CLONE_NEWTIME"))
    }
}

/// As /proc/self/timens_offsets takes them.
fn offsets(spec: &Spec) -> String {
    let linux = spec.linux().as_ref();
    let offsets = linux.and_then(|linux| linux.time_offsets().as_ref()).into_iter().flatten();
    let line = |(clock, offset): (&String, &oci_spec::runtime::LinuxTimeOffset)| {
        format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0))
    };
    offsets.map(line).collect()
}
