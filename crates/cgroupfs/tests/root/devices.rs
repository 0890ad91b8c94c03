#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cgroupfs::{AttachMode, Cgroup, DevNum, DeviceAccess, DeviceKind, DeviceRules, ErrorKind};
use faultkit::{End, Failure, Fault, Sweep};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Uid, seteuid};

use super::{LIMIT, group, killed, place, until};

fn rules(text: &str) -> DeviceRules {
    text.parse().expect("rules")
}

/// A folder whose device nodes work, which a container's do not.
struct Nodes(PathBuf);

impl Nodes {
    fn new() -> Self {
        let dir = PathBuf::from("/run/nodes");
        fs::create_dir(&dir).expect("mkdir");
        let status = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&dir).status().expect("mount");
        assert!(status.success());
        Self(dir)
    }

    fn make(&self, name: &str, kind: DeviceKind, device: DevNum) -> nix::Result<PathBuf> {
        let path = self.0.join(name);
        let kind = if kind == DeviceKind::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
        mknod(&path, kind, Mode::from_bits_truncate(0o600), makedev(device.major.into(), device.minor.into()))?;
        Ok(path)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().expect("umount").success());
        fs::remove_dir(&self.0).expect("rmdir");
    }
}

/// Runs `body` in the group, with the one thread that this process has.
fn inside<T>(group: &Cgroup, body: impl FnOnce() -> T) -> T {
    fs::write(group.path().join("cgroup.procs"), "0").expect("enter");
    let outcome = body();
    fs::write(place().hierarchy().mount_point().join("test/cgroup.procs"), "0").expect("leave");
    outcome
}

/// What `bpftool` shows of the device programs of a group: number and name.
fn shown(group: impl AsRef<Path>) -> Vec<(u32, String)> {
    let output = Command::new("bpftool").args(["-j", "cgroup", "show"]).arg(group.as_ref()).output().expect("bpftool");
    let text = String::from_utf8(output.stdout).expect("text");
    let field = |object: &str, name: &str| {
        let rest = object.split_once(&format!("\"{name}\":")).expect(name).1;
        rest.split([',', '}']).next().unwrap_or_default().trim_matches('"').to_owned()
    };
    let objects = text.split('{').skip(1).filter(|object| object.contains("device"));
    objects.map(|object| (field(object, "id").parse().expect("id"), field(object, "name"))).collect()
}

/// Whether the kernel still has a program of this number.
fn lives(id: u32) -> bool {
    let output = Command::new("bpftool").args(["prog", "show", "id", &id.to_string()]).output().expect("bpftool");
    output.status.success()
}

/// Whether the filter let it through: what is wrong with the device itself does not count.
fn passes<T>(outcome: std::io::Result<T>) -> bool {
    outcome.map_or_else(|error| error.raw_os_error() != Some(libc::EPERM), |_| true)
}

#[test]
fn the_kernel_does_as_the_rules_say() {
    faultkit::require!(root, cgroup2, program("mount"));
    faultkit::isolated!(|| {
        use DeviceKind::{Block, Char};
        let nodes = Nodes::new();
        let device = |major, minor| DevNum { major, minor };
        // Those that exist, and some that no driver answers for: what the filter says comes first.
        let devices = [(Char, 1, 3), (Char, 1, 5), (Char, 1, 7), (Char, 240, 3), (Block, 240, 3), (Block, 1, 240)];
        let devices = devices.map(|(kind, major, minor)| (kind, device(major, minor)));
        let paths: Vec<PathBuf> = devices
            .iter()
            .map(|(kind, device)| nodes.make(&format!("{kind}{device}"), *kind, *device).expect("mknod"))
            .collect();
        let group = group(&place(), "filtered");
        for text in [
            "",
            "allow a",
            "allow c 1:3 rwm",
            "allow c 1:3 r",
            "allow c 1:3 w",
            "allow c 1:3 m\nallow c 1:5 rw",
            "allow c *:3 rw\nallow b 240:* m",
            "allow a\ndeny c 1:3 w\ndeny b *:* r",
            "allow c 1:* rwm\ndeny c 1:5 rm\nallow b 1:240 w",
            "allow a *:3 rwm\ndeny c 240:* rw\ndeny a 1:* m",
            &DeviceRules::oci_default().to_string(),
        ] {
            let rules = rules(text);
            group.devices().attach(&rules).expect("attach");
            for ((kind, device), path) in devices.iter().zip(&paths) {
                let may = |access: &str| rules.allows(*kind, *device, access.parse::<DeviceAccess>().expect("access"));
                let open = |read, write| {
                    let mut options = OpenOptions::new();
                    passes(options.read(read).write(write).custom_flags(libc::O_NONBLOCK).open(path))
                };
                let done = inside(&group, || {
                    let made = nodes.make("new", *kind, *device).map_err(std::io::Error::from);
                    [open(true, false), open(false, true), open(true, true), passes(made)]
                });
                let _ = fs::remove_file(nodes.0.join("new"));
                assert_eq!(done, [may("r"), may("w"), may("rw"), may("m")], "{kind} {device} with\n{text}");
            }
        }
        // A node of nothing is no device, and a FIFO neither.
        group.devices().attach(&DeviceRules::deny_all()).expect("attach");
        let fifo = CString::new("/run/nodes/fifo").expect("path");
        inside(&group, || nix::unistd::mkfifo(fifo.as_c_str(), Mode::S_IRUSR)).expect("mkfifo");
        // Nobody outside is concerned.
        assert!(fs::read("/run/nodes/c1:3").is_ok());
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn a_hundred_updates_leave_one_program() {
    faultkit::require!(root, cgroup2, program("bpftool"));
    faultkit::isolated!(|| {
        let group = group(&place(), "updated");
        assert_eq!(group.devices().attached().expect("attached").mode, None);
        let mut ids = Vec::new();
        for number in 0..100 {
            let rules = rules(&format!("allow c 1:{number} rwm"));
            group.devices().attach(&rules).expect("attach");
            let attached = group.devices().attached().expect("attached");
            assert_eq!((attached.programs.len(), attached.mode), (1, Some(AttachMode::Multi)));
            ids.push(attached.programs[0].id);
        }
        let last = *ids.last().expect("one");
        assert_eq!(shown(group.path()), [(last, "cellkit_dev".to_owned())]);
        // The same program in other words has the same tag.
        let tag = || group.devices().attached().expect("attached").programs[0].tag;
        let before = tag();
        group.devices().attach(&rules("allow c 1:99 rm\nallow c 1:99 w")).expect("attach");
        assert_eq!(tag(), before);
        for id in &ids {
            until("a replaced program is gone", || !lives(*id));
        }
        // It is the kernel's account that says so, and not that bpftool finds nothing.
        let id = shown(group.path())[0].0;
        assert!(lives(id));
        // Nothing need be detached before the group is removed.
        group.remove(LIMIT).expect("remove");
        until("a removed group's program is gone", || !lives(id));
    });
}

#[test]
fn another_process_finds_and_detaches_it() {
    faultkit::require!(root, cgroup2, program("bpftool"));
    faultkit::isolated!(|| {
        let group = group(&place(), "found");
        group.devices().attach(&DeviceRules::oci_default()).expect("attach");
        // All that is known after a restart is the path.
        let again = Cgroup::open(group.path()).expect("open");
        again.devices().attach(&DeviceRules::deny_all()).expect("attach");
        assert_eq!(shown(group.path()).len(), 1);
        assert!(inside(&group, || fs::read("/dev/null")).is_err());
        again.devices().detach().expect("detach");
        assert_eq!(shown(group.path()), []);
        assert!(inside(&group, || fs::read("/dev/null")).is_ok());
        again.devices().detach().expect("nothing to detach");
        group.remove(LIMIT).expect("remove");
    });
}

/// Enters the group, opens the denied node and the allowed one in turn until there is a third file, and says how often it
/// did. 42 is for an open that should have failed, 43 for one that should not.
const OPENER: &str = r#"
    open(my $procs, ">", shift) or die; print $procs 0; close $procs;
    until (-e $ARGV[2]) { $n++; exit 42 if sysopen(F, $ARGV[0], 2); exit 43 unless sysopen(F, $ARGV[1], 0); }
    print $n;
"#;

#[test]
fn at_no_instant_is_a_denied_device_open() {
    faultkit::require!(root, cgroup2, program("perl"), program("mount"));
    faultkit::isolated!(limit_secs = 300, || {
        let nodes = Nodes::new();
        let denied = nodes.make("denied", DeviceKind::Char, DevNum { major: 1, minor: 5 }).expect("mknod");
        let allowed = nodes.make("allowed", DeviceKind::Char, DevNum { major: 1, minor: 3 }).expect("mknod");
        let group = group(&place(), "raced");
        let both = [rules("allow c 1:3 rw"), rules("allow c 1:3 rwm\nallow c 1:7 r")];
        group.devices().attach(&both[0]).expect("attach");
        let stop = nodes.0.join("stop");
        let mut opener = Command::new("perl")
            .args(["-e", OPENER])
            .args([&group.path().join("cgroup.procs"), &denied, &allowed, &stop])
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl");
        until("it is in the group", || group.procs().expect("procs").contains(&(opener.id() as i32)));
        for number in 0..2000 {
            group.devices().attach(&both[number % 2]).expect("attach");
            assert!(opener.try_wait().expect("wait").is_none(), "at update {number}");
        }
        fs::write(&stop, "").expect("stop");
        let mut said = String::new();
        opener.stdout.take().expect("pipe").read_to_string(&mut said).expect("read");
        assert_eq!(opener.wait().expect("wait").code(), Some(0));
        let times: u64 = said.parse().expect(&said);
        println!("{times} attempts during 2000 updates");
        assert!(times > 100, "{times}");
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn several_at_once_leave_one_program() {
    faultkit::require!(root, cgroup2, program("bpftool"));
    faultkit::isolated!(|| {
        for _ in 0..10 {
            let group = group(&place(), "contended");
            let barrier = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for number in 0..4 {
                    let (group, barrier) = (&group, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        for round in 0..20 {
                            let rules = rules(&format!("allow c {number}:{round} r"));
                            group.devices().attach(&rules).expect("attach");
                        }
                    });
                }
            });
            assert_eq!(shown(group.path()).len(), 1);
            group.remove(LIMIT).expect("remove");
        }
    });
}

#[test]
fn a_group_that_is_gone() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = group(&place(), "gone");
        let handle = Cgroup::open(group.path()).expect("open");
        group.remove(LIMIT).expect("remove");
        let kinds = [
            handle.devices().attach(&DeviceRules::deny_all()).expect_err("gone").kind(),
            handle.devices().attached().expect_err("gone").kind(),
            handle.devices().detach().expect_err("gone").kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Gone; 3]);
    });
}

#[test]
fn without_privileges_it_says_which() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = group(&place(), "refused");
        let user = |body: &dyn Fn() -> cgroupfs::Error| {
            seteuid(Uid::from_raw(12345)).expect("seteuid");
            let error = body();
            seteuid(Uid::from_raw(0)).expect("seteuid");
            error
        };
        let error = user(&|| group.devices().attach(&DeviceRules::deny_all()).expect_err("refused"));
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Permission, Some(libc::EPERM)));
        assert!(error.hint().expect("hint").contains("CAP_BPF"), "{error:#}");
        let error = user(&|| group.devices().attached().map(drop).expect_err("refused"));
        assert!(error.hint().expect("hint").contains("CAP_NET_ADMIN"), "{error:#}");
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn whatever_fails_there_is_one_program_and_no_descriptor_is_left() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let sweep = |first: bool| {
            Sweep::new(move |counted| {
                let group = group(&place(), "swept");
                if !first {
                    group.devices().attach(&DeviceRules::deny_all()).expect("attach");
                }
                let outcome = counted.run(|| group.devices().attach(&DeviceRules::oci_default()));
                let programs = group.devices().attached().expect("attached").programs;
                assert!(programs.len() == 1 || first && outcome.is_err() && programs.is_empty(), "{programs:?}");
                group.remove(LIMIT).expect("remove");
                outcome.map_err(|error| {
                    Failure::new(error.operation().to_owned(), error.raw_os_error(), format!("{error:#}"))
                })
            })
        };
        for first in [true, false] {
            for errno in [libc::EMFILE, libc::EPERM] {
                let swept = sweep(first).each(Fault::Fail(errno), |run| match &run.end {
                    End::Returned(Err(failure))
                        if failure.errno == Some(errno) && failure.operation.starts_with("BPF_") =>
                    {
                        Ok(())
                    }
                    End::Returned(Ok(())) if run.call.name == "close" => Ok(()),
                    other => Err(format!("{other:?}")),
                });
                assert!(swept.runs >= 4, "{swept:?}");
            }
        }
    });
}

#[test]
fn a_container_that_is_killed_leaves_nothing() {
    faultkit::require!(root, cgroup2, program("bpftool"));
    faultkit::isolated!(|| {
        let group = group(&place(), "killed");
        group.devices().attach(&DeviceRules::oci_default()).expect("attach");
        let id = shown(group.path())[0].0;
        let child = super::start_in(group.path(), "exec sleep 1000");
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        until("its program is gone", || !lives(id));
    });
}
