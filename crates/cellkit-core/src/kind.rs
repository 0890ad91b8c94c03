//! What callers match on.
#![forbid(unsafe_code)]

use crate::Errno;

/// What sort of failure an [`Error`](crate::Error) is: the part a program decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller may not do this (EPERM, EACCES, EROFS).
    Permission,
    /// The subject does not exist (ENOENT, ESRCH, ENXIO, ENODEV).
    NotFound,
    /// The subject exists already (EEXIST, EADDRINUSE).
    AlreadyExists,
    /// The subject is in use (EBUSY, ETXTBSY, ENOTEMPTY).
    Busy,
    /// The subject lived when the operation began and has died since. A normal outcome when processes and groups end.
    Gone,
    /// An argument is wrong: refused by the library before any effect, or by the kernel (EINVAL, ENOTDIR, ...).
    Invalid,
    /// A file, record or reply could not be understood.
    Parse,
    /// This kernel, or this configuration of it, lacks the feature (ENOSYS, EOPNOTSUPP).
    Unsupported,
    /// A limit of the kernel or of the caller was reached (EMFILE, ENFILE, ENOSPC, EAGAIN, EUSERS, EDQUOT, E2BIG).
    Limit,
    /// The kernel had no memory (ENOMEM).
    OutOfMemory,
    /// The time limit passed (ETIMEDOUT).
    TimedOut,
    /// A signal interrupted the call (EINTR).
    Interrupted,
    /// Any other errno.
    Other,
}

impl ErrorKind {
    pub(crate) fn of(errno: Errno) -> Self {
        match errno.0 {
            libc::EPERM | libc::EACCES | libc::EROFS => Self::Permission,
            libc::ENOENT | libc::ESRCH | libc::ENXIO | libc::ENODEV => Self::NotFound,
            libc::EEXIST | libc::EADDRINUSE => Self::AlreadyExists,
            libc::EBUSY | libc::ETXTBSY | libc::ENOTEMPTY => Self::Busy,
            libc::EINVAL
            | libc::ENOTDIR
            | libc::EISDIR
            | libc::ENAMETOOLONG
            | libc::ELOOP
            | libc::EBADF
            | libc::ERANGE
            | libc::ENOEXEC
            | libc::EXDEV
            | libc::ENOTTY
            | libc::EADDRNOTAVAIL => Self::Invalid,
            libc::ENOSYS | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => Self::Unsupported,
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOSPC
            | libc::EAGAIN
            | libc::EUSERS
            | libc::EDQUOT
            | libc::E2BIG
            | libc::ENOBUFS
            | libc::EXFULL
            | libc::EFBIG => Self::Limit,
            libc::ENOMEM => Self::OutOfMemory,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::EINTR => Self::Interrupted,
            _ => Self::Other,
        }
    }

    pub(crate) fn io(self) -> std::io::ErrorKind {
        use std::io::ErrorKind as Io;
        match self {
            Self::Permission => Io::PermissionDenied,
            Self::NotFound | Self::Gone => Io::NotFound,
            Self::AlreadyExists => Io::AlreadyExists,
            Self::Busy => Io::ResourceBusy,
            Self::Invalid => Io::InvalidInput,
            Self::Parse => Io::InvalidData,
            Self::Unsupported => Io::Unsupported,
            Self::OutOfMemory => Io::OutOfMemory,
            Self::TimedOut => Io::TimedOut,
            Self::Interrupted => Io::Interrupted,
            Self::Limit | Self::Other => Io::Other,
        }
    }
}
