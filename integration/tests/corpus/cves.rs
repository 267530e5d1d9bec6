//! A published list of kernel holes and the calls that lead to each.
//!
//! Source: Confine (RAID 2020), github.com/shamedgh/confine, cve.files/cve.to.syscall.manual.

use std::collections::{BTreeMap, BTreeSet};

/// Values of arguments that a profile allows, by call and argument; of what is not there all.
pub(crate) type Arguments = BTreeMap<String, BTreeMap<u8, BTreeSet<u32>>>;

/// The hole, and the calls through which it is reached: it is out of reach if none of them is allowed.
const CVES: &[(&str, &[&str])] = &[
    ("CVE-2009-3624", &["keyctl"]),
    ("CVE-2010-4072", &["shmctl"]),
    ("CVE-2010-4083", &["semctl"]),
    ("CVE-2010-4250", &["inotify_init1"]),
    ("CVE-2012-3375", &["epoll_ctl"]),
    ("CVE-2012-3511", &["madvise"]),
    ("CVE-2013-1858", &["unshare"]),
    ("CVE-2014-7970", &["pivot_root"]),
    ("CVE-2014-9903", &["sched_getattr"]),
    ("CVE-2015-2686", &["sendto", "recvfrom"]),
    ("CVE-2015-7550", &["keyctl"]),
    ("CVE-2015-7613", &["shmget", "semget", "msgget"]),
    ("CVE-2016-0728", &["add_key", "request_key", "keyctl"]),
    ("CVE-2016-4997", &["setsockopt"]),
    ("CVE-2016-7911", &["ioprio_get"]),
    ("CVE-2016-8655", &["setsockopt"]),
    ("CVE-2016-9604", &["keyctl"]),
    ("CVE-2016-9793", &["setsockopt"]),
    ("CVE-2017-12192", &["keyctl"]),
    ("CVE-2017-14140", &["move_pages"]),
    ("CVE-2017-14954", &["waitid"]),
    ("CVE-2017-15274", &["add_key", "keyctl"]),
    ("CVE-2017-18208", &["madvise"]),
    ("CVE-2017-5123", &["waitid"]),
    ("CVE-2017-6001", &["perf_event_open"]),
    ("CVE-2017-6074", &["setsockopt"]),
    ("CVE-2017-7308", &["setsockopt"]),
    ("CVE-2018-13053", &["clock_nanosleep"]),
    ("CVE-2019-9857", &["inotify_add_watch"]),
];

/// How many they are.
pub(crate) const ALL: usize = CVES.len();

/// Holes whose arguments the baseline denies to everybody: setsockopt(2) on sockets that nobody can make (AF_PACKET twice,
/// DCCP), netfilter's tables (CVE-2016-4997), SO_SNDBUFFORCE (CVE-2016-9793) and clocks that wake the node
/// (CVE-2018-13053).
const DENIED_BY_ARGUMENT: &[&str] =
    &["CVE-2016-4997", "CVE-2016-8655", "CVE-2016-9793", "CVE-2017-6074", "CVE-2017-7308", "CVE-2018-13053"];

/// Holes behind some values of one argument: the call, the argument and those.
///
/// Source: of each the CVE's own text and the fix. `madvise_remove` is MADV_REMOVE (9); `madvise_willneed` is MADV_WILLNEED
/// (3); `copy_shmid_to_user` is of IPC_STAT (2), SHM_STAT (13) and SHM_STAT_ANY (15); CVE-2010-4083 names IPC_INFO (3),
/// SEM_INFO (19), IPC_STAT and SEM_STAT (18), beside which SEM_STAT_ANY (20) has come.
const BEHIND_VALUES: &[(&str, &str, u8, &[u32])] = &[
    ("CVE-2012-3511", "madvise", 2, &[9]),
    ("CVE-2017-18208", "madvise", 2, &[3]),
    ("CVE-2010-4072", "shmctl", 1, &[2, 13, 15]),
    ("CVE-2010-4083", "semctl", 2, &[2, 3, 18, 19, 20]),
];

/// Those of the list that cannot be reached with these calls: by the names of the calls alone, and what is left then
/// with the arguments that the baseline denies, and these values of arguments.
pub(crate) fn out_of_reach(
    allowed: &BTreeSet<String>,
    arguments: &Arguments,
) -> (Vec<&'static str>, Vec<&'static str>) {
    let (blocked, left): (Vec<_>, Vec<_>) = CVES
        .iter()
        .partition(|(_, calls): &&(&str, &[&str])| !calls.iter().any(|call| allowed.contains(*call)));
    let names = |list: &[&(&'static str, &[&str])]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let mut left = names(&left);
    let has_no_value = |name: &str| {
        let behind = BEHIND_VALUES.iter().find(|(hole, ..)| *hole == name);
        behind.is_some_and(|(_, call, arg, values)| {
            let allowed = arguments.get(*call).and_then(|of_call| of_call.get(arg));
            allowed.is_some_and(|allowed| values.iter().all(|value| !allowed.contains(value)))
        })
    };
    left.retain(|name| !DENIED_BY_ARGUMENT.contains(name) && !has_no_value(name));
    (names(&blocked), left)
}
