//! The four types of propagation, between mounts of two and three mount namespaces, as their own tables show them.
//!
//! The folder `base` is a tmpfs and shared here; the other namespace begins with a copy of it, whose type is set there.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use faultkit::TempDir;
use mountkit::{Attach, Bind, DetachedMount, Mount, MountChange, Propagation, RootFd, Tmpfs};

use super::{dir_with, host, table, text};

/// Where [`the_other_namespace`] finds the folder, and what it is to do there.
const DIR: &str = "CELLKIT_TEST_DIR";
const DO: &str = "CELLKIT_TEST_DO";

/// Not a test of its own: does one thing in another mount namespace.
#[test]
#[ignore = "run by the tests below, in another mount namespace"]
fn the_other_namespace() {
    let (Some(dir), Ok(work)) = (std::env::var_os(DIR).map(PathBuf::from), std::env::var(DO)) else { return };
    let root = RootFd::open(&dir).expect("root");
    let change = |propagation| MountChange::new().propagation(propagation);
    let base = || Mount::open(&root, "base").expect("open");
    let answer = match work.as_str() {
        "private" => base().change(&change(Propagation::Private)),
        "shared" => base().change(&change(Propagation::Shared)),
        "slave" => base().change(&change(Propagation::Slave)),
        "unbindable" => base().change(&change(Propagation::Unbindable)),
        "all private" => {
            let all = Mount::open(&RootFd::open("/").expect("root"), "/").expect("open");
            all.change(&change(Propagation::Private).recursive())
        }
        "attach" => tmpfs().attach(&root, "base/there").map(drop),
        "attach with peers" => tmpfs().attach_to(&Attach::at(&root, "base/there").with_peers()).map(drop),
        "unmount" => Mount::open(&root, "base/there").and_then(Mount::unmount),
        "bind" => Bind::new(dir.join("base")).mount().map(drop),
        other => panic!("{other}"),
    };
    println!("answer: {}", answer.map_or_else(|error| error.to_string(), |()| "fine".to_owned()));
}

fn tmpfs() -> DetachedMount {
    Tmpfs::new().mount().expect("mount")
}

/// Another mount namespace, a copy of this one, held by a process that sleeps in it.
struct Other<'a> {
    child: Child,
    dir: &'a Path,
}

impl<'a> Other<'a> {
    fn new(dir: &'a Path) -> Self {
        Self::begin(dir, Command::new("unshare"))
    }

    /// A copy of this one.
    fn copy(&self) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.child.id().to_string(), "unshare"]);
        Self::begin(self.dir, command)
    }

    fn begin(dir: &'a Path, mut command: Command) -> Self {
        command.args(["--mount", "--propagation", "unchanged", "sh", "-c", "echo; exec sleep 1000"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("unshare");
        // It is there when it says so.
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut byte).expect("read");
        Self { child, dir }
    }

    #[track_caller]
    fn does(&self, work: &str) -> String {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.child.id().to_string()]).arg(std::env::current_exe().expect("exe"));
        command.args(["root::propagation::the_other_namespace", "--exact", "--ignored", "--nocapture"]);
        let output = command.arg("--test-threads=1").env(DIR, self.dir).env(DO, work).output().expect("nsenter");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{work}: {said}{}", String::from_utf8_lossy(&output.stderr));
        let answer = said.lines().find_map(|line| line.split_once("answer: ")).map(|(_, answer)| answer.to_owned());
        answer.unwrap_or_else(|| panic!("{work}: {said}"))
    }

    fn sees(&self, name: &str) -> bool {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.child.id())).expect("mountinfo");
        is_in(&table, &self.dir.join(name))
    }
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_in(table: &str, target: &Path) -> bool {
    table.lines().any(|line| line.split(' ').nth(4).is_some_and(|field| Path::new(field) == target))
}

/// A folder with a shared tmpfs on `base`, and the folders `base/here` and `base/there`.
fn shared_base() -> (TempDir, RootFd) {
    let dir = dir_with(&["base"]);
    let root = RootFd::open(&*dir).expect("root");
    let base = tmpfs();
    base.set_propagation(Propagation::Shared).expect("share");
    for name in ["here", "there"] {
        base.root().expect("root").mkdir_all(name, 0o755).expect("mkdir");
    }
    base.attach(&root, "base").expect("attach");
    (dir, root)
}

fn mount_here(root: &RootFd) -> Mount {
    tmpfs().attach_to(&Attach::at(root, "base/here").with_peers()).expect("attach")
}

#[test]
fn each_type_in_both_directions() {
    faultkit::require!(root, program("unshare"), program("nsenter"));
    faultkit::isolated!(|| {
        let (dir, root) = shared_base();
        for (propagation, arrives, goes_back, may_be_bound) in [
            (Propagation::Private, false, false, true),
            (Propagation::Shared, true, true, true),
            (Propagation::Slave, true, false, true),
            (Propagation::Unbindable, false, false, false),
        ] {
            let other = Other::new(&dir);
            assert_eq!(other.does(&propagation.to_string()), "fine");
            // From here to there, and taken away again.
            let here = mount_here(&root);
            assert_eq!(other.sees("base/here"), arrives, "{propagation}");
            here.unmount().expect("umount");
            assert!(!other.sees("base/here"), "{propagation}");
            // From there to here.
            assert_eq!(other.does("attach with peers"), "fine");
            assert!(other.sees("base/there"));
            assert_eq!(is_in(&table(), &dir.join("base/there")), goes_back, "{propagation}");
            assert_eq!(other.does("unmount"), "fine");
            assert!(!is_in(&table(), &dir.join("base/there")), "{propagation}");
            let bound = other.does("bind");
            assert_eq!(bound == "fine", may_be_bound, "{propagation}: {bound}");
        }
        drop(root);
        host("umount", &[text(&dir.join("base"))]);
    });
}

#[test]
fn a_slave_that_is_shared_passes_on_what_it_gets() {
    faultkit::require!(root, program("unshare"), program("nsenter"));
    faultkit::isolated!(|| {
        let (dir, root) = shared_base();
        let middle = Other::new(&dir);
        assert_eq!(middle.does("slave"), "fine");
        assert_eq!(middle.does("shared"), "fine");
        let last = middle.copy();
        let here = mount_here(&root);
        assert!(middle.sees("base/here") && last.sees("base/here"), "from the master to all");
        here.unmount().expect("umount");
        assert!(!middle.sees("base/here") && !last.sees("base/here"));
        // It is shared: said without the word, it is refused.
        assert!(middle.does("attach").contains("shared"));
        assert_eq!(middle.does("attach with peers"), "fine");
        assert!(last.sees("base/there"), "from the slave to its peer");
        assert!(!is_in(&table(), &dir.join("base/there")), "and not to the master");
        assert_eq!(last.does("unmount"), "fine");
        assert!(!middle.sees("base/there"));
        drop((middle, last, root));
        host("umount", &[text(&dir.join("base"))]);
    });
}

#[test]
fn a_shared_host_keeps_its_table_unless_its_peers_are_meant() {
    faultkit::require!(root, program("unshare"), program("nsenter"));
    faultkit::isolated!(|| {
        let (dir, root) = shared_base();
        let before = table();
        let container = Other::new(&dir);
        // As the copy is, a peer of the host's: refused.
        let refused = container.does("attach");
        assert!(refused.contains("shared mount"), "{refused}");
        assert_eq!(table(), before);
        // Asked for: the host sees it.
        assert_eq!(container.does("attach with peers"), "fine");
        assert!(is_in(&table(), &dir.join("base/there")));
        assert_eq!(container.does("unmount"), "fine");
        assert_eq!(table(), before);
        // Made private first, as every start does: the host's table is the same to the byte.
        assert_eq!(container.does("all private"), "fine");
        for _ in 0..3 {
            assert_eq!(container.does("attach"), "fine");
            assert!(container.sees("base/there"));
            assert_eq!(container.does("unmount"), "fine");
        }
        assert_eq!(table(), before);
        drop((container, root));
        host("umount", &[text(&dir.join("base"))]);
    });
}
