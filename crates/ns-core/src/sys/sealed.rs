//! The calls that seal a program.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

/// getresuid(2): the real, effective and saved user.
pub(crate) fn user_ids() -> Result<[u32; 3], Errno> {
    let mut ids = [0u32; 3];
    let [real, effective, saved] = ids.each_mut().map(|id| ptr::from_mut(id) as usize);
    // SAFETY: the kernel writes three numbers.
    unsafe { syscall(libc::SYS_getresuid, [real, effective, saved, 0, 0, 0]) }?;
    Ok(ids)
}

/// Nobody may write, shrink or grow it, nor take a seal away.
pub(crate) const ALL: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// Nor make it not executable. Linux 6.3.
const F_SEAL_EXEC: i32 = 0x20;

/// memfd_create(2) of a program: executable, whatever `vm.memfd_noexec` says of those that do not say.
pub(crate) fn memfd() -> Result<OwnedFd, Errno> {
    const MFD_EXEC: u32 = 0x10;
    let plain = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let create = |flags: u32| {
        let args = [c"sealed".as_ptr() as usize, flags as usize, 0, 0, 0, 0];
        // SAFETY: the name is a C string; the kernel only reads it.
        unsafe { syscall(libc::SYS_memfd_create, args) }
    };
    let fd = match create(plain | MFD_EXEC) {
        // Before Linux 6.3 every memfd is executable.
        Err(Errno(libc::EINVAL)) => create(plain)?,
        answer => answer?,
    };
    // SAFETY: just returned by memfd_create.
    Ok(unsafe { own(fd as RawFd) })
}

/// fcntl(2) F_ADD_SEALS with all that the kernel has.
pub(crate) fn add_seals(memfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let add = |seals: i32| {
        // SAFETY: no pointers.
        match unsafe { libc::fcntl(memfd.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
            -1 => Err(Errno::last()),
            _ => Ok(()),
        }
    };
    match add(ALL | F_SEAL_EXEC) {
        Err(Errno(libc::EINVAL)) => add(ALL),
        answer => answer,
    }
}

/// fcntl(2) F_GET_SEALS.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: no pointers.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) } {
        -1 => Err(Errno::last()),
        seals => Ok(seals),
    }
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Whether the file with this beginning is the program whose code runs, by what the kernel, or a loader that was executed
/// itself, has noted of it: where in a page its entry is, and the number of its program headers.
pub(crate) fn is_this_program(header: &[u8; 64]) -> bool {
    let wide = cfg!(target_pointer_width = "64");
    let (count_at, entry_size) = if wide { (56, 8) } else { (44, 4) };
    let number = |at: usize, size: usize| {
        let bytes = header.iter().skip(at).take(size);
        let places = bytes.enumerate().map(|(place, byte)| {
            let shift = if cfg!(target_endian = "little") { place } else { size - 1 - place };
            u64::from(*byte) << (8 * shift)
        });
        places.fold(0, |number, byte| number | byte)
    };
    // SAFETY: reads what the kernel has left on the stack of this process.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) } as u64;
    // SAFETY: as above.
    let count = unsafe { libc::getauxval(libc::AT_PHNUM) } as u64;
    (entry ^ number(24, entry_size)) & 0xfff == 0 && count == number(count_at, 2)
}

/// execveat(2) of a descriptor with this process's own environment; comes back only to say why not.
pub(crate) fn execute(program: BorrowedFd<'_>, arguments: &[CString]) -> Errno {
    let argv: Vec<*const c_char> = arguments.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
    // SAFETY: the C library's own variable, read once; the one thread that there is does not change it meanwhile.
    let envp = unsafe { environ };
    let args = [
        program.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        argv.as_ptr() as usize,
        envp as usize,
        libc::AT_EMPTY_PATH as usize,
        0,
    ];
    // SAFETY: an empty C string and two arrays of C strings that end in NULL.
    match unsafe { syscall(libc::SYS_execveat, args) } {
        Err(errno) => errno,
        // It does not come back.
        Ok(_) => Errno(0),
    }
}
