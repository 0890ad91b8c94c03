//! Which system call made a child.
#![forbid(unsafe_code)]

use std::fmt;

/// The system call that made a child: [`PausedChild::backend`](crate::PausedChild::backend).
///
/// Both make the same child. [`Clone`](Self::Clone) cannot choose its number
/// ([`Command::set_tid`](crate::Command::set_tid)), and has it move into its cgroup instead of being born there.
///
/// ```
/// use ns_core::Command;
///
/// let paused = Command::new("/bin/true").spawn_paused()?;
/// assert!(paused.clone_step().to_string().starts_with(&format!("{}(", paused.backend())));
/// assert!(paused.resume(&mut ())?.wait()?.success());
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See clone(2): <https://man7.org/linux/man-pages/man2/clone.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// clone3(2), Linux 5.3.
    Clone3,
    /// clone(2), where a seccomp filter hides clone3.
    Clone,
}

impl Backend {
    pub(crate) fn call(self) -> &'static str {
        match self {
            Self::Clone3 => "clone3",
            Self::Clone => "clone",
        }
    }
}

impl fmt::Display for Backend {
    /// The name of the system call.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call())
    }
}
