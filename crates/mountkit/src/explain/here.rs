//! This machine as the calling thread sees it now. Everything is read when it is first asked for.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use cellkit_core::mountinfo::unescaped;
use cellkit_core::{ProcFd, ProcView, ProcessDir, sys::inode};

use crate::sys::look;

/// The bits of capabilities(7) that mounts ask for.
pub(super) const CAP_SYS_ADMIN: u64 = 1 << 21;
pub(super) const CAP_MKNOD: u64 = 1 << 27;

/// One line of mountinfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u64,
    pub(super) parent: u64,
    /// What of the file system is mounted.
    pub(super) root: PathBuf,
    pub(super) target: PathBuf,
    /// Of the mount: `rw,nosuid`.
    pub(super) attributes: String,
    pub(super) is_shared: bool,
    pub(super) is_unbindable: bool,
    pub(super) fs: String,
    /// Of the file system, as they are written.
    pub(super) options: String,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        // 36 35 0:4 / /run rw,nosuid shared:7 master:2 - tmpfs none rw,size=4k
        let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let (root, target) = (unescaped(fields.nth(1)?), unescaped(fields.next()?));
        let attributes = text(fields.next()?);
        let mut mount = Self { id, parent, root, target, attributes, ..Self::default() };
        for field in fields.by_ref().take_while(|field| *field != b"-") {
            mount.is_shared |= field.starts_with(b"shared:");
            mount.is_unbindable |= field == b"unbindable";
        }
        mount.fs = text(fields.next()?);
        mount.options = fields.next_back().map(text).unwrap_or_default();
        Some(mount)
    }

    pub(super) fn has_attribute(&self, word: &str) -> bool {
        self.attributes.split(',').any(|attribute| attribute == word)
    }

    /// The value of an option of the file system, with its escapes.
    pub(super) fn option(&self, key: &str) -> Option<&str> {
        self.options.split(',').find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    }
}

#[derive(Debug)]
pub(super) struct Here {
    proc: Option<ProcFd>,
    thread: Option<ProcessDir>,
    mounts: OnceCell<Vec<Mount>>,
    status: OnceCell<String>,
}

impl Here {
    pub(super) fn look() -> Self {
        let proc = ProcFd::open(ProcView::Whole).ok();
        let thread = proc.as_ref().and_then(|proc| proc.this_thread().ok());
        Self { proc, thread, mounts: OnceCell::new(), status: OnceCell::new() }
    }

    /// The text of a file of `/proc`.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        let content = self.proc.as_ref()?.read(Path::new(path)).ok()?;
        Some(String::from_utf8_lossy(&content).into_owned())
    }

    fn read_own(&self, path: &str) -> Option<Vec<u8>> {
        self.thread.as_ref()?.read(Path::new(path)).ok()
    }

    /// The mounts that the thread can reach.
    pub(super) fn mounts(&self) -> &[Mount] {
        self.mounts.get_or_init(|| {
            let text = self.read_own("mountinfo").unwrap_or_default();
            text.split(|&byte| byte == b'\n').filter_map(Mount::parse).collect()
        })
    }

    pub(super) fn mount(&self, id: u64) -> Option<&Mount> {
        self.mounts().iter().find(|mount| mount.id == id)
    }

    /// The mount that `path` is on.
    pub(super) fn mount_of(&self, path: &Path) -> Option<&Mount> {
        let fd = super::place::open(path, 0)?;
        self.mount(crate::sys::statx(fd.as_raw_fd()).ok()?.mount_id)
    }

    /// How many mounts the namespace has: also those that cannot be reached, where the kernel tells (6.12).
    pub(super) fn mount_count(&self) -> u64 {
        let all = self.namespace("mnt").and_then(|namespace| look::mounts_in(namespace.as_fd()).ok());
        all.map_or(self.mounts().len() as u64, u64::from)
    }

    pub(super) fn mount_max(&self) -> Option<u64> {
        self.read("sys/fs/mount-max")?.trim().parse().ok()
    }

    fn status(&self, key: &str) -> Option<&str> {
        let status = self.status.get_or_init(|| {
            self.read_own("status").map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
        });
        status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
    }

    /// Whether the thread has `capability` in its own user namespace.
    pub(super) fn has_capability(&self, capability: u64) -> Option<bool> {
        let effective = u64::from_str_radix(self.status("CapEff")?, 16).ok()?;
        Some(effective & capability != 0)
    }

    /// Whether a seccomp filter stands before the thread's calls.
    pub(super) fn is_filtered(&self) -> bool {
        look::is_filtered()
    }

    /// The profile of a security module that confines the thread.
    pub(super) fn profile(&self) -> Option<String> {
        let text = self.read_own("attr/current")?;
        let profile = String::from_utf8_lossy(&text).trim_matches(['\0', '\n', ' ']).to_owned();
        // What SELinux calls an unconfined process has the word in it too.
        (!profile.is_empty() && profile != "kernel" && !profile.contains("unconfined")).then_some(profile)
    }

    /// One of the thread's own namespaces, by its name in `/proc/PID/ns`.
    pub(super) fn namespace(&self, name: &str) -> Option<std::os::fd::OwnedFd> {
        self.thread.as_ref()?.namespace(name).ok()
    }

    /// Whether the thread's user namespace is the machine's first: it maps every id to itself, and nobody else's can.
    pub(super) fn is_first_user_namespace(&self) -> Option<bool> {
        let map = self.read_own("uid_map")?;
        let words: Vec<_> = map.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        Some(words == [&b"0"[..], b"0", b"4294967295"])
    }

    /// Whether the thread's user namespace owns its namespace `name`.
    pub(super) fn owns(&self, name: &str) -> Option<bool> {
        let namespace = self.namespace(name)?;
        let mine = self.namespace("user")?;
        match look::owner(namespace.as_fd()) {
            Ok(owner) => Some(inode(owner.as_fd()).ok()?.0 == inode(mine.as_fd()).ok()?.0),
            // It is above, where the thread may not look.
            Err(errno) if errno.0 == libc::EPERM => Some(false),
            Err(_) => None,
        }
    }

    /// Whether this kernel has the file system, as far as it is loaded.
    pub(super) fn has_file_system(&self, name: &str) -> Option<bool> {
        let text = self.read("filesystems")?;
        Some(text.lines().filter_map(|line| line.split('\t').nth(1)).any(|known| known == name))
    }

    /// The first two numbers of the kernel's version.
    pub(super) fn kernel(&self) -> Option<(u32, u32)> {
        // Not by /proc, which cannot be had where a filter hides openat2.
        version(&look::release())
    }
}

pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo() {
        let line = b"36 35 0:4 /a\\040b /run rw,nosuid shared:7 master:2 unbindable - tmpfs none rw,size=4k";
        let mount = Mount::parse(line).expect("a mount");
        assert_eq!((mount.id, mount.parent, &*mount.fs), (36, 35, "tmpfs"));
        assert_eq!((mount.root.as_path(), mount.target.as_path()), (Path::new("/a b"), Path::new("/run")));
        assert!(mount.is_shared && mount.is_unbindable && mount.has_attribute("nosuid"));
        assert!(!mount.has_attribute("suid") && !mount.has_attribute("ro"));
        assert_eq!(mount.option("size"), Some("4k"));
        // A file system without a source has an empty field there.
        let mount = Mount::parse(b"36 35 0:4 / /run rw - tmpfs  rw").expect("a mount");
        assert_eq!((&*mount.fs, &*mount.options), ("tmpfs", "rw"));
        for torn in [&b""[..], b"36", b"36 35 0:4 /", b"36 35 0:4 / /run rw", b"x y 0:4 / /run rw - a b c", b"\xff 1"] {
            assert_eq!(Mount::parse(torn), None);
        }
    }

    #[test]
    fn this_process() {
        let here = Here::look();
        assert!(here.mounts().iter().any(|mount| mount.target == Path::new("/")));
        assert!(here.mount_count() > 0);
        assert!(here.mount_max().is_some_and(|max| max > 0));
        assert_eq!(here.has_file_system("proc"), Some(true));
        assert_eq!(here.has_file_system("nosuchfs"), Some(false));
        assert!(here.kernel() > Some((5, 0)));
        assert_eq!(here.has_capability(CAP_SYS_ADMIN), Some(crate::sys::effective_uid() == 0));
    }
}
