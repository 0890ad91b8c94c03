//! Lists of namespaces, held against lsns(8), findmnt(8) and /proc.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use ns_core::{ListOptions, NamespaceInfo, NamespaceList, Namespaces};

/// A process in namespaces of its own, made by unshare(1), which runs by the time this is there.
struct Apart(Child);

impl Apart {
    fn new(arguments: &[&str]) -> Self {
        let script = ["sh", "-c", "echo made; exec sleep 1000"];
        let mut command = Command::new("unshare");
        let mut child = command.args(arguments).args(script).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("read");
        assert_eq!(line, "made\n");
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The inode number that procfs shows.
fn inode(task: impl std::fmt::Display, kind: &str) -> u64 {
    fs::metadata(format!("/proc/{task}/ns/{kind}")).expect(kind).ino()
}

fn find(list: &NamespaceList, inode: u64) -> &NamespaceInfo {
    list.into_iter().find(|namespace| namespace.id.inode() == inode).unwrap_or_else(|| {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        panic!("no {inode} in {list:#?}\n{mounts}")
    })
}

mod root {
    use super::*;

    #[test]
    fn processes_owners_and_parents_as_lsns_has_them() {
        faultkit::require!(root, program("lsns"), program("unshare"));
        faultkit::isolated!(|| {
            let _plain = Apart::new(&["--uts", "--ipc", "--net", "--mount", "--cgroup"]);
            let user = Apart::new(&["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]);
            let list = ListOptions::new().list().expect("list");
            let columns = "NS,TYPE,NPROCS,PID,PNS,ONS";
            let output = Command::new("lsns").args(["--raw", "--noheadings", "--output", columns]).output();
            let theirs = String::from_utf8(output.expect("lsns").stdout).expect("text");
            let me = std::process::id() as i32;
            let number = |id: Option<ns_core::NsId>| id.map_or(0, |id| id.inode()).to_string();
            let ours = (list.namespaces.iter().filter(|namespace| !namespace.is_empty())).map(|namespace| {
                // lsns counts itself, and is where this process is.
                let count = namespace.processes.len() + usize::from(namespace.processes.contains(&me));
                let first = namespace.first.as_ref().expect("a first process").pid;
                assert_eq!(Some(&first), namespace.processes.first());
                let (id, kind) = (namespace.id, namespace.kind.to_string());
                format!("{id} {kind} {count} {first} {} {}", number(namespace.parent), number(namespace.owner))
            });
            let ours: BTreeSet<String> = ours.collect();
            let theirs: BTreeSet<String> = theirs.lines().map(String::from).collect();
            assert_eq!(ours, theirs);
            assert!(list.unreadable.is_empty());
            drop(user);
            // Its child is killed with it, and becomes this process's.
            while faultkit::reap_orphans() == 0 {
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn pinned_to_a_file_held_by_a_descriptor_or_by_a_thread() {
        faultkit::require!(root, program("unshare"), program("findmnt"), program("nsenter"));
        faultkit::isolated!(|| {
            // In another mount namespace than this one, where this one's findmnt does not look.
            let elsewhere = Apart::new(&["--mount"]);
            let enter = ["--mount", "-t", &elsewhere.pid().to_string(), "--"].map(String::from);
            let script = "touch '/run/a pin' && unshare --net='/run/a pin' true && findmnt -n -o FSROOT --mountpoint '/run/a pin'";
            let made = Command::new("nsenter").args(&enter).args(["sh", "-c", script]).output().expect("nsenter");
            let shown = String::from_utf8(made.stdout).expect("text");
            let pinned: u64 = shown.trim().trim_start_matches("net:[").trim_end_matches(']').parse().expect("inode");

            let short = Apart::new(&["--ipc"]);
            let held = inode(short.pid(), "ipc");
            let fd = File::open(format!("/proc/{}/ns/ipc", short.pid())).expect("open");
            drop(short);

            let (told, tell) = std::sync::mpsc::channel();
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).expect("unshare");
                told.send(nix::unistd::gettid().as_raw()).expect("send");
                let _ = stopped.recv();
            });
            let tid = tell.recv().expect("tid");
            let own = inode(format!("self/task/{tid}"), "uts");

            let list = ns_core::list().expect("list");
            let pinned = find(&list, pinned);
            assert_eq!((pinned.kind, pinned.is_empty()), (Namespaces::NET, true));
            let [pin] = &pinned.pins[..] else { panic!("{pinned:#?}") };
            assert_eq!((pin.path.to_str(), pin.pid), (Some("/run/a pin"), elsewhere.pid()));
            assert_eq!(pin.mount_namespace.inode(), inode(elsewhere.pid(), "mnt"));
            // What is only pinned or held was opened all the same: it has an owner.
            let user = inode("self", "user");
            assert_eq!(pinned.owner.map(|owner| owner.inode()), Some(user));

            let held = find(&list, held);
            assert_eq!((held.is_empty(), held.owner.map(|owner| owner.inode())), (true, Some(user)));
            let open: Vec<_> = held.fds.iter().map(|open| (open.pid, open.fd)).collect();
            assert_eq!(open, [(std::process::id() as i32, fd.as_raw_fd())]);

            let threads = &find(&list, own).threads;
            assert_eq!(
                threads.iter().map(|thread| (thread.pid, thread.tid)).collect::<Vec<_>>(),
                [(std::process::id() as i32, tid)]
            );
            assert_eq!(list.get(held.id).map(|namespace| namespace.id), Some(held.id));

            // Nobody but who asks for them is told of these.
            let processes = ListOptions::new().list().expect("list");
            for id in [pinned.id, held.id, find(&list, own).id] {
                assert!(processes.get(id).is_none(), "{id}");
            }
            stop.send(()).expect("send");
            thread.join().expect("join");
            drop(elsewhere);
            fs::remove_file("/run/a pin").expect("remove");
        });
    }

    #[test]
    fn what_is_mounted_over_a_pin_is_not_taken_for_it() {
        faultkit::require!(root, program("unshare"), program("findmnt"));
        faultkit::isolated!(|| {
            let run = |script: &str| {
                let output = Command::new("sh").args(["-ec", script]).output().expect("sh");
                assert!(output.status.success(), "{output:?}");
                String::from_utf8(output.stdout).expect("text")
            };
            let shown = run("touch /run/pin; unshare --uts=/run/pin true; findmnt -n -o FSROOT --mountpoint /run/pin");
            let pinned: u64 = shown.trim().trim_start_matches("uts:[").trim_end_matches(']').parse().expect("inode");
            assert!(find(&ns_core::list().expect("list"), pinned).owner.is_some());
            // A pipe, which would make whoever opens it for reading wait for ever.
            run("mkfifo /run/fifo; mount --bind /run/fifo /run/pin");
            let list = ns_core::list().expect("list");
            let covered = find(&list, pinned);
            assert_eq!((covered.owner, covered.pins.len(), covered.is_empty()), (None, 1, true));
            run("umount /run/pin; umount /run/pin; rm /run/pin /run/fifo");
            assert!(ns_core::list().expect("list").into_iter().all(|namespace| namespace.id.inode() != pinned));
        });
    }

    #[test]
    fn who_is_only_an_owner_is_found_by_what_it_owns() {
        faultkit::require!(root, program("unshare"));
        faultkit::isolated!(|| {
            // The outer of the two is left by the only process that was in it.
            let nested = Apart::new(&["--user", "--map-root-user", "unshare", "--user", "--map-root-user", "--uts"]);
            let list = ListOptions::new().list().expect("list");
            let inner = find(&list, inode(nested.pid(), "user"));
            let outer = list.get(inner.parent.expect("a parent")).expect("in the list");
            assert!(outer.is_empty() && outer.first.is_none(), "{outer:#?}");
            assert_eq!(outer.parent.map(|top| top.inode()), Some(inode("self", "user")));
            assert_eq!((inner.owner, outer.owner), (inner.parent, outer.parent));
            assert_eq!((inner.owner_uid, outer.owner_uid), (Some(0), Some(0)));
            assert_eq!(list.children(outer.id).map(|child| child.id).collect::<Vec<_>>(), [inner.id]);
            let uts = find(&list, inode(nested.pid(), "uts"));
            assert_eq!(list.owned_by(inner.id).map(|owned| owned.id).collect::<Vec<_>>(), [uts.id]);
            assert_eq!(
                uts.to_string(),
                fs::read_link(format!("/proc/{}/ns/uts", nested.pid())).expect("uts").to_string_lossy()
            );
            let of_kind = ListOptions::new().kinds(Namespaces::UTS).list().expect("list");
            assert!(of_kind.into_iter().all(|namespace| namespace.kind == Namespaces::UTS));
        });
    }

    #[test]
    fn processes_come_and_go_meanwhile() {
        faultkit::require!(root, program("unshare"));
        faultkit::isolated!(|| {
            let script = "while :; do unshare --uts --ipc true & unshare --net true; done";
            let mut storm = Command::new("sh").args(["-c", script]).spawn().expect("sh");
            let stays = Apart::new(&["--uts"]);
            let uts = inode(stays.pid(), "uts");
            for _ in 0..100 {
                let list = ns_core::list().expect("list");
                assert_eq!(find(&list, uts).processes, [stays.pid()]);
                for namespace in &list {
                    let is_known = namespace.id.dev() != 0 && namespace.owner.is_some();
                    assert!(is_known || namespace.kind == Namespaces::USER, "{namespace:#?}");
                }
            }
            storm.kill().expect("kill");
            storm.wait().expect("wait");
            faultkit::reap_orphans();
            drop(stays);
            while fs::read_dir("/proc")
                .expect("proc")
                .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
                .count()
                > 3
            {
                faultkit::reap_orphans();
                std::thread::yield_now();
            }
        });
    }
}

mod rootless {
    use super::*;

    #[test]
    fn whoever_asks_finds_itself() {
        let list = ns_core::list().expect("list");
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
            let own = find(&list, inode("self", kind));
            assert!(own.processes.contains(&(std::process::id() as i32)), "{own:?}");
            assert_eq!(own.kind.to_string(), kind);
        }
        let comm = fs::read_to_string("/proc/self/cmdline").expect("cmdline");
        let first = &find(&list, inode("self", "pid")).first;
        assert!(first.is_some() && !comm.is_empty());
    }
}
