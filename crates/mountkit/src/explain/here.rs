//! This machine as the calling thread sees it now. Everything is read when it is first asked for.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use cellkit_core::{ProcFd, ProcView, ProcessDir, sys::inode};

use crate::sys::{self, look};
use crate::{MountEntry, MountTable};

/// The bits of capabilities(7) that mounts ask for.
pub(super) const CAP_SYS_ADMIN: u64 = 1 << 21;
pub(super) const CAP_MKNOD: u64 = 1 << 27;

#[derive(Debug)]
pub(super) struct Here {
    proc: Option<ProcFd>,
    thread: Option<ProcessDir>,
    mounts: OnceCell<MountTable>,
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

    /// The mounts that the thread can reach: none where they cannot be looked at.
    pub(super) fn mounts(&self) -> &MountTable {
        self.mounts.get_or_init(|| MountTable::read().unwrap_or_else(|_| MountTable::parse("")))
    }

    /// The mount with this id of statx(2) and mountinfo.
    pub(super) fn mount(&self, id: u64) -> Option<MountEntry<'_>> {
        self.mounts().by_id(id.try_into().ok()?)
    }

    /// The mount that `path` is on.
    pub(super) fn mount_of(&self, path: &Path) -> Option<MountEntry<'_>> {
        let fd = super::place::open(path, 0)?;
        self.mount(sys::statx(fd.as_raw_fd()).ok()?.mount_id)
    }

    /// How many mounts the namespace has, also those that cannot be reached. Linux 6.12.
    pub(super) fn mount_count(&self) -> Option<u64> {
        look::mounts_in(self.namespace("mnt")?.as_fd()).ok().map(u64::from)
    }

    /// The lines of mountinfo. A namespace that is full may have more of them than a file that is read whole may be long.
    pub(super) fn reachable_mounts(&self) -> Option<u64> {
        let mut file = self.thread.as_ref()?.open_file(Path::new("mountinfo"), libc::O_RDONLY).ok()?;
        let mut buffer = vec![0; 64 << 10];
        let mut lines = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Some(lines),
                Ok(length) => {
                    let ends = buffer.iter().take(length).filter(|&&byte| byte == b'\n');
                    lines += ends.count() as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        let here = Here::look();
        assert!(here.mounts().at("/").is_some());
        assert!(here.mount_count().is_none_or(|count| count > 0));
        // Unless somebody mounts something in between.
        let is_counted = |here: &Here| here.reachable_mounts() == Some(here.mounts().len() as u64);
        assert!((0..9).any(|_| is_counted(&Here::look())));
        assert!(here.mount_max().is_some_and(|max| max > 0));
        assert_eq!(here.has_file_system("proc"), Some(true));
        assert_eq!(here.has_file_system("nosuchfs"), Some(false));
        assert_eq!(here.has_capability(CAP_SYS_ADMIN), Some(crate::sys::effective_uid() == 0));
    }
}
