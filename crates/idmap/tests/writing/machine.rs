//! Another `/etc`, and other programs, in the mount namespace of an isolated test.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use faultkit::TempDir;

/// Its users are root, ann (12345) and bob (12346).
pub const ANN: u32 = 12345;

/// Has what it says as long as it lives.
pub struct Machine {
    dir: TempDir,
    mounted: Vec<String>,
}

impl Machine {
    /// One with these rows in `/etc/subuid` and `/etc/subgid`.
    pub fn with(subuid: &str, subgid: &str) -> Self {
        assert!(std::env::var_os("CELLKIT_ISOLATED").is_some(), "never in the machine's own mount namespace");
        let mut this = Self { dir: TempDir::new(), mounted: Vec::new() };
        let dir = this.dir.path().to_str().expect("a path").to_owned();
        // Its own file system, whatever the flags of the one below: a program here may be set-user-ID.
        this.mount(&["-t", "tmpfs", "-o", "mode=755", "none"], &dir);
        fs::create_dir(format!("{dir}/etc")).expect("mkdir");
        for (name, content) in [
            ("passwd", "root:x:0:0::/root:/bin/sh\nann:x:12345:12345::/:/bin/sh\nbob:x:12346:12346::/:/bin/sh\n"),
            ("group", "root:x:0:\nann:x:12345:\nbob:x:12346:\n"),
            ("subuid", subuid),
            ("subgid", subgid),
        ] {
            fs::write(format!("{dir}/etc/{name}"), content).expect(name);
        }
        this.mount(&["--bind", &format!("{dir}/etc")], "/etc");
        this
    }

    /// With `program`, set-user-ID root, in place of newuidmap and newgidmap.
    pub fn and_programs(mut self, program: &Path) -> Self {
        for name in ["newuidmap", "newgidmap"] {
            let copy = self.dir.path().join(name);
            fs::copy(program, &copy).expect("copy");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).expect("chmod");
            self.mount(&["--bind", copy.to_str().expect("a path")], &format!("/usr/bin/{name}"));
        }
        self
    }

    fn mount(&mut self, words: &[&str], target: &str) {
        let status = Command::new("mount").args(words).arg(target).status().expect("mount");
        assert!(status.success(), "mount {words:?} {target}");
        self.mounted.push(target.to_owned());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for target in self.mounted.iter().rev() {
            let status = Command::new("umount").arg(target).status().expect("umount");
            assert!(status.success() || std::thread::panicking(), "umount {target}");
        }
    }
}
