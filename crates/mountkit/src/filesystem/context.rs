//! A file system that is being described to the kernel.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use cellkit_core::sys::fsconfig;
use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::{Atime, DetachedMount, MountAttr, sys};

/// Whether another mount of a file system that is there already will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Superblock {
    /// It will, where the type has it so.
    NewOrShared,
    /// It will not. Linux 6.6.
    New,
}

/// The descriptor of fsopen(2) or fspick(2). Each error has what the kernel said there.
#[derive(Debug)]
pub(crate) struct Context {
    fd: OwnedFd,
    subject: Subject,
}

impl Context {
    /// fsopen(2).
    pub(crate) fn open(fs: &CStr, subject: Subject) -> Result<Self> {
        match sys::mount::open_context(fs) {
            Ok(fd) => Ok(Self { fd, subject }),
            Err(errno) => Err(Error::from_errno("fsopen", errno.0).on(subject).with_hints(&HINTS)),
        }
    }

    /// A context that fspick(2) gave.
    pub(crate) fn of(fd: OwnedFd, subject: Subject) -> Self {
        Self { fd, subject }
    }

    fn fail(&self, operation: &'static str, errno: Errno) -> Error {
        let error = Error::from_errno(operation, errno.0)
            .on(self.subject.clone())
            .with_kernel_text(sys::mount::context_text(&self.fd));
        // The hint guesses at what the kernel has then said.
        match error.kernel_text() {
            Some(_) if errno.0 == libc::EINVAL => error,
            _ => error.with_hints(&HINTS),
        }
    }

    fn config(&self, command: u32, key: &CStr, value: Option<&CStr>, aux: i32) -> Result<()> {
        fsconfig(self.fd.as_raw_fd(), command, Some(key), value, aux).map_err(|errno| {
            let option = match value {
                // Errors go to logs.
                Some(_) if is_secret(key) => format!("{}=…", key.to_string_lossy()),
                Some(value) => format!("{}={}", key.to_string_lossy(), value.to_string_lossy()),
                None => key.to_string_lossy().into_owned(),
            };
            self.fail("fsconfig", errno).context(format!("set {option}"))
        })
    }

    /// FSCONFIG_SET_STRING.
    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> Result<()> {
        self.config(libc::FSCONFIG_SET_STRING, key, Some(value), 0)
    }

    /// FSCONFIG_SET_FLAG.
    pub(crate) fn flag(&self, key: &CStr) -> Result<()> {
        self.config(libc::FSCONFIG_SET_FLAG, key, None, 0)
    }

    /// FSCONFIG_SET_FD.
    pub(crate) fn set_fd(&self, key: &CStr, fd: BorrowedFd<'_>) -> Result<()> {
        self.config(libc::FSCONFIG_SET_FD, key, None, fd.as_raw_fd())
    }

    /// FSCONFIG_CMD_CREATE, or FSCONFIG_CMD_CREATE_EXCL.
    pub(crate) fn create(&self, superblock: Superblock) -> Result<()> {
        let command = match superblock {
            Superblock::NewOrShared => libc::FSCONFIG_CMD_CREATE,
            Superblock::New => sys::mount::FSCONFIG_CMD_CREATE_EXCL,
        };
        fsconfig(self.fd.as_raw_fd(), command, None, None, 0).map_err(|errno| {
            let error = self.fail("fsconfig", errno);
            match (superblock, errno) {
                // The answer to a command that it does not know.
                (Superblock::New, Errno(libc::EOPNOTSUPP)) => {
                    error.as_unsupported("FSCONFIG_CMD_CREATE_EXCL", Some("6.6"))
                }
                _ => error,
            }
        })
    }

    /// FSCONFIG_CMD_RECONFIGURE.
    pub(crate) fn reconfigure(&self) -> Result<()> {
        fsconfig(self.fd.as_raw_fd(), libc::FSCONFIG_CMD_RECONFIGURE, None, None, 0)
            .map_err(|errno| self.fail("fsconfig", errno))
    }

    /// fsmount(2).
    pub(crate) fn mount(self, attrs: MountAttr, atime: Option<Atime>) -> Result<DetachedMount> {
        let bits = attrs.bits() | atime.map_or(0, Atime::bits);
        match sys::mount::mount_context(&self.fd, bits) {
            Ok(fd) => Ok(DetachedMount::new(fd, self.subject)),
            Err(errno) => Err(self.fail("fsmount", errno)),
        }
    }
}

/// Whether the value of an option is nobody's to see: `password` of cifs, `secret` of ceph.
fn is_secret(key: &CStr) -> bool {
    let key = key.to_bytes().to_ascii_lowercase();
    [&b"pass"[..], b"secret", b"key", b"cred"].iter().any(|word| key.windows(word.len()).any(|part| part == *word))
}
