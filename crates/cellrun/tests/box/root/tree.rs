//! A root file system for tests: programs come from the machine's /usr, which is to be a volume.

use std::fs;
use std::os::unix::fs::symlink;

use faultkit::TempDir;

/// The volume that the tree needs.
pub const USR: [&str; 2] = ["-v", "/usr:/usr:ro"];

/// `etc` with users of its own, and links into /usr.
pub fn make() -> TempDir {
    let dir = TempDir::new();
    for sub in ["etc", "srv/web", "dir"] {
        fs::create_dir_all(dir.join(sub)).expect("mkdir");
    }
    let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv/web:/bin/sh\n";
    fs::write(dir.join("etc/passwd"), passwd).expect("passwd");
    fs::write(dir.join("etc/group"), "root:x:0:\nwww:x:34:\nlog:x:4:root,web\nadm:x:5:\n").expect("group");
    for link in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{link}"), dir.join(link)).expect("symlink");
    }
    dir
}
