//! What `probe` reads, as pure functions.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::mountinfo::{MountLine, lines};

/// The directory of the caller's group in the hierarchy that counts processes: version 2, or version 1 with the controller
/// `pids`; from `/proc/PID/cgroup` and `/proc/PID/mountinfo`.
pub(crate) fn pids_group(cgroup: &[u8], mountinfo: &[u8]) -> Option<PathBuf> {
    let groups = || cgroup.split(|&byte| byte == b'\n');
    // 4:pids:/jobs/7, or 0::/jobs/7
    let path_of = |controller: &[u8]| {
        groups().find_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            controllers.split(|&byte| byte == b',').any(|name| name == controller).then_some(path)
        })
    };
    let candidates = [(path_of(b"pids"), &b"cgroup"[..], &b"pids"[..]), (path_of(b""), b"cgroup2", b"")];
    candidates.into_iter().find_map(|(path, kind, option)| {
        let path = path?;
        lines(mountinfo).find_map(|mount| below_mount(mount, kind, option, path))
    })
}

/// Where `path` of the hierarchy is, if this mount is of that hierarchy and shows it so far up.
fn below_mount(mount: MountLine<'_>, kind: &[u8], option: &[u8], path: &[u8]) -> Option<PathBuf> {
    let MountLine { root, target, options, .. } = mount;
    let has_option = option.is_empty() || options.split(|&byte| byte == b',').any(|name| name == option);
    let is_it = mount.kind == Some(kind) && has_option;
    let inside = path.strip_prefix(root.strip_suffix(b"/").unwrap_or(root))?;
    let inside = inside.strip_prefix(b"/").or(inside.is_empty().then_some(inside))?;
    let is_plain = !target.contains(&b'\\') && !inside.split(|&byte| byte == b'/').any(|part| part == b"..");
    (is_it && is_plain).then(|| Path::new(OsStr::from_bytes(target)).join(OsStr::from_bytes(inside)))
}

/// A number that is all there is in a file.
pub(crate) fn number(content: &[u8]) -> Option<u64> {
    crate::list::text::decimal(content.trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_group_that_counts_processes() {
        let two = b"30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found =
            |cgroup: &str, mounts: &[u8]| pids_group(cgroup.as_bytes(), mounts).map(|path| path.display().to_string());
        assert_eq!(found("0::/a/b\n", two).as_deref(), Some("/sys/fs/cgroup/a/b"));
        assert_eq!(found("0::/\n", two).as_deref(), Some("/sys/fs/cgroup/"));
        let one = b"31 24 0:27 / /sys/fs/cgroup/pids rw - cgroup pids rw,pids\n\
            32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cpu rw,cpu\n\
            33 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found("7:cpu:/c\n4:pids:/a\n0::/u\n", one).as_deref(), Some("/sys/fs/cgroup/pids/a"));
        // Mounted from further down, and from somewhere else.
        let part = b"30 24 0:26 /a /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found("0::/a/b\n", part).as_deref(), Some("/cg/b"));
        assert_eq!(found("0::/a\n", part).as_deref(), Some("/cg/"));
        assert_eq!((found("0::/ab\n", part), found("0::/../x\n", two), found("", two)), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_anything_panic(one: Vec<u8>, two: Vec<u8>) {
            let _ = (pids_group(&one, &two), number(&one));
        }
    }
}
