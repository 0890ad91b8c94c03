//! A folder that goes away with its owner.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new folder `cellkit-test-...` in the folder for temporary files, removed with all it holds when dropped.
///
/// Removing does not cross mounts: what is still mounted there makes it fail, which [`Ledger`](crate::Ledger) reports.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes one, readable by everybody, writable by the owner.
    ///
    /// # Panics
    /// When the folder for temporary files cannot be written.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        let base = std::env::temp_dir();
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("cellkit-test-{}-{n}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let mode = fs::Permissions::from_mode(0o755);
                    fs::set_permissions(&path, mode).unwrap_or_else(|e| panic!("chmod {}: {e}", path.display()));
                    return Self(path);
                }
                // A process of another pid namespace, or an earlier one with our number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => panic!("mkdir {}: {e}", path.display()),
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl std::ops::Deref for TempDir {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            eprintln!("faultkit: could not remove {}: {e}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_different_and_both_go() {
        let (first, second) = (TempDir::new(), TempDir::new());
        let (a, b) = (first.to_path_buf(), second.to_path_buf());
        assert_ne!(a, b);
        fs::create_dir(a.join("sub")).unwrap();
        fs::write(a.join("sub/file"), "x").unwrap();
        drop((first, second));
        assert!(!a.exists() && !b.exists());
    }
}
