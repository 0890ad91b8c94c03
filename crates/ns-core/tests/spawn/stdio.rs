//! Pipes, extra descriptors, output: looked at from inside the payload, with `find`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ns_core::{Command, ErrorKind, Namespaces, Stdio};
use proptest::prelude::*;

use crate::{sh, sys};

#[test]
fn three_pipes() {
    let mut child = sh("read line; echo \"got $line\"; echo oops >&2")
        .stdin(Stdio::Pipe)
        .stdout(Stdio::Pipe)
        .stderr(Stdio::Pipe)
        .spawn()
        .expect("start");
    child.take_stdin().expect("stdin").write_all(b"it\n").expect("write");
    let (mut out, mut err) = (String::new(), String::new());
    child.take_stdout().expect("stdout").read_to_string(&mut out).expect("read");
    child.take_stderr().expect("stderr").read_to_string(&mut err).expect("read");
    assert_eq!((out.as_str(), err.as_str()), ("got it\n", "oops\n"));
    assert!(child.take_stdin().is_none() && child.take_stdout().is_none(), "taken");
    assert!(child.wait().expect("wait").success());
}

#[test]
fn every_start_of_a_plan_has_its_own_pipes() {
    faultkit::isolated!(|| {
        let plan = Command::new("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).plan().expect("plan");
        let mut children: Vec<_> = (0..8).map(|_| plan.spawn_paused().expect("paused")).collect();
        // Each holds its own ends and none of another: it sees the end of its input while the others' stay open.
        let mut running: Vec<_> = children.drain(..).map(|child| child.resume(&mut ()).expect("resume")).collect();
        for (number, child) in running.iter_mut().enumerate().rev() {
            write!(child.take_stdin().expect("stdin"), "{number}").expect("write");
            let mut said = String::new();
            child.take_stdout().expect("stdout").read_to_string(&mut said).expect("read");
            assert_eq!(said, number.to_string());
        }
        for mut child in running {
            assert!(child.wait().expect("wait").success());
        }
    });
}

#[test]
fn a_pipe_that_nobody_took_ends_when_its_child_is_waited_for() {
    let mut child = Command::new("cat").stdin(Stdio::Pipe).stdout(Stdio::Null).spawn().expect("start");
    assert!(child.try_wait().expect("try").is_none(), "it reads");
    assert!(child.wait().expect("wait").success());
}

#[test]
fn output_is_caught_whole_however_much_and_in_both_directions() {
    let megabyte = vec![b'x'; 1 << 20];
    let output = sh("tee /dev/stderr").output_from(&megabyte).expect("output");
    assert_eq!((output.stdout.len(), output.stderr.len()), (1 << 20, 1 << 20));
    assert!(output.status.success() && output.stdout == megabyte);
    // Input that is not read is no error, and no signal.
    let output = sh("exec 0<&-; echo done").output_from(&megabyte).expect("output");
    assert_eq!(output.stdout, b"done\n");
    let output = sh("cat; exit 3").output().expect("output");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "no input of the caller's");
    // What was said otherwise holds.
    let output = sh("echo a; echo b >&2").stderr(Stdio::Null).output().expect("output");
    assert_eq!((output.stdout, output.stderr), (b"a\n".to_vec(), Vec::new()));
}

#[test]
fn a_caller_that_dies_of_sigpipe_does_not() {
    faultkit::isolated!(|| {
        let lived = sys::in_a_fork(|| {
            sys::default(libc::SIGPIPE);
            let output = sh("exec 0<&-; sleep 0.05").output_from(vec![b'x'; 1 << 20]).expect("output");
            i32::from(output.status.success()) + 1
        });
        assert_eq!(lived, 2);
    });
}

#[test]
fn the_standard_descriptors_of_a_caller_that_has_closed_its_own() {
    faultkit::isolated!(|| {
        let right = sys::in_a_fork(|| {
            sys::close(0);
            sys::close(1);
            // The pipes' ends would get the numbers 0 and 1.
            let output = sh("readlink /proc/self/fd/0; find /proc/self/fd -printf '%f ' >&2").output().expect("output");
            let listed = String::from_utf8_lossy(&output.stderr).into_owned();
            i32::from(output.stdout == b"/dev/null\n" && listed.starts_with("fd 0 1 2 3 "))
        });
        assert_eq!(right, 1);
    });
}

#[test]
fn what_got_the_number_of_a_closed_standard_descriptor_stays_with_the_caller() {
    faultkit::isolated!(|| {
        let stdin = || {
            let output = sh("readlink /proc/self/fd/0").stdin(Stdio::Inherit).output().expect("output");
            String::from_utf8(output.stdout).expect("text")
        };
        let right = sys::in_a_fork(|| {
            sys::close(0);
            // A pidfd, by which the payload could signal its neighbour.
            let neighbour = ns_core::Process::open(std::process::id() as i32).expect("open");
            let same = neighbour.as_fd().as_raw_fd() == 0 && stdin() == "/dev/null\n";
            drop(neighbour);
            // What is meant to be inherited is.
            let passwd = File::open("/etc/passwd").expect("passwd");
            let same = same && passwd.as_raw_fd() == 0 && stdin() == "/dev/null\n";
            sys::keep_on_exec(0);
            i32::from(same && stdin() == "/etc/passwd\n")
        });
        assert_eq!(right, 1);
    });
}

/// What the payload has open: number and target of the link, but for what `find` itself opens.
fn listed(command: Command) -> BTreeMap<i32, String> {
    let output = command.output().expect("find");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let numbers = lines.filter_map(|(number, target)| Some((number.parse().ok()?, target.to_owned())));
    numbers.filter(|(_, target)| !target.starts_with("/proc")).collect()
}

/// A listing of its own descriptors: each line a number and what it is. `find` holds its working directory open.
fn find() -> Command {
    Command::new("find").args(["/proc/self/fd/", "-printf", "%f %l\n"]).current_dir("/proc")
}

#[test]
fn the_table_is_the_allow_list_whatever_the_order() {
    faultkit::isolated!(limit_secs = 120, || {
        let dir = faultkit::TempDir::new();
        let file = |number: usize| {
            let path = dir.path().join(format!("file-{number}"));
            std::fs::write(&path, "").expect("file");
            path
        };
        let paths: Vec<_> = (0..8).map(file).collect();
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 60,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        // The numbers that the caller holds the files under and the numbers that the payload is to have them under are two
        // permutations of the same few, so that most sources stand where another one's target is.
        let numbers: Vec<i32> = (3..15).collect();
        let orders = (Just(numbers.clone()).prop_shuffle(), Just(numbers).prop_shuffle(), 0..3usize, 1..8usize);
        runner
            .run(&orders, |(sources, targets, standard, count)| {
                // In a fork, whose numbers 3 to 14 the files may have.
                let answer = sys::in_a_fork(|| {
                    let mut wanted = BTreeMap::new();
                    let mut command = find();
                    let held: Vec<OwnedFd> =
                        paths.iter().map(|path| sys::above(100, &File::open(path).expect("open"))).collect();
                    for number in 3..100 {
                        sys::close(number);
                    }
                    for ((held, path), (source, target)) in
                        held.iter().zip(&paths).zip(sources.iter().zip(&targets)).take(count)
                    {
                        command = command.fd(*target, sys::at(*source, held));
                        wanted.insert(*target, path.to_string_lossy().into_owned());
                    }
                    let standard_file = sys::at(sources[10], &held[7]);
                    command = match standard {
                        0 => command.stdin(standard_file),
                        _ => command.stderr(standard_file),
                    };
                    let at = if standard == 0 { 0 } else { 2 };
                    wanted.insert(at, paths[7].to_string_lossy().into_owned());
                    let table = listed(command);
                    let others = table.iter().filter(|(number, _)| !wanted.contains_key(number));
                    let stray = others.filter(|(number, _)| **number > 2).count();
                    let right = wanted.iter().all(|(number, path)| table.get(number) == Some(path));
                    i32::from(right && stray == 0)
                });
                prop_assert_eq!(answer, 1);
                Ok(())
            })
            .expect("every order");
    });
}

#[test]
fn extra_descriptors_among_many_hostile_ones() {
    faultkit::isolated!(|| {
        let null = File::open("/dev/null").expect("null");
        // Not close-on-exec, as a careless library leaves them.
        let hostile: Vec<OwnedFd> = (0..200).map(|_| nix::unistd::dup(&null).expect("dup")).collect();
        let starters: Vec<_> = (0..16)
            .map(|thread| {
                std::thread::spawn(move || {
                    for round in 0..4 {
                        let target = 3 + thread * 7 + round;
                        let passwd = File::open("/etc/passwd").expect("passwd");
                        let table = listed(find().fd(target, passwd));
                        let extra: Vec<_> = table.iter().filter(|(number, _)| **number > 2).collect();
                        assert_eq!(extra, [(&target, &"/etc/passwd".to_owned())]);
                    }
                })
            })
            .collect();
        for thread in starters {
            thread.join().expect("starter");
        }
        assert!(hostile.iter().all(|fd| fd.as_raw_fd() > 2));
    });
}

#[test]
fn descriptors_that_cannot_be_given() {
    faultkit::isolated!(|| {
        let null = || File::open("/dev/null").expect("null");
        let root = || File::open("/").expect("root");
        let new = || Command::new("/bin/true");
        for (command, said) in [
            (new().fd(2, null()), "from 3 on"),
            (new().fd(-1, null()), "from 3 on"),
            (new().fd(7, null()).fd(7, null()), "given twice"),
            (new().fd(7, null()).fd_outside_root(7, root()), "given twice"),
            (new().fd(i32::MAX, null()), "limit on open files"),
            (new().fd(3, root()), "way out"),
            (new().stdin(root()), "way out"),
        ] {
            let error = command.check().expect_err(said);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(said), "{said}: {error}");
        }
        assert!(new().fd(3, root()).check().unwrap_err().hint().expect("hint").contains("fd_outside_root"));
        let table = listed(find().fd_outside_root(9, root()));
        assert_eq!(table.get(&9).map(String::as_str), Some("/"));
        // The highest number that is not refused is one that can be had.
        let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit");
        let highest = (0..20).map(|less| soft as i32 - less).find(|number| new().fd(*number, null()).check().is_ok());
        assert!(new().fd(highest.expect("one"), null()).status().expect("start").success());
    });
}

#[test]
fn a_program_cannot_be_started_and_every_pipe_is_closed() {
    faultkit::isolated!(|| {
        // The ledger counts descriptors.
        assert!(Command::new("/no/such").output().is_err());
        let paused = Command::new("cat").stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn_paused().expect("paused");
        drop(paused);
    });
}

#[test]
fn the_environment_as_std_has_it() {
    let command = Command::new("env").env_clear().envs([("A", "1"), ("B", "2"), ("C", "3")]).env_remove("B");
    let output = command.env("PATH", "/usr/bin:/bin").output().expect("env");
    assert_eq!(output.stdout, b"A=1\nC=3\nPATH=/usr/bin:/bin\n");
}

#[test]
fn the_environment_is_not_for_a_log() {
    let command = || Command::new("env").env("TOKEN", "hunter2");
    for text in [format!("{:#?}", command()), format!("{:#?}", command().plan().expect("plan"))] {
        assert!(text.contains("env") && !text.contains("hunter2"), "{text}");
    }
    assert!(!command().plan().expect("plan").to_string().contains("hunter2"));
}

#[test]
fn a_process_group_of_its_own() {
    let group = |command: Command| {
        let output = command.output().expect("start");
        let text = String::from_utf8(output.stdout).expect("text");
        let fields: Vec<i32> = text.split_whitespace().map(|field| field.parse().expect("number")).collect();
        fields[0] == fields[1]
    };
    let stat = || sh("cut -d' ' -f1,5 /proc/$$/stat");
    assert!(!group(stat()), "the caller's");
    assert!(group(stat().new_process_group()));
    assert!(group(stat().new_process_group().new_session()));
}

mod root {
    use super::*;

    /// As nginx and its like do, whose log files are links to these.
    #[test]
    fn another_user_opens_its_pipes_by_their_names() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let script = "cat /proc/self/fd/0 >/proc/self/fd/1; echo err >/proc/self/fd/2";
            let output = sh(script).user(1000, 1000).output_from("out\n").expect("output");
            assert_eq!((output.stdout, output.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
            // As root of a user namespace that has this user.
            let command = sh(script).user(1000, 1000).namespaces(Namespaces::USER);
            let command = command.stdin(Stdio::Null).stdout(Stdio::Pipe).stderr(Stdio::Pipe);
            let paused = command.spawn_paused().expect("paused");
            for map in ["uid_map", "gid_map"] {
                std::fs::write(format!("/proc/{}/{map}", paused.pid()), "0 0 65536").expect(map);
            }
            let output = paused.resume(&mut ()).expect("resume").wait_with_output().expect("output");
            assert_eq!(output.stderr, b"err\n");
        });
    }
}
