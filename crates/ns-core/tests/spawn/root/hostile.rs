//! A container whose root waits for somebody to come in.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use ns_core::{Capability, Command, Namespaces, enter_process};

use crate::container::Container;
use crate::sys;

/// What a process in the container found out about those that came in.
#[derive(Debug, Default)]
struct Loot {
    /// How often it looked at one that had not executed its program yet.
    looked: u32,
    /// What it got of such a one.
    got: Vec<String>,
}

/// Looks at every process that comes into the pid namespace, until there is something to read from `stop`.
fn watch(mut stop: &fs::File, program: &Path) -> Loot {
    let mut loot = Loot::default();
    let comm = fs::read_to_string("/proc/self/comm").expect("comm");
    let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
    // It does not block.
    while stop.read(&mut [0]).is_err() {
        for entry in fs::read_dir("/proc").expect("proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let dir = entry.path();
            let is_fresh = || fs::read_to_string(dir.join("comm")).is_ok_and(|theirs| theirs == comm);
            if [1, own, parent].contains(&pid) || !is_fresh() {
                continue;
            }
            loot.looked += 1;
            let is_it = || fs::read_link(dir.join("exe")).is_ok_and(|exe| exe == program);
            if is_it() {
                loot.got.push(format!("{pid}: its program"));
            }
            if fs::read_dir(dir.join("root")).is_ok() && is_it() {
                loot.got.push(format!("{pid}: its root"));
            }
            if fs::read(dir.join("environ")).is_ok_and(|environ| !environ.is_empty()) && is_it() {
                loot.got.push(format!("{pid}: its memory"));
            }
            for fd in fs::read_dir(dir.join("fd")).into_iter().flatten().flatten() {
                if fs::read_link(fd.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:")) {
                    loot.got.push(format!("{pid}: its socket"));
                }
            }
            if sys::traced(pid as i32, is_it) {
                loot.got.push(format!("{pid}: all of it, by ptrace"));
            }
        }
    }
    loot
}

/// Joins the container again and again while its root watches.
fn join_under_watch(container: &Container, without: Option<Capability>) -> Loot {
    let program = std::env::current_exe().expect("exe");
    let pipe = |flags| {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | flags).expect("pipe");
        (fs::File::from(reader), fs::File::from(writer))
    };
    let (stop_reader, mut stop_writer) = pipe(nix::fcntl::OFlag::O_NONBLOCK);
    let (mut reader, mut writer) = pipe(nix::fcntl::OFlag::empty());
    let outer = sys::fork(|| {
        enter_process(container.pidfd(), Namespaces::all()).expect("enter");
        let inner = sys::fork(|| {
            if let Some(capability) = without {
                sys::drop_capability(capability as u8);
            }
            writer.write_all(b"ready\n").expect("write");
            let loot = watch(&stop_reader, &program);
            writer.write_all(format!("{} {}", loot.looked, loot.got.join("; ")).as_bytes()).expect("write");
        });
        sys::wait(inner);
    });
    drop(writer);
    let mut ready = [0; 6];
    reader.read_exact(&mut ready).expect("ready");
    for _ in 0..200 {
        let command = Command::new("/bin/true").env_clear().join_process(container.pidfd(), Namespaces::all());
        assert!(command.spawn().expect("start").wait().expect("wait").success());
    }
    stop_writer.write_all(b"!").expect("write");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("loot");
    sys::wait(outer);
    let (looked, got) = text.split_once(' ').expect("two words");
    Loot {
        looked: looked.parse().expect("a number"),
        got: got.split("; ").filter(|word| !word.is_empty()).map(String::from).collect(),
    }
}

#[test]
fn the_root_of_a_container_reaches_nobody_who_comes_in() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(limit_secs = 60, || {
        // Every capability, CAP_SYS_PTRACE too, in its user namespace.
        let container = Container::new(&["--map-root-user", "--pid", "--mount", "--mount-proc", "--net"], "ready");
        let loot = join_under_watch(&container, None);
        assert!(loot.looked > 0, "nobody was met on the way in");
        assert!(loot.got.is_empty(), "{loot:?}");
        // The machine's root, without the one capability that makes it a tracer of all.
        let container = Container::new(&["--pid", "--mount", "--mount-proc", "--net"], "ready");
        let loot = join_under_watch(&container, Some(Capability::SYS_PTRACE));
        assert!(loot.looked > 0, "nobody was met on the way in");
        assert!(loot.got.is_empty(), "{loot:?}");
    });
}

/// Whoever has power over the namespaces may stop and kill what comes in: each start has an end all the same.
#[test]
fn who_is_stopped_on_the_way_in_holds_nobody_up() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(limit_secs = 120, || {
        let container = Container::new(&["--map-root-user", "--pid", "--mount", "--mount-proc"], "ready");
        let (reader, mut stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)
            .map(|(reader, writer)| (fs::File::from(reader), fs::File::from(writer)))
            .expect("pipe");
        let outer = sys::fork(|| {
            enter_process(container.pidfd(), Namespaces::all()).expect("enter");
            let inner = sys::fork(|| {
                let all_others = nix::unistd::Pid::from_raw(-1);
                while (&reader).read(&mut [0]).is_err() {
                    let _ = nix::sys::signal::kill(all_others, nix::sys::signal::Signal::SIGSTOP);
                }
            });
            sys::wait(inner);
        });
        let start = || Command::new("/bin/true").join_process(container.pidfd(), Namespaces::all()).spawn();
        for _ in 0..20 {
            match start() {
                Ok(mut child) => {
                    // It is stopped again by now.
                    child.kill().expect("kill");
                    child.wait().expect("wait");
                }
                Err(error) => {
                    assert!(error.to_string().contains("was stopped"), "{error:#}");
                    assert!(error.hint().expect("hint").contains("SIGSTOP"), "{error:#}");
                }
            }
        }
        stop.write_all(b"!").expect("write");
        sys::wait(outer);
    });
}

/// A start that changes its user shares the caller's memory until execve: whoever is that user may not reach it there.
#[test]
fn the_user_that_a_child_becomes_does_not_reach_the_callers_memory() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 60, || {
        const USER: u32 = 12345;
        let program = std::env::current_exe().expect("exe");
        let (stop_reader, mut stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)
            .map(|(reader, writer)| (fs::File::from(reader), fs::File::from(writer)))
            .expect("pipe");
        let (mut reader, mut writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
            .map(|(reader, writer)| (fs::File::from(reader), fs::File::from(writer)))
            .expect("pipe");
        let plan = Command::new("/bin/true").env_clear().user(USER, USER).plan().expect("plan");
        assert!(plan.shares_memory());
        let neighbour = sys::fork(|| {
            nix::unistd::setgroups(&[]).expect("setgroups");
            nix::unistd::setresgid(USER.into(), USER.into(), USER.into()).expect("setresgid");
            nix::unistd::setresuid(USER.into(), USER.into(), USER.into()).expect("setresuid");
            let loot = watch(&stop_reader, &program);
            writer.write_all(format!("{} {}", loot.looked, loot.got.join("; ")).as_bytes()).expect("write");
        });
        drop(writer);
        for _ in 0..1000 {
            assert!(plan.spawn().expect("start").wait().expect("wait").success());
        }
        stop.write_all(b"!").expect("write");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("loot");
        sys::wait(neighbour);
        let (looked, got) = text.split_once(' ').expect("two words");
        assert_ne!(looked, "0", "nobody was met before its execve");
        assert_eq!(got, "");
    });
}
