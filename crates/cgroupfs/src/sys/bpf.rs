//! bpf(2), as far as device programs need it.
//!
//! Each command takes a struct that the kernel copies in, whose length it is told, and whose remainder it takes as zero:
//! so each is declared here up to the last field that is used.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use cellkit_core::Errno;

const PROG_LOAD: usize = 5;
const PROG_ATTACH: usize = 8;
const PROG_DETACH: usize = 9;
const PROG_GET_FD_BY_ID: usize = 13;
const OBJ_GET_INFO_BY_FD: usize = 15;
const PROG_QUERY: usize = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;

pub(crate) const F_ALLOW_OVERRIDE: u32 = 1;
pub(crate) const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

/// BPF_OBJ_NAME_LEN, with the NUL.
pub(crate) const NAME_LEN: usize = 16;

#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_LEN],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// BPF_PROG_LOAD of a device program: `code` is an array of `struct bpf_insn`. What the verifier says goes to `log`.
pub(crate) fn load(code: &[u8], name: &[u8; NAME_LEN], log: Option<&mut [u8]>) -> Result<OwnedFd, Errno> {
    let insn_cnt = u32::try_from(code.len() / 8).map_err(|_| Errno(libc::E2BIG))?;
    let log_size = log.as_ref().map_or(0, |log| log.len() as u32);
    let mut attr = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt,
        insns: code.as_ptr() as u64,
        // No helper function that is reserved to the GPL is called; the kernel wants to know nonetheless.
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: log.is_some().into(),
        log_size,
        log_buf: log.map_or(0, |log| log.as_mut_ptr() as u64),
        kern_version: 0,
        prog_flags: 0,
        prog_name: *name,
        prog_ifindex: 0,
        expected_attach_type: CGROUP_DEVICE,
    };
    // SAFETY: `insns` points to `insn_cnt` times 8 readable bytes, `license` to a static string, `log_buf` to `log_size`
    // bytes that are borrowed mutably until the call is over, and the kernel writes no further.
    let fd = unsafe { bpf(PROG_LOAD, &mut attr) }?;
    Ok(owned(fd))
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

impl Attach {
    fn new(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Self {
        Self {
            target_fd: number(group),
            attach_bpf_fd: number(program),
            attach_type: CGROUP_DEVICE,
            attach_flags: 0,
            replace_bpf_fd: 0,
        }
    }
}

/// BPF_PROG_ATTACH beside the others of the group (BPF_F_ALLOW_MULTI), or in the place of one (BPF_F_REPLACE).
pub(crate) fn attach(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attr = Attach::new(group, program);
    attr.attach_flags = F_ALLOW_MULTI | if replaced.is_some() { F_REPLACE } else { 0 };
    attr.replace_bpf_fd = replaced.map_or(0, number);
    // SAFETY: the struct holds descriptors, which are borrowed, and no pointer.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// BPF_PROG_DETACH: ENOENT when it is not attached.
pub(crate) fn detach(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = Attach::new(group, program);
    // SAFETY: the struct holds descriptors, which are borrowed, and no pointer.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// BPF_PROG_QUERY: the flags with which programs were attached to the group itself, and their ids in order.
pub(crate) fn query(group: BorrowedFd<'_>) -> Result<(u32, Vec<u32>), Errno> {
    // As many as the kernel takes (BPF_CGROUP_MAX_PROGS), and what it says if it ever takes more.
    let mut ids = vec![0_u32; 64];
    loop {
        let mut attr = Query {
            target_fd: number(group),
            attach_type: CGROUP_DEVICE,
            query_flags: 0,
            attach_flags: 0,
            prog_ids: ids.as_mut_ptr() as u64,
            prog_cnt: ids.len() as u32,
            padding: 0,
        };
        // SAFETY: `prog_ids` points to `prog_cnt` numbers that are this function's own, and the kernel writes no more.
        let outcome = unsafe { bpf(PROG_QUERY, &mut attr) };
        let count = attr.prog_cnt as usize;
        match outcome {
            Ok(_) => {
                ids.truncate(count);
                return Ok((attr.attach_flags, ids));
            }
            Err(Errno(libc::ENOSPC)) if count > ids.len() => ids.resize(count, 0),
            Err(errno) => return Err(errno),
        }
    }
}

#[repr(C)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// BPF_PROG_GET_FD_BY_ID: ENOENT when it has gone.
pub(crate) fn by_id(prog_id: u32) -> Result<OwnedFd, Errno> {
    let mut attr = ById { prog_id, next_id: 0, open_flags: 0 };
    // SAFETY: the struct holds numbers only.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }?;
    Ok(owned(fd))
}

/// What the kernel knows of a program: the beginning of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Info {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) tag: [u8; 8],
    jited_prog_len: u32,
    xlated_prog_len: u32,
    jited_prog_insns: u64,
    xlated_prog_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    pub(crate) name: [u8; NAME_LEN],
}

#[repr(C)]
struct ByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// BPF_OBJ_GET_INFO_BY_FD.
pub(crate) fn info(program: BorrowedFd<'_>) -> Result<Info, Errno> {
    let mut info = Info::default();
    let mut attr = ByFd {
        bpf_fd: number(program),
        info_len: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` points to a struct of `info_len` bytes that is this function's own. All of it may be any bytes; its
    // lengths and pointers are zero, so the kernel writes nowhere else.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// bpf(2).
///
/// # Safety
/// What `attr` points to must be valid for what `command` reads and writes there.
unsafe fn bpf<T>(command: usize, attr: &mut T) -> Result<usize, Errno> {
    let args = [command, std::ptr::from_mut(attr) as usize, size_of::<T>(), 0, 0, 0];
    // SAFETY: the struct is borrowed mutably for the call and as long as the kernel is told; the rest is the caller's
    // promise.
    unsafe { cellkit_core::sys::syscall(libc::SYS_bpf, args) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn owned(fd: usize) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor, close-on-exec, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
