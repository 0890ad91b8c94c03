//! The root directory of a container in a user namespace of root's: its files are the container's, inside, and nobody's
//! business, outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use faultkit::TempDir;

use super::tree;
use crate::run::{Running, boxed, cellrun, host, nothing_is_left, say};

const USERNS: [&str; 2] = ["--userns", "100000:200000:65536"];

/// A tree on a tmpfs of its own, which kernels can idmap; unmounted when dropped. Some of it is not root's.
struct OnTmpfs(TempDir);

impl OnTmpfs {
    fn new() -> Self {
        let (dir, plain) = (TempDir::new(), tree::make());
        host(&format!("mount -t tmpfs tree {0}; chmod 755 {0}; cp -a {1}/. {0}", dir.display(), plain.display()));
        fs::write(dir.join("etc/secret"), "root's\n").expect("write");
        host(&format!("chmod 600 {}/etc/secret", dir.display()));
        chown(dir.join("srv/web"), Some(33), Some(34)).expect("chown");
        chown(dir.join("dir"), Some(70_000), Some(70_000)).expect("chown");
        Self(dir)
    }

    fn options(&self) -> Vec<&str> {
        let path = self.0.to_str().expect("UTF-8");
        ["--net", "none", "--rootfs", path].into_iter().chain(tree::USR).chain(USERNS).collect()
    }
}

impl Drop for OnTmpfs {
    fn drop(&mut self) {
        host(&format!("umount {}", self.0.display()));
    }
}

fn inside(options: &[&str], script: &str) -> String {
    say(cellrun(["box"]).args(options).args(["--", "sh", "-c", script])).ok()
}

/// All that is there, as find(1) lists it.
fn census(dir: &Path) -> String {
    host(&format!("find {} -printf '%P %y %m %U:%G %s %T@\\n' | sort", dir.display()))
}

#[test]
fn what_is_roots_is_the_containers_roots() {
    faultkit::require!(root, kernel(6.3));
    faultkit::isolated!(|| {
        let tree = OnTmpfs::new();
        let before = census(&tree.0);
        let said = inside(&tree.options(), "stat -c '%n %u:%g' / /etc /etc/secret /srv/web /dir; cat /etc/secret");
        assert_eq!(said, "/ 0:0\n/etc 0:0\n/etc/secret 0:0\n/srv/web 33:34\n/dir 65534:65534\nroot's\n");
        // The container's web is not the container's root.
        let as_web = [&tree.options()[..], &["--user", "web"]].concat();
        let said =
            inside(&as_web, "cat /etc/secret 2>/dev/null || echo no; touch /srv/web/mine; stat -c %u:%g /srv/web/mine");
        assert_eq!(said, "no\n33:34\n");
        // What is changed, is changed in the throw-away layer.
        let said = inside(
            &tree.options(),
            "echo more >>/etc/secret; chown 5:6 /srv/web; cat /etc/secret; stat -c %u:%g /srv/web",
        );
        assert_eq!(said, "root's\nmore\n5:6\n");
        assert_eq!(census(&tree.0), before);
        nothing_is_left();
    });
}

#[test]
fn what_is_made_inside_is_of_the_mapped_ids_outside() {
    faultkit::require!(root, kernel(6.3));
    faultkit::isolated!(|| {
        let tree = OnTmpfs::new();
        let script = "touch /etc/made; chown 7:8 /srv/web; touch /srv/web/made; echo ready; read line || true";
        let command = [&["box"], &tree.options()[..], &["--", "sh", "-c", script]].concat();
        let mut running = Running::start(&mut cellrun(&command));
        running.until("ready");
        let owner = |path: &str| {
            let path = format!("/proc/{}/root{path}", running.payload());
            let metadata = fs::symlink_metadata(&path).expect("stat");
            (metadata.uid(), metadata.gid())
        };
        assert_eq!(owner("/etc/made"), (100_000, 200_000));
        assert_eq!(owner("/etc/passwd"), (100_000, 200_000));
        assert_eq!(owner("/srv/web"), (100_007, 200_008));
        running.write("\n");
        running.end().ok();
        nothing_is_left();
    });
}

#[test]
fn set_user_id_programs_are_of_the_containers_root_and_devices_open_nothing() {
    faultkit::require!(root, kernel(6.3));
    faultkit::isolated!(|| {
        let tree = OnTmpfs::new();
        let dir = tree.0.display();
        host(&format!("cp $(command -v id) {dir}/dir/id; chmod 4755 {dir}/dir/id; mknod -m 666 {dir}/dir/null c 1 3"));
        let script = "/dir/id -u; echo x 2>/dev/null >/dir/null || echo closed";
        let with = |options: &[&str]| inside(&[&tree.options()[..], &["--user", "web"], options].concat(), script);
        // Without the bit of no new privileges, as su and sudo want it.
        assert_eq!(with(&["--new-privileges"]), "0\nclosed\n");
        assert_eq!(with(&[]), "33\nclosed\n");
        nothing_is_left();
    });
}

#[test]
fn a_directory_that_was_given_to_the_container_stays_as_it_is() {
    faultkit::require!(root, kernel(6.3));
    faultkit::isolated!(|| {
        let tree = OnTmpfs::new();
        host(&format!("chown -R 100000:200000 {}", tree.0.display()));
        assert_eq!(inside(&tree.options(), "stat -c %u:%g / /etc/passwd"), "0:0\n0:0\n");
        let explained = boxed(&[&["--explain"], &tree.options()[..], &["--", "true"]].concat()).ok();
        assert!(!explained.contains("MOUNT_ATTR_IDMAP"), "{explained}");
        nothing_is_left();
    });
}

#[test]
fn explain_shows_what_is_done_and_trace_does_it() {
    faultkit::require!(root, kernel(6.3));
    faultkit::isolated!(|| {
        let tree = OnTmpfs::new();
        let run = |mode: &str| say(cellrun(["box", mode, "--name", "same"]).args(tree.options()).args(["--", "true"]));
        let calls = |text: &str| {
            let numbered = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
            let call = |line: &str| line.split(". ").nth(1).unwrap_or(line).split(['(', ' ']).next().map(str::to_owned);
            text.lines().filter(numbered).filter_map(call).collect::<Vec<_>>()
        };
        let explained = run("--explain").ok();
        let head = ["clone", "write", "write", "read", "read", "ioctl", "waitid", "open_tree_attr", "openat"];
        assert!(calls(&explained).starts_with(&head.map(str::to_owned)), "{explained}");
        assert!(explained.contains("MOUNT_ATTR_RDONLY|MOUNT_ATTR_IDMAP"), "{explained}");
        let traced = run("--trace");
        assert_eq!(traced.status, 0, "{traced:#?}");
        for call in ["clone(CLONE_NEWUSER", "waitid(", "open_tree_attr("] {
            assert!(traced.err.contains(call), "{call}: {}", traced.err);
        }
        nothing_is_left();
    });
}

#[test]
fn where_it_cannot_be_a_note_says_so_and_the_files_are_nobodys() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // An overlay takes no id map.
        let (tree, upper) = (tree::make(), TempDir::new());
        let (lower, over) = (tree.display(), upper.display());
        host(&format!("mount -t tmpfs upper {over}; mkdir {over}/u {over}/w {over}/root"));
        host(&format!("mount -t overlay -o lowerdir={lower},upperdir={over}/u,workdir={over}/w over {over}/root"));
        let root = upper.join("root");
        let options = ["--net", "none", "--rootfs", root.to_str().expect("UTF-8")];
        let options = [&options[..], &tree::USR, &USERNS].concat();
        assert_eq!(inside(&options, "stat -c %u:%g /etc/passwd"), "65534:65534\n");
        let explained = boxed(&[&["--explain"], &options[..], &["--", "true"]].concat()).ok();
        let note = explained.lines().find(|line| line.starts_with("note: files of"));
        assert!(note.is_some_and(|note| note.contains("nobody in the container")), "{explained}");
        host(&format!("umount {over}/root {over}"));
        nothing_is_left();
    });
}

#[test]
fn the_machines_own_root_keeps_its_owners() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // Nobody asked to give its secrets away.
        let said = inside(&["--net", "none", "--userns", "100000:200000:65536"], "stat -c %u:%g /etc/passwd /usr/bin");
        assert_eq!(said, "65534:65534\n65534:65534\n");
        nothing_is_left();
    });
}

#[test]
fn auto_wants_a_range_for_root() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        for name in ["subuid", "subgid"] {
            fs::write(dir.join(name), "somebody:100000:65536\n").expect("write");
            host(&format!("mount --bind {}/{name} /etc/{name}", dir.display()));
        }
        let said = boxed(&["--userns", "auto", "--net", "none", "--", "true"]);
        assert_eq!(said.status, 125, "{said:#?}");
        assert!(said.failure().contains("\"root\" has no range of ids in /etc/subuid and /etc/subgid"), "{said:#?}");
        assert!(said.err.contains("add the line \"root:165536:65536\" to /etc/subuid"), "{said:#?}");
        for name in ["subuid", "subgid"] {
            fs::write(dir.join(name), "root:300000:65536\n").expect("write");
        }
        let said = crate::run::inside(&["--userns", "auto"], "tr -s ' ' </proc/self/uid_map; id -u");
        assert_eq!(said, " 0 300000 65536\n0\n");
        for name in ["subuid", "subgid"] {
            host(&format!("umount /etc/{name}"));
        }
        nothing_is_left();
    });
}
