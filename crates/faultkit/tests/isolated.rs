//! `isolated!` and `require!` from outside, as the crates use them.

use std::fs;
use std::process::Command;
use std::time::Duration;

fn panic_text(body: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let payload = std::panic::catch_unwind(body).expect_err("should have failed");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => (*other.downcast::<&str>().expect("a text")).to_owned(),
    }
}

#[test]
fn the_body_runs_alone_in_a_process_of_one_thread() {
    faultkit::isolated!(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.lines().any(|line| line == "Threads:\t1"), "{status}");
        assert_eq!(fs::read_link("/proc/self/fd/0").unwrap().to_str(), Some("/dev/null"));
    });
}

/// A shell starts what it runs in the background with SIGINT and SIGQUIT ignored, and nohup(1) ignores SIGHUP.
#[test]
fn what_the_starter_ignores_is_not_inherited() {
    if std::env::var_os("CELLKIT_ISOLATED").is_none() {
        let exe = std::env::current_exe().unwrap();
        let script = "trap '' INT QUIT HUP CHLD TERM; exec \"$0\" --exact what_the_starter_ignores_is_not_inherited";
        if std::env::var_os("CELLKIT_TEST_IGNORES").is_none() {
            let mut again = Command::new("sh");
            let again = again.args(["-c", script]).arg(exe).env("CELLKIT_TEST_IGNORES", "1").output().unwrap();
            assert!(again.status.success(), "{again:?}");
            return;
        }
    }
    faultkit::isolated!(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        assert_eq!(u64::from_str_radix(ignored, 16).unwrap(), 1 << (13 - 1), "SIGPIPE alone");
    });
}

#[test]
fn a_body_may_skip_and_is_done() {
    faultkit::isolated!(|| faultkit::require!(program("sh")));
}

#[test]
#[should_panic(expected = "did not run to its end")]
fn a_name_that_matches_no_test_is_found_out() {
    faultkit::Isolated::new("no::such::test").run(|| {});
}

#[test]
fn a_panic_of_the_body_is_a_failure() {
    // The process made for this test runs the body at once, and its panic must reach the harness there.
    if std::env::var_os("CELLKIT_ISOLATED").is_some() {
        faultkit::isolated!(|| panic!("on purpose"));
    }
    let text = panic_text(|| faultkit::isolated!(|| panic!("on purpose")));
    assert!(text.contains("failed in its own process (exit status: 101)"), "{text}");
}

#[test]
fn the_time_limit_kills() {
    if std::env::var_os("CELLKIT_ISOLATED").is_some() {
        faultkit::isolated!(|| std::thread::sleep(Duration::from_secs(60)));
    }
    let begun = std::time::Instant::now();
    let text = panic_text(|| faultkit::isolated!(limit_secs = 1, || {}));
    assert!(text.contains("did not end within 1s and was killed"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[test]
fn a_leaked_process_of_anybody_is_found_and_killed() {
    const SECONDS: &str = "86399.25";
    if std::env::var_os("CELLKIT_ISOLATED").is_some() {
        faultkit::isolated!(|| {
            // The shell ends and its sleep becomes ours.
            let script = format!("sleep {SECONDS} >/dev/null 2>&1 </dev/null &");
            assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        });
    }
    let text = panic_text(|| faultkit::isolated!(|| {}));
    assert!(text.contains("failed in its own process"), "{text}");
    // Ours: the folder for temporary files has our number, and another run of this test may be under way.
    let mark = format!("TMPDIR={}/cellkit-test-{}-", std::env::temp_dir().display(), std::process::id());
    let running = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let has = |file: &str, text: &str| {
            fs::read(entry.path().join(file)).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        };
        has("cmdline", &format!("sleep\0{SECONDS}\0")) && has("environ", &mark)
    });
    assert!(!running);
}

mod root {
    use super::*;

    #[test]
    fn the_body_has_its_own_namespaces() {
        faultkit::require!(root, program("ip"));
        faultkit::isolated!(|| {
            // The one that reaps, the test harness and the body.
            let numbers = fs::read_dir("/proc").unwrap().flatten();
            let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            let mut numbers: Vec<u32> = numbers.collect();
            numbers.sort_unstable();
            assert_eq!(numbers, [1, 2, std::process::id()]);
            let ip = Command::new("ip").args(["-o", "link"]).output().unwrap();
            let links = String::from_utf8(ip.stdout).unwrap();
            assert_eq!(links.lines().count(), 1, "{links}");
            assert!(links.contains("LOOPBACK,UP"), "{links}");
            let ping = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(ping.local_addr().unwrap()).unwrap();
            let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mountinfo.contains(" shared:"), "{mountinfo}");
            assert_eq!(fs::read_dir("/run").unwrap().count(), 0);
        });
    }

    #[test]
    fn the_cgroup_view_looks_like_the_whole_hierarchy() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
            assert!(cgroup.lines().any(|line| line == "0::/test"), "{cgroup}");
            let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let mounts: Vec<&str> = mountinfo.lines().filter(|line| line.contains(" - cgroup2 ")).collect();
            assert_eq!(mounts.len(), 1, "{mounts:?}");
            let fields: Vec<&str> = mounts[0].split(' ').collect();
            assert_eq!(fields[3], "/");
            let root = std::path::Path::new(fields[4]);
            assert_eq!(fs::read_to_string(root.join("cgroup.procs")).unwrap(), "");
            let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
            assert_eq!(read("cgroup.subtree_control"), read("cgroup.controllers"));
        });
    }

    #[test]
    fn no_group_and_no_file_stays_after_it() {
        faultkit::require!(root);
        let ours = format!("faultkit-{}-", std::process::id());
        let left = || {
            let groups =
                ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|dir| fs::read_dir(dir).into_iter().flatten());
            groups.into_iter().flatten().flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&ours))
        };
        faultkit::isolated!(|| {});
        // Other tests of this binary may be under way: theirs go too.
        for _ in 0..200 {
            if !left() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("a group {ours}* is still there");
    }
}
