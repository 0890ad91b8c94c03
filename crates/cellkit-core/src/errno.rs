//! A raw error number, as the kernel returns it.
#![forbid(unsafe_code)]

use std::fmt;

/// A raw error number of the kernel, such as `Errno(libc::EPERM)`.
///
/// It is what code in a cloned child may return: two words fit in a register, nothing is allocated, and the C
/// library's `errno` (which a child that shares memory would overwrite in its parent) is never touched.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// The C library's `errno` of the calling thread. Only for the parent, after a call through the C library.
    #[must_use]
    pub fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// The symbolic name, such as `EPERM`; `errno 4095` for a number nobody has named.
    #[must_use]
    pub fn name(self) -> String {
        match nix::errno::Errno::from_raw(self.0) {
            nix::errno::Errno::UnknownErrno => format!("errno {}", self.0),
            known => format!("{known:?}"),
        }
    }

    /// The usual sentence in lower case, such as `operation not permitted`.
    #[must_use]
    pub fn text(self) -> String {
        let text = nix::errno::Errno::from_raw(self.0).desc();
        let mut letters = text.chars();
        match (letters.next(), letters.clone().next()) {
            // "RPC struct is bad" and "I/O error" stay as they are.
            (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
                first.to_lowercase().chain(letters).collect()
            }
            _ => text.to_owned(),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.name())
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts() {
        assert_eq!(Errno(libc::EPERM).to_string(), "operation not permitted (EPERM)");
        assert_eq!(Errno(libc::EIO).to_string(), "I/O error (EIO)");
        assert_eq!(Errno(4095).name(), "errno 4095");
    }
}
