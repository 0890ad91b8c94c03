//! A file in a directory, replaced as a whole.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;

use cellkit_core::{Error, Result, Subject};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::hint::HINTS;

/// Makes or replaces `name` in `dir`. The directory may be a container's: nothing in it is followed.
pub(crate) fn replace(dir: BorrowedFd<'_>, name: &CStr, text: &[u8]) -> Result<()> {
    let subject = || Subject::Value(name.to_string_lossy().into_owned());
    let bytes = name.to_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.len() > 200 {
        return Err(Error::invalid("openat", "it has to be the name of one file").on(subject()));
    }
    let fail =
        |call: &'static str, errno: Errno| Error::from_errno(call, errno as i32).on(subject()).with_hints(&HINTS);
    let hidden = [b".", bytes, b".vethnet"].concat();
    let temporary = CString::new(hidden).map_err(|_| Error::invalid("openat", "it has a zero byte").on(subject()))?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = || openat(dir, temporary.as_c_str(), flags, Mode::from_bits_truncate(0o644));
    let file = match open() {
        // A killed writer's, or a trap: it is not opened, but removed.
        Err(Errno::EEXIST) => {
            unlinkat(dir, temporary.as_c_str(), UnlinkatFlags::NoRemoveDir).map_err(|errno| fail("unlinkat", errno))?;
            open()
        }
        opened => opened,
    };
    let mut file = File::from(file.map_err(|errno| fail("openat", errno))?);
    let io = |call: &'static str, error: std::io::Error| Error::from_io(call, &error).on(subject()).with_hints(&HINTS);
    // Whatever the umask: it is read by every user of the container.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let written = file
        .set_permissions(readable)
        .map_err(|error| io("fchmod", error))
        .and_then(|()| file.write_all(text).map_err(|error| io("write", error)))
        .and_then(|()| renameat(dir, temporary.as_c_str(), dir, name).map_err(|errno| fail("renameat", errno)));
    written.inspect_err(|_| {
        let _ = unlinkat(dir, temporary.as_c_str(), UnlinkatFlags::NoRemoveDir);
    })
}
