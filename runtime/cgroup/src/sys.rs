//! The raw system calls of this crate: bpf(2), for the device rules of cgroup v2.

use std::{
    ffi::{c_int, c_uint},
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// `union bpf_attr` as BPF_PROG_LOAD reads it.
///
/// Source: include/uapi/linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// `union bpf_attr` as BPF_PROG_ATTACH reads it.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// `union bpf_attr` as BPF_PROG_QUERY reads and writes it.
#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
}

/// `union bpf_attr` as BPF_PROG_GET_FD_BY_ID reads it.
#[repr(C)]
#[derive(Default)]
struct ByIdAttributes {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// `union bpf_attr` as BPF_OBJ_GET_INFO_BY_FD reads and writes it.
#[repr(C)]
#[derive(Default)]
struct InfoAttributes {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    instructions: [u64; 2],
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

// Source: include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: c_int = 5;
const BPF_PROG_ATTACH: c_int = 8;
const BPF_PROG_DETACH: c_int = 9;
const BPF_PROG_GET_FD_BY_ID: c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: c_int = 15;
const BPF_PROG_QUERY: c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Name under which the kernel keeps our programs; at most 15 letters.
const NAME: &[u8; 8] = b"bulkhead";

/// Most programs that the kernel attaches to one group.
///
/// Source: `BPF_CGROUP_MAX_PROGS`, include/linux/bpf-cgroup-defs.h.
const PROGRAMS_MAX: usize = 64;

/// Loads a device program, an instruction of 8 bytes each.
pub(crate) fn load_device_program(program: &[u64]) -> io::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    attributes.prog_name[..NAME.len()].copy_from_slice(NAME);
    // SAFETY: bpf(2) reads `attributes`, whose size is passed; both pointers in it are to memory that outlives
    // the call, of the length that is given (`insn_cnt`) or zero-terminated (`license`).
    let fd = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<LoadAttributes>() as c_uint,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us (close-on-exec, as all of bpf(2)'s are); nobody else
    // owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches it to a group, beside what is attached there and above: all must allow.
pub(crate) fn attach_device_program(group: &File, program: &OwnedFd) -> io::Result<()> {
    let attributes = AttachAttributes {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: bpf(2) reads `attributes`, whose size is passed; both descriptors are open during the call.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attributes,
            size_of::<AttachAttributes>() as c_uint,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Our own programs that are attached to a group itself.
pub(crate) fn own_device_programs(group: &File) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut attributes = QueryAttributes {
        target_fd: group.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: PROGRAMS_MAX as u32,
        ..QueryAttributes::default()
    };
    // SAFETY: bpf(2) reads and writes `attributes`, whose size is passed, and writes at most `prog_cnt` numbers to
    // `ids`, which has room for as many and outlives the call.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            BPF_PROG_QUERY,
            &raw mut attributes,
            size_of::<QueryAttributes>() as c_uint,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut own = Vec::new();
    for id in ids.iter().take(attributes.prog_cnt as usize) {
        match program_of_id(*id) {
            Ok(program) if program_name(&program)?.starts_with(NAME) => own.push(program),
            Ok(_) => {}
            // Detached since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(own)
}

fn program_of_id(id: u32) -> io::Result<OwnedFd> {
    let attributes = ByIdAttributes { prog_id: id, ..ByIdAttributes::default() };
    // SAFETY: bpf(2) reads `attributes`, whose size is passed.
    let fd = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            BPF_PROG_GET_FD_BY_ID,
            &raw const attributes,
            size_of::<ByIdAttributes>() as c_uint,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn program_name(program: &OwnedFd) -> io::Result<[u8; 16]> {
    let mut info = ProgramInfo::default();
    let mut attributes = InfoAttributes {
        bpf_fd: program.as_raw_fd() as u32,
        info_len: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: bpf(2) reads and writes `attributes`, whose size is passed, and writes at most `info_len` bytes to
    // `info`, which is that long, of plain numbers, and outlives the call. Its lengths are zero, so the kernel writes
    // through none of the pointers in it.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw mut attributes,
            size_of::<InfoAttributes>() as c_uint,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info.name) }
}

/// Detaches one of the programs of a group.
pub(crate) fn detach_device_program(group: &File, program: &OwnedFd) -> io::Result<()> {
    let attributes = AttachAttributes {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
    };
    // SAFETY: bpf(2) reads `attributes`, whose size is passed; both descriptors are open during the call.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_bpf,
            BPF_PROG_DETACH,
            &raw const attributes,
            size_of::<AttachAttributes>() as c_uint,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
