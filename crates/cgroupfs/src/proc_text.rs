//! What three files of /proc say about control groups. Pure: text in, values out.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::mountinfo::{MountLine, lines, unescaped};

use crate::Controller;

/// A line of `/proc/PID/mountinfo` whose file system is `cgroup` or `cgroup2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CgroupMount {
    /// The mount's number, which `fdinfo` of a descriptor on it has too.
    pub id: u64,
    /// Whether it is version 2.
    pub v2: bool,
    /// Which group the mount shows, as the reader's cgroup namespace sees it: `/`, `/a/b`, or `/..` for one above it.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    /// The options of the file system: for version 1 its controllers are among them.
    pub super_options: Vec<String>,
}

impl CgroupMount {
    /// Whether this is a version 1 hierarchy that holds `controller`.
    pub(crate) fn holds(&self, controller: Controller) -> bool {
        !self.v2 && self.super_options.iter().any(|option| option == controller.v1_name())
    }
}

/// The control group mounts of `/proc/PID/mountinfo`. Lines that are no mounts are passed over.
pub(crate) fn parse_mounts(mountinfo: &[u8]) -> Vec<CgroupMount> {
    lines(mountinfo).filter_map(parse_mount).collect()
}

fn parse_mount(mount: MountLine<'_>) -> Option<CgroupMount> {
    let v2 = match mount.kind? {
        b"cgroup" => false,
        b"cgroup2" => true,
        _ => return None,
    };
    let super_options = String::from_utf8_lossy(mount.options);
    Some(CgroupMount {
        id: std::str::from_utf8(mount.id).ok()?.parse().ok()?,
        v2,
        root: unescaped(mount.root),
        mount_point: unescaped(mount.target),
        super_options: super_options.split(',').map(str::to_owned).collect(),
    })
}

/// The `mnt_id` of `/proc/PID/fdinfo/FD`: the number of the mount that the descriptor is on.
pub(crate) fn parse_mount_id(fdinfo: &[u8]) -> Option<u64> {
    String::from_utf8_lossy(fdinfo).lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// `/proc/PID/cgroup`: which group a process is in, in each hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The group in the version 2 hierarchy, as the reader's cgroup namespace sees it.
    pub v2: Option<PathBuf>,
    /// Whether that group has been removed. Or its name ends as if it had: see [`as_written`](Membership::as_written).
    pub deleted: bool,
    /// The controllers that version 1 hierarchies hold, by their names there.
    pub held_by_v1: Vec<String>,
}

const DELETED: &str = " (deleted)";

impl Membership {
    /// The group when what looks like a remark is part of its name. A process that lives is in no other: groups are
    /// removed when nothing lives in them any more.
    pub(crate) fn as_written(&self) -> Option<PathBuf> {
        let mut path = self.v2.clone()?.into_os_string();
        if self.deleted {
            path.push(DELETED);
        }
        Some(path.into())
    }
}

pub(crate) fn parse_membership(cgroup: &[u8]) -> Membership {
    let mut found = Membership::default();
    for line in cgroup.split(|&byte| byte == b'\n') {
        // id:controllers:path; the path may hold colons.
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if id == b"0" {
            let (path, deleted) = match path.strip_suffix(DELETED.as_bytes()) {
                Some(path) => (path, true),
                None => (path, false),
            };
            found.v2 = Some(PathBuf::from(OsStr::from_bytes(path)));
            found.deleted = deleted;
        } else {
            let names = String::from_utf8_lossy(controllers);
            let names = names.split(',').filter(|name| !name.is_empty() && !name.starts_with("name="));
            found.held_by_v1.extend(names.map(str::to_owned));
        }
    }
    found
}

/// What `/proc/cgroups` says of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// It is there and enabled.
    Enabled,
    /// It is built in, but switched off on the kernel's command line.
    Disabled,
    /// It is not listed: not built in, or a newer kernel that lists what version 1 could use only.
    Unlisted,
}

pub(crate) fn parse_cgroups(cgroups: &[u8], controller: Controller) -> Kernel {
    let text = String::from_utf8_lossy(cgroups);
    for line in text.lines() {
        // subsys_name hierarchy num_cgroups enabled
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some(controller.v1_name()) {
            return if words.nth(2) == Some("0") { Kernel::Disabled } else { Kernel::Enabled };
        }
    }
    Kernel::Unlisted
}

/// Whether `cgroup_disable=` of the kernel's command line names the controller.
pub(crate) fn is_switched_off(cmdline: &[u8], controller: Controller) -> bool {
    String::from_utf8_lossy(cmdline)
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("cgroup_disable="))
        .any(|names| names.split(',').any(|name| name == controller.v1_name()))
}

/// Where below a mount that shows `root` the group `group` is; both as one cgroup namespace sees them.
///
/// `None` when the mount does not show that group, or shows it under a name that cannot be seen from here: a mount made
/// outside of a cgroup namespace shows `/..`, and the name of the step down from there is hidden.
pub(crate) fn below(group: &Path, root: &Path) -> Option<PathBuf> {
    let above = |path: &Path| path.components().any(|part| part == std::path::Component::ParentDir);
    if above(group) || above(root) {
        // Equal paths are the same group even so.
        return (group == root).then(PathBuf::new);
    }
    group.strip_prefix(root).ok().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HYBRID: &[u8] = b"\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:1 master:2 - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:38 /a\\040b /mnt/odd\\134\\012 rw - cgroup2 none rw
43 31 0:39 / /mnt/x rw - cgroup2
44 31 truncated
";

    #[test]
    fn mounts() {
        let mounts = parse_mounts(HYBRID);
        assert_eq!(mounts.len(), 5);
        assert!(mounts[0].holds(Controller::Cpu) && !mounts[0].holds(Controller::Memory));
        assert!(!mounts[1].holds(Controller::Cpu));
        assert_eq!((mounts[2].v2, mounts[2].mount_point.as_path()), (true, Path::new("/sys/fs/cgroup/unified")));
        assert_eq!((mounts[2].id, mounts[3].id), (41, 42));
        assert_eq!(parse_mount_id(b"pos:\t0\nflags:\t012\nmnt_id:\t41\nino:\t1\n"), Some(41));
        assert_eq!(parse_mount_id(b"pos:\t0\n"), None);
        assert_eq!(mounts[3].root, Path::new("/a b"));
        assert_eq!(mounts[3].mount_point, Path::new("/mnt/odd\\\n"));
        let blkio = parse_mounts(b"1 2 0:1 / /x rw - cgroup cgroup rw,blkio\n");
        assert!(blkio[0].holds(Controller::Io));
    }

    #[test]
    fn membership() {
        let hybrid = parse_membership(b"4:memory:/x\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/a:b/c\n");
        assert_eq!(hybrid.v2.as_deref(), Some(Path::new("/a:b/c")));
        assert_eq!(hybrid.held_by_v1, ["memory", "cpu", "cpuacct"]);
        let gone = parse_membership(b"0::/gone (deleted)\n");
        assert_eq!((gone.v2.as_deref(), gone.deleted), (Some(Path::new("/gone")), true));
        assert_eq!(gone.as_written().as_deref(), Some(Path::new("/gone (deleted)")));
        assert_eq!(hybrid.as_written(), hybrid.v2);
        assert_eq!(parse_membership(b"1:cpu:/\n").v2, None);
        assert_eq!(parse_membership(b"garbage\n:\n\n"), Membership::default());
    }

    #[test]
    fn proc_cgroups() {
        let text = b"#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\nblkio\t7\t1\t1\n";
        assert_eq!(parse_cgroups(text, Controller::Memory), Kernel::Disabled);
        assert_eq!(parse_cgroups(text, Controller::Io), Kernel::Enabled);
        assert_eq!(parse_cgroups(text, Controller::Pids), Kernel::Unlisted);
        let line = b"quiet cgroup_disable=memory,blkio x_cgroup_disable=pids\n";
        let off = Controller::ALL.into_iter().filter(|&one| is_switched_off(line, one)).collect::<Vec<_>>();
        assert_eq!(off, [Controller::Io, Controller::Memory]);
    }

    #[test]
    fn groups_below_mounts() {
        for (group, root, found) in [
            ("/", "/", Some("")),
            ("/a/b", "/", Some("a/b")),
            ("/a/b", "/a", Some("b")),
            ("/a/b", "/a/b", Some("")),
            ("/ab", "/a", None),
            ("/", "/a", None),
            ("/", "/..", None),
            ("/../b", "/..", None),
            ("/..", "/..", Some("")),
        ] {
            assert_eq!(below(group.as_ref(), root.as_ref()), found.map(PathBuf::from), "{group} below {root}");
        }
    }

    proptest! {
        #[test]
        fn unescape_undoes_the_kernels_escapes(path in "/[a-z \t\n\\\\#é]{0,20}") {
            let escaped: Vec<u8> = path.bytes().flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                other => vec![other],
            }).collect();
            prop_assert_eq!(unescaped(&escaped), PathBuf::from(path));
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = (parse_mounts(&text), parse_membership(&text), parse_cgroups(&text, Controller::Cpu));
        }

        #[test]
        fn below_is_the_inverse_of_join(root in "(/[a-z]{1,3}){0,3}", rest in "([a-z]{1,3}/){0,3}[a-z]{1,3}") {
            let root = PathBuf::from(if root.is_empty() { "/".to_owned() } else { root });
            prop_assert_eq!(below(&root.join(&rest), &root), Some(PathBuf::from(rest)));
        }
    }
}
