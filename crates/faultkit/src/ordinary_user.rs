//! Programs run by somebody without privileges, from a test that has them.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::TempDir;

/// A user id that no password file knows, with a home folder of its own.
#[derive(Debug)]
pub struct OrdinaryUser {
    uid: u32,
    gid: u32,
    home: TempDir,
}

/// [`OrdinaryUser::new`] with 12345 for both ids.
///
/// # Panics
/// As [`OrdinaryUser::new`].
#[must_use]
#[track_caller]
pub fn ordinary_user() -> OrdinaryUser {
    OrdinaryUser::new(12345, 12345)
}

impl OrdinaryUser {
    /// Makes the folders. Needs root.
    ///
    /// # Panics
    /// When they cannot be made or given away.
    #[must_use]
    #[track_caller]
    pub fn new(uid: u32, gid: u32) -> Self {
        let home = TempDir::new();
        let user = Self { uid, gid, home };
        let run = user.runtime_dir();
        fs::create_dir(&run).unwrap_or_else(|e| panic!("mkdir {}: {e}", run.display()));
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap_or_else(|e| panic!("chmod: {e}"));
        for dir in [user.home(), &run] {
            chown(dir, Some(uid), Some(gid)).unwrap_or_else(|e| panic!("chown {} to {uid}: {e}", dir.display()));
        }
        user
    }

    /// The user id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The group id.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// The home folder, which the user owns. It goes away with `self`.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// What `XDG_RUNTIME_DIR` says: a folder only the user may enter.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        self.home.path().join("run")
    }

    /// Copies `program` into the home folder and answers where it is: the user may not reach what cargo builds below
    /// somebody else's home. For the running test itself, pass `std::env::current_exe()`.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    #[track_caller]
    pub fn copy_of(&self, program: impl AsRef<Path>) -> PathBuf {
        let program = program.as_ref();
        let to = self.home().join(program.file_name().unwrap_or_default());
        // The copy has the mode of the original, which its owner may have kept to himself.
        let copied = fs::copy(program, &to).and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(0o755)));
        copied.unwrap_or_else(|e| panic!("copy {} to {}: {e}", program.display(), to.display()));
        to
    }

    /// A command that runs `program` as the user: no supplementary groups, no capabilities, in the home folder, with
    /// `PATH`, `HOME`, `USER`, `TMPDIR` and `XDG_RUNTIME_DIR` and nothing else in the environment.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home())
            .env("USER", format!("uid{}", self.uid))
            .env("TMPDIR", self.home())
            .env("XDG_RUNTIME_DIR", self.runtime_dir())
            .current_dir(self.home())
            // With a uid set and no groups asked for, the standard library drops the supplementary groups.
            .gid(self.gid)
            .uid(self.uid);
        command
    }
}

#[cfg(test)]
mod tests {
    mod root {
        #[test]
        fn has_no_groups_and_no_capabilities() {
            crate::require!(root);
            let user = crate::ordinary_user();
            let output = user.command("cat").arg("/proc/self/status").output().unwrap();
            let status = String::from_utf8(output.stdout).unwrap();
            let value = |key: &str| {
                let line = status.lines().find(|line| line.starts_with(key)).unwrap();
                line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
            };
            assert_eq!(value("Uid:"), "12345 12345 12345 12345");
            assert_eq!(value("Gid:"), "12345 12345 12345 12345");
            assert_eq!(value("Groups:"), "");
            assert_eq!(value("CapEff:"), "0000000000000000");
            assert_eq!(value("CapPrm:"), "0000000000000000");
        }

        #[test]
        fn runs_a_copy_of_what_it_cannot_reach() {
            use std::os::unix::fs::PermissionsExt;
            crate::require!(root);
            let hidden = crate::TempDir::new();
            std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o700)).unwrap();
            let program = hidden.path().join("true");
            std::fs::copy("/bin/true", &program).unwrap();
            let user = crate::ordinary_user();
            let denied = user.command(&program).status().unwrap_err();
            assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
            assert!(user.command(user.copy_of(&program)).status().unwrap().success());
        }

        #[test]
        fn may_write_its_home_and_its_runtime_folder() {
            crate::require!(root);
            let user = crate::ordinary_user();
            let script = "set -e; touch \"$HOME/a\" \"$XDG_RUNTIME_DIR/b\"; stat -c %a \"$XDG_RUNTIME_DIR\"; pwd";
            let output = user.command("sh").args(["-c", script]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(text.lines().collect::<Vec<_>>(), ["700", user.home().to_str().unwrap()]);
        }
    }
}
