//! Mounts of every kind below one directory, and processes that do nothing.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::sys::{bind_idmapped, mount, unmount};

/// A tmpfs at `/run/scene` with mounts in it, gone when dropped, and whether one of them is idmapped: not every file system
/// can be.
pub(crate) struct Scene(pub(crate) PathBuf, pub(crate) bool);

impl Scene {
    /// With nothing in it.
    pub(crate) fn empty() -> Self {
        let dir = PathBuf::from("/run/scene");
        fs::create_dir(&dir).expect("mkdir");
        mount("scene", &dir, "tmpfs", 0, "");
        mount("", &dir, "", libc::MS_PRIVATE, "");
        Self(dir, false)
    }

    pub(crate) fn dir(&self, name: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(OsStr::from_bytes(name.as_ref()));
        fs::create_dir_all(&path).expect("mkdir");
        path
    }

    pub(crate) fn tmpfs(&self, name: impl AsRef<[u8]>, flags: u64, data: &str) -> PathBuf {
        let path = self.dir(name.as_ref());
        mount(name, &path, "tmpfs", flags, data);
        path
    }

    pub(crate) fn bind(&self, from: &Path, name: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir(name);
        mount(from.as_os_str().as_bytes(), &path, "", libc::MS_BIND, "");
        path
    }

    /// With mounts of every kind that a kernel of 6.1 has.
    pub(crate) fn full() -> Self {
        let mut scene = Self::empty();
        for odd in
            [&b"a b"[..], b"new\nline", b"back\\slash", b"hash#", b"com,ma", b"\xff\xfe", b"\\040", b"tab\t", b"=:"]
        {
            scene.tmpfs(odd, libc::MS_NOSUID, "size=64k,mode=711");
        }
        let source = scene.dir("no source");
        mount("", &source, "tmpfs", libc::MS_RDONLY | libc::MS_NOATIME | libc::MS_NODIRATIME, "");
        scene.tmpfs("flags", libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_STRICTATIME | libc::MS_NOSYMFOLLOW, "");
        scene.tmpfs("sync", libc::MS_SYNCHRONOUS | libc::MS_DIRSYNC | libc::MS_LAZYTIME, "");
        // The file system read-only, and one mount of it read-only.
        let read_only = scene.bind(&scene.dir("sync"), "ro");
        mount("", &read_only, "", libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY, "");
        // Peers, a slave, a slave that is shared, and one that cannot see its master.
        let shared = scene.tmpfs("shared", 0, "");
        mount("", &shared, "", libc::MS_SHARED, "");
        scene.bind(&shared, "peer");
        for (name, flags) in [("slave", &[libc::MS_SLAVE][..]), ("both", &[libc::MS_SLAVE, libc::MS_SHARED])] {
            let path = scene.bind(&shared, name);
            flags.iter().for_each(|flag| mount("", &path, "", *flag, ""));
        }
        let slave_of_slave = scene.bind(&scene.0.join("both"), "below both");
        mount("", &slave_of_slave, "", libc::MS_SLAVE, "");
        let unbindable = scene.tmpfs("unbindable", 0, "");
        mount("", &unbindable, "", libc::MS_UNBINDABLE, "");
        // It is propagated.
        fs::create_dir(shared.join("below")).expect("mkdir");
        mount("below", &shared.join("below"), "tmpfs", 0, "");
        // Over-mounted, with one that is hidden.
        let over = scene.tmpfs("over", 0, "");
        fs::create_dir(over.join("hidden")).expect("mkdir");
        mount("hidden", &over.join("hidden"), "tmpfs", 0, "");
        mount("above", &over, "tmpfs", 0, "");
        // Files, one of which is deleted afterwards, and a directory that is renamed.
        for name in ["file", "deleted file", "on"] {
            File::create(scene.0.join(name)).expect("create");
        }
        for name in ["file", "deleted file"] {
            let on = scene.0.join(format!("on {name}"));
            File::create(&on).expect("create");
            mount(scene.0.join(name).as_os_str().as_bytes(), &on, "", libc::MS_BIND, "");
        }
        fs::remove_file(scene.0.join("deleted file")).expect("remove");
        scene.bind(&scene.dir("before"), "of a renamed one");
        fs::rename(scene.0.join("before"), scene.0.join("after it")).expect("rename");
        // A namespace, an overlay with odd names in its options, and a file system of the kernel.
        mount("/proc/self/ns/uts", &scene.0.join("on"), "", libc::MS_BIND, "");
        let [lower, upper, work] = ["lo wer", "upper", "work"].map(|name| scene.dir(name));
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount("over lay", &scene.dir("overlay"), "overlay", 0, &options);
        mount("pts", &scene.dir("pts"), "devpts", libc::MS_NOEXEC, "newinstance,ptmxmode=0666");
        let namespace = Sleeper::in_user_namespace();
        let userns = File::open(format!("/proc/{}/ns/user", namespace.0.id())).expect("open");
        mount("idmap source", &scene.dir("idmap source"), "ramfs", 0, "");
        scene.dir("mapped");
        // tmpfs can be idmapped since Linux 6.3, and ext4, which the machine has, long before.
        let [from, to] = [Path::new("/usr"), &scene.0.join("mapped")];
        scene.1 = bind_idmapped(from, to, std::os::fd::AsFd::as_fd(&userns));
        scene
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        unmount(&self.0);
        fs::remove_dir(&self.0).expect("rmdir");
    }
}

/// A process that sleeps until this is dropped.
pub(crate) struct Sleeper(pub(crate) Child);

impl Sleeper {
    /// `command` says a line when it is ready.
    pub(crate) fn new(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("read");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    pub(crate) fn in_user_namespace() -> Self {
        let sleeper = Self::new(Command::new("unshare").args(["--user", "sh", "-c", "echo ready; exec sleep 1000"]));
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", sleeper.0.id()), "0 100000 1000\n2000 300000 5\n").expect(map);
        }
        sleeper
    }

    pub(crate) fn shell(script: &str) -> Self {
        let script = format!("{script}\necho ready; exec sleep 1000");
        Self::new(Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-ec", &script]))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
