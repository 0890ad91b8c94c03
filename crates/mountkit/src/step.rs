//! What the child does to build its root, step by step. Making the calls is `sys/run.rs`.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};

use cellkit_core::{Slot, StepText, Subject};

use crate::flags;
use crate::in_root::InRootPath;
use crate::shared_fd::SharedFd;
use crate::sys::{Links, RawMountAttr};

/// Where a path starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Cwd,
    Fd(Slot),
}

/// What a mount is to be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A directory reached without any symbolic link: for proc, sysfs and /dev, which must be where everybody looks.
    RealDir,
    Dir,
    File,
}

/// One system call, or a few that only make sense together, on data made before the clone.
#[derive(Debug)]
pub(crate) enum Call {
    MountSetattr {
        at: At,
        path: CString,
        flags: u32,
        attr: RawMountAttr,
    },
    OpenTree {
        at: At,
        path: CString,
        flags: u32,
        into: Slot,
    },
    CheckDevice {
        fd: Slot,
        mode: u32,
        rdev: (u32, u32),
    },
    /// A detached mount of the parent's.
    Inherit {
        mount: SharedFd,
        into: Slot,
    },
    Idmap {
        mount: Slot,
        flags: u32,
        userns: SharedFd,
    },
    Fsopen {
        fs: &'static CStr,
        into: Slot,
    },
    FsconfigString {
        fs: Slot,
        key: &'static CStr,
        value: CString,
    },
    FsconfigFlag {
        fs: Slot,
        key: &'static CStr,
    },
    FsconfigCreate {
        fs: Slot,
    },
    /// A clone of a directory of the host on a new directory of the scratch tmpfs. The descriptor is closed again: there may be
    /// more layers than descriptors.
    Layer {
        at: Slot,
        source: CString,
        flags: u32,
        path: CString,
    },
    /// mount(2) of an overlay on a directory of the scratch tmpfs, for options that are longer than fsconfig takes.
    MountPage {
        target: CString,
        options: CString,
    },
    Fsmount {
        fs: Slot,
        attributes: u32,
        into: Slot,
    },
    MoveMount {
        from: Slot,
        at: At,
        path: CString,
    },
    Fchdir {
        dir: Slot,
    },
    Mkdirat {
        at: Slot,
        path: CString,
        mode: u32,
    },
    Fchownat {
        at: Slot,
        path: CString,
        uid: u32,
        gid: u32,
    },
    /// fchownat(2) to the owner of another directory there, as the child sees it, if the child has that id.
    ChownAs {
        at: Slot,
        path: CString,
        like: CString,
    },
    Mknodat {
        at: Slot,
        path: CString,
        mode: u32,
        device: (u32, u32),
    },
    WriteFile {
        at: Slot,
        path: CString,
        mode: u32,
        content: Box<[u8]>,
    },
    Symlinkat {
        target: CString,
        at: Slot,
        path: CString,
    },
    OpenTarget {
        root: Slot,
        path: InRootPath,
        target: Target,
        into: Slot,
    },
    /// Copies the content of a directory into a new file system, where it exists.
    CopyUp {
        root: Slot,
        path: InRootPath,
        to: Slot,
    },
    Mask {
        root: Slot,
        path: InRootPath,
        masks: Slot,
    },
    MakeReadOnly {
        root: Slot,
        path: InRootPath,
    },
    /// umount2 of each of these, which may be gone or locked.
    DetachHost {
        paths: Vec<CString>,
    },
    ChrootHere,
    PivotRoot,
    DetachOldRoot,
    ChdirRoot,
}

/// A [`Call`], why it is made, and what an error of it is about.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) call: Call,
    pub(crate) reason: &'static str,
    pub(crate) subject: Subject,
}

impl Step {
    pub(crate) fn text(&self) -> StepText {
        let (name, arguments) = self.call.words();
        StepText::new(name, arguments, self.reason).on(self.subject.clone())
    }
}

impl Call {
    /// The kernel's name of the call, and its arguments as strace would print them.
    fn words(&self) -> (&'static str, String) {
        match self {
            Self::MountSetattr { at, path, flags, attr } => {
                let mut change = Vec::new();
                if attr.attr_set != 0 || attr.propagation == 0 {
                    change.push(format!("attr_set={}", flags::attributes(attr.attr_set)));
                }
                if attr.attr_clr == libc::MOUNT_ATTR__ATIME {
                    change.push("attr_clr=MOUNT_ATTR__ATIME".to_owned());
                }
                if attr.propagation != 0 {
                    change.push(format!("propagation={}", flags::propagation(attr.propagation)));
                }
                let change = change.join(", ");
                ("mount_setattr", format!("{}, {path:?}, {}, {{{change}}}", flags::at(*at), flags::at_flags(*flags)))
            }
            Self::OpenTree { at, path, flags, into } => {
                ("open_tree", format!("{}, {path:?}, {} → {into}", flags::at(*at), flags::at_flags(*flags)))
            }
            Self::CheckDevice { fd, mode, rdev: (major, minor) } => {
                let kind = if mode & libc::S_IFMT == libc::S_IFBLK { "block" } else { "character" };
                ("statx", format!("{fd}, \"\", AT_EMPTY_PATH: {kind} device {major}:{minor}"))
            }
            Self::Inherit { into, .. } => ("open_tree", format!("made by the caller → {into}")),
            Self::Idmap { mount, flags, .. } => {
                let change = "{attr_set=MOUNT_ATTR_IDMAP, userns_fd}";
                ("mount_setattr", format!("{mount}, \"\", {}, {change}", flags::at_flags(*flags)))
            }
            Self::Fsopen { fs, into } => ("fsopen", format!("{fs:?} → {into}")),
            Self::FsconfigString { fs, key, value } => {
                ("fsconfig", format!("{fs}, FSCONFIG_SET_STRING, {key:?}, {value:?}"))
            }
            Self::FsconfigFlag { fs, key } => ("fsconfig", format!("{fs}, FSCONFIG_SET_FLAG, {key:?}")),
            Self::Layer { at, source, flags: with, path } => (
                "move_mount",
                format!("open_tree({source:?}, {}), \"\", {at}, {path:?} made by mkdirat", flags::at_flags(*with)),
            ),
            Self::MountPage { target, options } => {
                ("mount", format!("\"overlay\", {target:?}, \"overlay\", 0, {options:?}"))
            }
            Self::FsconfigCreate { fs } => ("fsconfig", format!("{fs}, FSCONFIG_CMD_CREATE")),
            Self::Fsmount { fs, attributes, into } => {
                ("fsmount", format!("{fs}, {} → {into}", flags::attributes(u64::from(*attributes))))
            }
            Self::MoveMount { from, at, path } => ("move_mount", format!("{from}, \"\", {}, {path:?}", flags::at(*at))),
            Self::Fchdir { dir } => ("fchdir", flags::fd(*dir)),
            Self::Mkdirat { at, path, mode } => ("mkdirat", format!("{at}, {path:?}, {mode:#05o}")),
            Self::Fchownat { at, path, uid, gid } => ("fchownat", format!("{at}, {path:?}, {uid}, {gid}")),
            Self::ChownAs { at, path, like } => {
                ("fchownat", format!("{at}, {path:?}, as statx({at}, {like:?}) has it"))
            }
            Self::Mknodat { at, path, mode, device: (major, minor) } => {
                let (kind, device) = match mode & libc::S_IFMT {
                    libc::S_IFCHR => ("S_IFCHR", format!(", makedev({major}, {minor})")),
                    libc::S_IFBLK => ("S_IFBLK", format!(", makedev({major}, {minor})")),
                    _ => ("S_IFREG", String::new()),
                };
                ("mknodat", format!("{at}, {path:?}, {kind}|{:#05o}{device}", mode & 0o7777))
            }
            Self::WriteFile { at, path, mode, content } => {
                let length = content.len();
                ("write", format!("openat({at}, {path:?}, O_WRONLY|O_CREAT|O_EXCL, {mode:#05o}), {length} bytes"))
            }
            Self::Symlinkat { target, at, path } => ("symlinkat", format!("{target:?}, {at}, {path:?}")),
            Self::OpenTarget { root, path, target, into } => {
                let (flags, links) = match target {
                    Target::RealDir => ("O_PATH|O_DIRECTORY", Links::Refused),
                    Target::Dir => ("O_PATH|O_DIRECTORY", Links::Inside),
                    Target::File => ("O_PATH", Links::Inside),
                };
                let made = match target {
                    Target::File => "mknodat",
                    Target::RealDir | Target::Dir => "mkdirat",
                };
                let resolve = flags::resolve(links.resolve());
                ("openat2", format!("{root}, {:?}, {{{flags}, {resolve}}} or {made} → {into}", path.full()))
            }
            Self::CopyUp { root, path, to } => {
                ("copy_up", format!("openat2({root}, {:?}) → {to}, every entry by its own name", path.full()))
            }
            Self::Mask { root, path, masks } => (
                "move_mount",
                format!(
                    "open_tree({masks}, \"file\" or \"dir\"), \"\", openat2({root}, {:?}), \"\"; verified by statx, fstatfs",
                    path.full()
                ),
            ),
            Self::MakeReadOnly { root, path } => (
                "mount_setattr",
                format!(
                    "open_tree(openat2({root}, {:?})), \"\", AT_RECURSIVE, {{attr_set=MOUNT_ATTR_RDONLY}} and move_mount; verified",
                    path.full()
                ),
            ),
            Self::DetachHost { paths } => {
                ("umount2", format!("{paths:?}, MNT_DETACH|UMOUNT_NOFOLLOW; each if it can be"))
            }
            Self::ChrootHere => ("chroot", "\".\"".to_owned()),
            Self::PivotRoot => ("pivot_root", "\".\", \".\"".to_owned()),
            Self::DetachOldRoot => ("umount2", "\".\", MNT_DETACH; until statx(\"/..\") is \"/\"".to_owned()),
            Self::ChdirRoot => ("chdir", "\"/\"".to_owned()),
        }
    }
}
