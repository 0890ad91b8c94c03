use std::fs;

use super::example;

/// What is in the root of cgroup2 as this process sees it.
fn groups() -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir("/sys/fs/cgroup").expect("cgroup2").map(|entry| entry.expect("entry"));
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect()
}

mod root {
    use super::*;

    #[test]
    fn the_kill_is_local_and_told() {
        faultkit::require!(root, cgroup2("memory"));
        faultkit::isolated!(|| {
            let before = groups();
            let said = example("limit_memory").args(["12m", "tail", "/dev/zero"]).output().expect("start");
            let text = String::from_utf8_lossy(&said.stdout);
            // 128 and SIGKILL, as a shell has it.
            assert_eq!(said.status.code(), Some(137), "{said:?}");
            assert!(text.starts_with("status 137, oom_kill 1, max "), "{text}");
            assert!(text.ends_with("the neighbour lives\n"), "{text}");
            assert_eq!(groups(), before);

            let said = example("limit_memory").args(["12m", "sh", "-c", "exit 7"]).output().expect("start");
            assert_eq!(said.status.code(), Some(7), "{said:?}");
            assert!(String::from_utf8_lossy(&said.stdout).starts_with("status 7, oom_kill 0, max 0\n"), "{said:?}");
            assert_eq!(groups(), before);
        });
    }

    /// The command is looked at from outside while it runs.
    #[test]
    fn the_limit_is_in_the_kernels_file() {
        faultkit::require!(root, cgroup2("memory"), program("sleep"));
        faultkit::isolated!(|| {
            let mut child = example("limit_memory").args(["12m", "sleep", "1000"]).spawn().expect("start");
            let group = format!("/sys/fs/cgroup/limit_memory-{}-victim", child.id());
            let read = |file: &str| fs::read_to_string(format!("{group}/{file}")).unwrap_or_default();
            // Until it is the program: what ends before that has not been started.
            let runs = || {
                let pid = read("cgroup.procs").trim().to_owned();
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
            };
            while !runs() {
                assert!(child.try_wait().expect("wait").is_none(), "it ended early");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            assert_eq!((read("memory.max").trim(), read("memory.swap.max").trim()), ("12582912", "0"));
            fs::write(format!("{group}/cgroup.kill"), "1").expect("kill");
            assert_eq!(child.wait().expect("wait").code(), Some(137));
            assert!(!std::path::Path::new(&group).exists());
        });
    }

    #[test]
    fn without_the_controller_it_says_who_has_it() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let said = example("limit_memory").args(["12m", "true"]).output().expect("start");
            let (words, errors) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
            if fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| text.contains("memory")) {
                assert!(said.status.success() && words.contains("oom_kill 0"), "{said:?}");
            } else {
                assert!(errors.contains("the memory controller (") && errors.contains("hint: "), "{said:?}");
                assert_eq!(said.status.code(), Some(1));
            }
            assert_eq!(example("limit_memory").args(["x", "true"]).status().expect("start").code(), Some(1));
            assert_eq!(example("limit_memory").arg("12m").status().expect("start").code(), Some(2));
        });
    }
}
