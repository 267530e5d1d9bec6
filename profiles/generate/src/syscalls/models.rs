//! Code whose number no analysis of values finds, told by its shape: each with what it can be, and where that is said.

use std::collections::{BTreeSet, VecDeque};

use bulkhead_profiles::syscall_number;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Instructions before a site that a model looks at.
pub(crate) const RECENT: usize = 5;

/// What a C library has all threads do: a change of ids, of which the number and three arguments lie in a
/// `struct xid_command`. Only these functions fill it, each with its own number: function and call.
///
/// Source: glibc nptl/nptl_setxid.c, `__nptl_setxid_sighandler` and `__nptl_setxid`; its callers are the INLINE_SETXID
/// calls of sysdeps/unix/sysv/linux/set*id.c and setgroups.c.
pub(crate) const SET_ID: &[(&str, &str)] = &[
    ("setuid", "setuid"),
    ("setgid", "setgid"),
    ("setreuid", "setreuid"),
    ("setregid", "setregid"),
    ("setresuid", "setresuid"),
    ("setresgid", "setresgid"),
    ("seteuid", "setresuid"),
    ("setegid", "setresgid"),
    ("setgroups", "setgroups"),
    ("initgroups", "setgroups"),
];

/// All numbers of [`SET_ID`], for a program whose functions have no names: each of them makes the same call itself, for
/// a process of one thread.
///
/// Source: glibc sysdeps/nptl/setxid.h, `INLINE_SETXID_SYSCALL`, in all versions.
pub(crate) fn set_id_numbers() -> BTreeSet<u32> {
    SET_ID.iter().filter_map(|(_, call)| syscall_number(call)).collect()
}

/// Go's runtime has every thread make a call whose number lies in memory. Only the second function writes it there, and
/// Go's linker leaves that one out where nobody calls it.
///
/// Source: Go runtime/os_linux.go, `runPerThreadSyscall` and `syscall_runtime_doAllThreadsSyscall`.
pub(crate) const PER_THREAD: (&str, &str) =
    ("runtime.runPerThreadSyscall", "syscall.runtime_doAllThreadsSyscall");

/// Numbers of calls that Go keeps in a variable, which it sets on other machines alone.
///
/// Source: `fcntl64Syscall` of Go's syscall/flock_linux.go, internal/syscall/unix/fcntl_linux_32bit.go (`FcntlSyscall`, to Go 1.19)
/// and golang.org/x/sys unix/fcntl.go: `SYS_FCNTL`, and `SYS_FCNTL64` where the machine has 32 bits.
pub(crate) const VARIABLES: &[u64] = &[72];

/// The functions that read those variables: what others read is theirs.
///
/// Source: Go 1.18 and 1.19 syscall/flock_linux.go and exec_linux.go, internal/syscall/unix/nonblocking.go,
/// internal/poll/fcntl_syscall.go and splice_linux.go; golang.org/x/sys unix/fcntl.go; and etcd's fileutil/lock_linux.go, into
/// which the compiler puts `syscall.FcntlFlock`.
const READERS: &[(&str, &[&str])] = &[
    ("syscall", &["FcntlFlock", "forkAndExecInChild1"]),
    ("internal/syscall/unix", &["IsNonblock"]),
    ("internal/poll", &["fcntl", "newPipe"]),
    ("golang.org/x/sys/unix", &["fcntl", "FcntlInt", "FcntlFlock"]),
    ("go.etcd.io/etcd/pkg/fileutil", &["init.0", "ofdLockFile", "ofdTryLockFile"]),
    ("go.etcd.io/etcd/client/pkg/v3/fileutil", &["init.0", "ofdLockFile", "ofdTryLockFile"]),
];

/// Whether a function of Go's reads one of [`VARIABLES`]: by its name, with its package.
pub(crate) fn reads_variable(function: &str) -> bool {
    let function = function.rsplit("/vendor/").next().unwrap_or_default();
    let after = |package: &str| function.strip_prefix(package)?.strip_prefix('.');
    READERS.iter().any(|(package, names)| after(package).is_some_and(|name| names.contains(&name)))
}

/// What a library passes to syscall(3) where only a table of its own functions says who is called, or a variable has the
/// number: the library by its name, and all numbers that its source has.
///
/// Source: libcap libcap/cap_proc.c, `_cap_syscall3` and `_cap_syscall6` behind `struct syscaller_s`; libseccomp 2.5.4
/// src/system.c, where each number is that of seccomp(2), which src/arch.c finds by its name.
const WRAPPERS: &[(&str, &[&str])] = &[
    ("libcap.so.2", &["capget", "capset", "prctl", "setuid", "setgid", "setgroups", "chroot", "execve"]),
    ("libseccomp.so.2", &["seccomp"]),
];

/// The numbers that a file hands to syscall(3) where they could not be followed, if a model says so.
pub(crate) fn wrapped(soname: &str) -> Option<Vec<u64>> {
    let (_, names) = WRAPPERS.iter().find(|(library, _)| soname == *library)?;
    Some(names.iter().filter_map(|name| syscall_number(name)).map(u64::from).collect())
}

/// Functions that find others by name, of which the second argument is that.
pub(crate) const LOOKUPS: &[&str] = &["dlsym", "dlvsym"];

/// Stages of a loader that it finds by their names in its own table of symbols.
///
/// Source: musl 1.2.3 ldso/dynlink.c, `__dls2` and `__dls2b`.
pub(crate) const STAGES: &[&str] = &["__dls2b", "__dls3"];

/// Functions that run a shell.
pub(crate) const SHELLS: &[&str] = &["system", "popen", "wordexp"];

/// Calls that a C library makes of its own accord only where one of these functions was called before: threads with a
/// scheduling policy or a set of processors of their own, and mutexes with a ceiling.
///
/// Source, each call of the eight functions below sched.h, read in glibc 2.36 and 2.41:
/// - `sched_get_priority_{min,max}`: nptl/tpp.c `__init_sched_fifo_prio` (for pthread_mutex{,attr}_setprioceiling,
///   pthread_mutexattr_getprioceiling where no ceiling was set, and mutexes of `PTHREAD_PRIO_PROTECT`) and
///   sysdeps/nptl/pthreadP.h `check_sched_priority_attr` (pthread_attr_setschedparam, pthread_setattr_default_np);
/// - `sched_{get,set}{param,scheduler}`: nptl/tpp.c `__pthread_tpp_change_priority` (a ceiling), nptl/pthread_create.c and
///   default-sched.h (`ATTR_FLAG_NOTINHERITSCHED`, which pthread_attr_setinheritsched alone sets),
///   nptl/pthread_{get,set}schedparam.c, nptl/pthread_setschedprio.c, and sysdeps/unix/sysv/linux/spawni.c (flags that
///   posix_spawnattr_setflags alone sets);
/// - `sched_setaffinity`: nptl/pthread_setaffinity.c, and nptl/pthread_create.c for attributes of
///   pthread_attr_setaffinity_np.
pub(crate) const RARE: &[(&str, &[&str])] = &[
    ("sched_get_priority_min", CEILING),
    ("sched_get_priority_max", CEILING),
    ("sched_getparam", SCHEDULED),
    ("sched_getscheduler", SCHEDULED),
    ("sched_setparam", SCHEDULED),
    ("sched_setscheduler", SCHEDULED),
    (
        "sched_setaffinity",
        &["pthread_attr_setaffinity_np", "pthread_setaffinity_np", "pthread_setattr_default_np"],
    ),
];
const CEILING: &[&str] = &[
    "pthread_mutexattr_setprotocol",
    "pthread_mutexattr_setprioceiling",
    "pthread_mutexattr_getprioceiling",
    "pthread_mutex_setprioceiling",
    "pthread_attr_setschedparam",
    "pthread_setattr_default_np",
];
const SCHEDULED: &[&str] = &[
    "pthread_attr_setinheritsched",
    "pthread_setattr_default_np",
    "pthread_mutexattr_setprotocol",
    "pthread_mutexattr_setprioceiling",
    "pthread_mutex_setprioceiling",
    "pthread_getschedparam",
    "pthread_setschedparam",
    "pthread_setschedprio",
    "posix_spawnattr_setflags",
];

/// Imports that a library does not call.
pub(crate) struct NotCalled {
    library: &'static str,
    pub(crate) imports: &'static [&'static str],
    /// Names that would bring them if another file had one, as its import or its own, or could look it up.
    pub(crate) causes: &'static [&'static str],
    /// Other imports, by which the version is told of which this is true.
    pub(crate) has: &'static [&'static str],
}

/// Source: OpenSSL 3.0 and 3.5 providers/implementations/rands/seeding/rand_unix.c. `wait_random_seeded` runs only where
/// getentropy(3) gave nothing, which it does not do for up to 256 bytes. Its first shmget(2) asks for a segment that only
/// a kernel before 4.8 makes it create (Landlock came with 5.13): there is none, with a profile and without.
/// shmat(2) and shmdt(2) come after that segment.
///
/// Source: Berkeley DB 5.3.28 os/os_map.c: `__os_attach` and `__os_detach` where `ENV_SYSTEM_MEM` is set, `__os_map`,
/// `__os_detach` and `__os_unmapfile` where `ENV_LOCKDOWN` is. Both are flags of `DB_ENV->open` (env/env_open.c), the first also
/// of an environment on disk that was made so (env/env_region.c, not of a private one). Who opens one has made it by
/// db_env_create. A database without one has an environment of its own (`ENV_DBLOCAL`), which `__env_setup` (db/db.c) opens with
/// `DB_PRIVATE`, neither of the two, and no home, for which Debian reads no DB_CONFIG (CVE-2017-10140). os/os_mkdir.c is all that
/// has mkdir(2) and chmod(2): for os_open.c where `ENV.dir_mode` is set, which only `DB_ENV->set_intermediate_dir_mode` and
/// DB_CONFIG do.
///
/// Source: libcap 2.66 libcap/cap_proc.c and cap_alloc.c. syscall(3) is behind `struct syscaller_s`, of which a function is called
/// only where `_libcap_overrode_syscalls` is not 0; libc's functions are called otherwise, setuid(3) and setgroups(3) among them.
/// It is 0 once `_libcap_initialize`, the library's initialiser, has called `psx_load_syscalls`, unless that is libpsx's.
/// cap_set_syscall is how others put functions of their own there.
const NOT_CALLED: &[NotCalled] = &[
    NotCalled { library: "libcrypto.so.3", imports: &["shmget", "shmat", "shmdt"], causes: &[], has: &[] },
    NotCalled {
        library: "libdb-5.3.so",
        imports: &["shmget", "shmat", "shmdt", "shmctl", "mlock", "munlock", "mkdir", "chmod"],
        causes: &["db_env_create", "__env_open", "__env_open_pp", "__os_mkdir", "__db_mkpath"],
        has: &[],
    },
    NotCalled {
        library: "libcap.so.2",
        imports: &["syscall"],
        causes: &["psx_load_syscalls", "cap_set_syscall"],
        has: &["capset", "prctl", "setuid", "setgroups"],
    },
];

/// The imports that the library of this name does not call.
pub(crate) fn not_called(soname: &str) -> Option<&'static NotCalled> {
    NOT_CALLED.iter().find(|rule| soname == rule.library)
}

/// A function of a library's own that does not run, told by what it calls: the library, one of these calls, and all imports that
/// the function has. One that has others is another, or has been made part of another.
///
/// Source: OpenSSL 3.0 and 3.5 providers/implementations/rands/seeding/rand_unix.c, `wait_random_seeded`, for which see
/// [`NOT_CALLED`].
const NOT_RUN: (&str, &str, &[&str]) = (
    "libcrypto.so.3",
    "shmget",
    &[
        "shmget",
        "shmat",
        "OPENSSL_atexit",
        "uname",
        "atoi",
        "strtol",
        "__isoc23_strtol",
        "strchr",
        "open",
        "open64",
        "read",
        "select",
        "close",
        "__fdelt_chk",
        "__errno_location",
        "__stack_chk_fail",
    ],
);

/// Whether a function of the library of this name that has these imports does not run.
pub(crate) fn not_run<'n>(soname: &str, mut imports: impl Iterator<Item = &'n str> + Clone) -> bool {
    let (library, call, all) = NOT_RUN;
    soname == library && imports.clone().any(|name| name == call) && imports.all(|name| all.contains(&name))
}

/// A call that a loader makes only where the environment asks it to count how much time each function of a library takes.
///
/// Source: glibc elf/dl-profile.c `_dl_start_profile`, which LD_PROFILE asks for, is all that calls gmon/profil.c in ld.so, and goes on
/// whatever that returns (read in 2.30; of Debian's 2.36 the code, which has one place that calls setitimer(2)).
const PROFILING: (&str, &str) = ("ld-linux-x86-64.so.2", "setitimer");

/// Whether the file of this name makes this call only where it is asked to by LD_PROFILE.
pub(crate) fn is_profiling(soname: &str, number: u32) -> bool {
    let (library, call) = PROFILING;
    soname == library && syscall_number(call) == Some(number)
}

/// What a library asks dlsym for where the name goes through a table of its functions: the library, the names, and the
/// exports by which others could ask for another one.
const LOOKED_UP: &[(&str, &[&str], &[&str])] = &[
    ("libcrypto.so.3", LIBCRYPTO, &["DSO_bind_func", "DSO_global_lookup", "DSO_METHOD_openssl"]),
    ("libsasl2.so.2", LIBSASL2, &["_sasl_locate_entry", "_sasl_get_plugin", "_sasl_load_plugins"]),
    ("libpam.so.0", LIBPAM, &[]),
];

/// Source: OpenSSL 3.0 and 3.5. crypto/dso/dso_dlfcn.c is all that calls dlsym, behind `DSO_METHOD`; of DSO_bind_func and
/// DSO_global_lookup every call in crypto/provider_core.c, crypto/engine/eng_dyn.c, crypto/conf/conf_mod.c, rand_unix.c,
/// and of builds that load their compression crypto/comp/c_{zlib,brotli,zstd}.c.
const LIBCRYPTO: &[&str] = &[
    "OSSL_provider_init",
    "bind_engine",
    "v_check",
    "EVP_PKEY_base_id",
    "OPENSSL_init",
    "OPENSSL_finish",
    "getentropy",
    "compress",
    "uncompress",
    "inflate",
    "inflateInit_",
    "inflateEnd",
    "deflate",
    "deflateInit_",
    "deflateEnd",
    "zError",
    "BrotliEncoderCreateInstance",
    "BrotliEncoderCompressStream",
    "BrotliEncoderHasMoreOutput",
    "BrotliEncoderDestroyInstance",
    "BrotliEncoderCompress",
    "BrotliDecoderCreateInstance",
    "BrotliDecoderDecompressStream",
    "BrotliDecoderHasMoreOutput",
    "BrotliDecoderDestroyInstance",
    "BrotliDecoderGetErrorCode",
    "BrotliDecoderErrorString",
    "BrotliDecoderIsFinished",
    "BrotliDecoderDecompress",
    "ZSTD_createCStream",
    "ZSTD_initCStream",
    "ZSTD_freeCStream",
    "ZSTD_compressStream2",
    "ZSTD_flushStream",
    "ZSTD_endStream",
    "ZSTD_compress",
    "ZSTD_createDStream",
    "ZSTD_initDStream",
    "ZSTD_freeDStream",
    "ZSTD_decompressStream",
    "ZSTD_decompress",
    "ZSTD_isError",
    "ZSTD_getErrorName",
    "ZSTD_DStreamInSize",
    "ZSTD_CStreamInSize",
];

/// Source: Cyrus SASL 2.1.28 lib/dlopen.c, `_sasl_locate_entry`, which is all that calls dlsym; the lists of entry points
/// in lib/client.c and lib/server.c are all that it is handed.
const LIBSASL2: &[&str] =
    &["sasl_client_plug_init", "sasl_server_plug_init", "sasl_auxprop_plug_init", "sasl_canonuser_init"];

/// Source: Linux-PAM 1.5.2 libpam/pam_dynamic.c, `_pam_dlsym`, which is all that calls dlsym and no export; both names that
/// each case of pam_handlers.c `_pam_add_handler` hands it.
const LIBPAM: &[&str] = &[
    "pam_sm_authenticate",
    "pam_sm_setcred",
    "pam_sm_acct_mgmt",
    "pam_sm_open_session",
    "pam_sm_close_session",
    "pam_sm_chauthtok",
];

/// The names that a file asks dlsym for where they could not be followed, and who could ask for others through it.
pub(crate) fn looked_up(soname: &str) -> Option<(&'static [&'static str], &'static [&'static str])> {
    let (_, names, wrappers) = LOOKED_UP.iter().find(|(library, _, _)| soname == *library)?;
    Some((names, wrappers))
}

/// Libraries that look nothing up themselves and hand none of their texts to others but by these exports: the rest are
/// tables of names, those of all system calls among them, and words of messages.
///
/// Source: libaudit 3.0.9 lib/lookup_table.c; libseccomp 2.5.4 src/api.c.
const TABLES: &[(&str, &[&str])] = &[
    (
        "libaudit.so.1",
        &[
            "audit_action_to_name",
            "audit_errno_to_name",
            "audit_field_to_name",
            "audit_flag_to_name",
            "audit_fstype_to_name",
            "audit_ftype_to_name",
            "audit_machine_to_name",
            "audit_msg_type_to_name",
            "audit_operator_to_symbol",
            "audit_syscall_to_name",
            "audit_uringop_to_name",
        ],
    ),
    ("libseccomp.so.2", &["seccomp_syscall_resolve_num_arch"]),
];

/// Who is handed a text of the library of this name, if only these can hand one on.
pub(crate) fn tells(soname: &str) -> Option<&'static [&'static str]> {
    TABLES.iter().find(|(library, _)| soname == *library).map(|(_, exports)| *exports)
}

/// Functions of which somebody asks whether they can run, whatever they do themselves.
pub(crate) fn asked_for() -> impl Iterator<Item = &'static str> {
    let causes = RARE.iter().flat_map(|(_, causes)| causes.iter());
    let ids = SET_ID.iter().map(|(name, _)| name);
    LOOKUPS.iter().chain(SHELLS).chain(causes).chain(ids).copied()
}

/// Whether the last instructions (the newest first, the site itself) load a number and three arguments from one place.
pub(crate) fn is_set_id(recent: &VecDeque<Instruction>) -> bool {
    let mut loads = recent.iter().skip(1).filter(|instruction| {
        instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Memory
            && instruction.memory_index() == Register::None
    });
    let Some(number) = loads.next().filter(|load| load.op0_register() == Register::EAX) else { return false };
    let base = number.memory_base();
    let at = number.memory_displacement64();
    let loaded = |register: Register, offset: u64| {
        recent.iter().any(|load| {
            load.op0_register() == register
                && load.memory_base() == base
                && load.memory_displacement64() == at.wrapping_add(offset)
        })
    };
    loaded(Register::RDI, 8) && loaded(Register::RSI, 16) && loaded(Register::RDX, 24)
}
