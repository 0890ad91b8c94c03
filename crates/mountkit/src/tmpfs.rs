//! What a tmpfs is made with.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::{Error, Result};

/// The options of a tmpfs mounted with [`Rootfs::tmpfs`](crate::Rootfs::tmpfs): what `mount -t tmpfs -o size=…,mode=…`
/// takes.
///
/// Without any: half of the machine's memory at most, mode 1777, nosuid, nodev. What is kept in it counts as memory of
/// the control group that wrote it. See [tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html).
///
/// ```
/// use mountkit::TmpfsOptions;
///
/// let options = TmpfsOptions::new().size(64 << 20).mode(0o1777).no_exec();
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct TmpfsOptions {
    size: Option<u64>,
    mode: Option<u32>,
    no_exec: bool,
}

impl TmpfsOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `size=`: the most it may hold, in bytes, rounded up to whole pages. 0 is refused, because the kernel takes it
    /// for "no limit".
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// `mode=`: the permission bits of its root directory, up to 0o7777.
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = Some(bits);
        self
    }

    /// `noexec`: programs in it cannot be run.
    #[doc(alias = "MOUNT_ATTR_NOEXEC")]
    pub fn no_exec(mut self) -> Self {
        self.no_exec = true;
        self
    }

    pub(crate) fn check(&self, target: &Path) -> Result<()> {
        let refuse = |why: String| Err(Error::invalid("fsconfig", why).on(target));
        match self.size {
            Some(0) => return refuse("a tmpfs of 0 bytes would have no limit: give a size or leave it out".into()),
            Some(bytes) if bytes > i64::MAX as u64 => {
                return refuse(format!("a tmpfs of {bytes} bytes is larger than any file can be"));
            }
            _ => {}
        }
        match self.mode {
            Some(bits) if bits > 0o7777 => refuse(format!("mode {bits:#o} has bits beyond 0o7777")),
            _ => Ok(()),
        }
    }

    /// What fsconfig is told: keys and values.
    pub(crate) fn settings(&self) -> Vec<(&'static std::ffi::CStr, String)> {
        let mut settings = Vec::new();
        if let Some(bytes) = self.size {
            settings.push((c"size", bytes.to_string()));
        }
        if let Some(bits) = self.mode {
            settings.push((c"mode", format!("{bits:04o}")));
        }
        settings
    }

    /// MOUNT_ATTR_* of the mount.
    pub(crate) fn attributes(&self) -> u64 {
        let exec = if self.no_exec { libc::MOUNT_ATTR_NOEXEC } else { 0 };
        libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | exec
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;

    #[test]
    fn values_that_cannot_be() {
        let target = Path::new("/scratch");
        for (options, word) in [
            (TmpfsOptions::new().size(0), "no limit"),
            (TmpfsOptions::new().size(u64::MAX), "larger"),
            (TmpfsOptions::new().mode(0o10000), "0o7777"),
        ] {
            let error = options.check(target).expect_err(word);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word) && error.to_string().contains("/scratch"), "{error}");
        }
        assert!(TmpfsOptions::new().size(1).mode(0).check(target).is_ok());
    }

    #[test]
    fn settings_as_the_kernel_wants_them() {
        let options = TmpfsOptions::new().size(65536).mode(0o755);
        assert_eq!(options.settings(), [(c"size", "65536".to_owned()), (c"mode", "0755".to_owned())]);
        assert!(TmpfsOptions::new().settings().is_empty());
    }
}
