//! An /etc of the test's own, in its own mount namespace.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use faultkit::TempDir;

/// Unmounted when dropped. Only inside `isolated!`.
pub(super) struct Etc {
    _dir: TempDir,
}

impl Etc {
    /// With these files, and root and ann (12345) in passwd and group.
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let accounts = [
            ("passwd", "root:x:0:0::/root:/bin/sh\nann:x:12345:12345::/:/bin/sh\nbob:x:12346:12346::/:/bin/sh\n"),
            ("group", "root:x:0:\nann:x:12345:\nbob:x:12346:\n"),
        ];
        for (name, content) in accounts.iter().chain(files) {
            fs::write(dir.path().join(name), content).expect(name);
        }
        assert!(std::env::var_os("CELLKIT_ISOLATED").is_some(), "never in the machine's own mount namespace");
        run(&["mount", "--bind", dir.path().to_str().expect("a path"), "/etc"]);
        Self { _dir: dir }
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        run(&["umount", "/etc"]);
    }
}

fn run(words: &[&str]) {
    let status = Command::new(words[0]).args(&words[1..]).status().expect(words[0]);
    assert!(status.success(), "{words:?}");
}
