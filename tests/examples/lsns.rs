use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{example, stdout};

/// A process with namespaces of its own, known by its namespaces being made.
struct Apart(Child);

impl Apart {
    fn new(options: &[&str]) -> Self {
        use std::io::BufRead;
        let mut command = Command::new("unshare");
        command.args(options).args(["sh", "-c", "echo made; exec sleep 1000"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("read");
        assert_eq!(line, "made\n");
        Self(child)
    }

    fn inode(&self, kind: &str) -> String {
        let link = fs::read_link(format!("/proc/{}/ns/{kind}", self.0.id())).expect(kind);
        link.to_string_lossy().replace(|c: char| !c.is_ascii_digit(), "")
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first five columns of every row, without the heading; with the sixth where it is not the lister's own.
fn rows(table: &str) -> BTreeSet<Vec<String>> {
    let rows = table.lines().map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>());
    rows.filter(|row| row.first().is_some_and(|first| first != "NS")).collect()
}

fn real(arguments: &[&str]) -> String {
    let columns = ["--list", "--notruncate", "--output", "NS,TYPE,NPROCS,PID,USER,COMMAND"];
    stdout(Command::new("lsns").args(columns).args(arguments))
}

mod root {
    use super::*;

    #[test]
    fn rows_are_those_of_lsns() {
        faultkit::require!(root, program("lsns"), program("unshare"));
        faultkit::isolated!(|| {
            let some = [Apart::new(&["--uts", "--ipc"]), Apart::new(&["--net", "--mount", "--cgroup"])];
            let user = Apart::new(&["--user", "--map-root-user", "--time"]);
            let below = Apart::new(&["--pid", "--fork", "--kill-child"]);
            let second =
                Command::new("nsenter").args(["--uts", "-t", &some[0].0.id().to_string(), "sleep", "1000"]).spawn();
            let second = Apart(second.expect("nsenter"));
            while second.inode("uts") != some[0].inode("uts") {
                std::thread::yield_now();
            }
            let theirs = rows(&real(&[]));
            assert_eq!(rows(&stdout(&mut example("lsns"))), theirs);
            let expected = [some[0].inode("uts"), "uts".into(), "2".into()];
            assert!(theirs.iter().any(|row| row[..3] == expected), "{theirs:#?}");
            let uts = rows(&stdout(example("lsns").args(["-t", "uts"])));
            assert_eq!(uts, rows(&real(&["--type", "uts"])));
            assert_eq!(uts.len(), 2);
            for process in [&user, &below] {
                let pid = process.0.id().to_string();
                assert_eq!(rows(&stdout(example("lsns").args(["-p", &pid]))), rows(&real(&["--task", &pid])));
            }
            drop(below);
            // Its child is killed with it, and becomes this process's.
            while faultkit::reap_orphans() == 0 {
                std::thread::yield_now();
            }
            assert_eq!(example("lsns").args(["-t", "nut"]).output().expect("start").status.code(), Some(2));
        });
    }

    #[test]
    fn what_a_process_calls_itself_moves_no_cursor() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let mut command = ns_core::Command::new("/bin/sleep").arg("1000").arg0("\x1b[2J\rred\n\u{9b}1m");
            command = command.namespaces(ns_core::Namespaces::UTS);
            let mut child = command.spawn().expect("start");
            let table = stdout(example("lsns").args(["-p", &child.pid().to_string(), "-t", "uts"]));
            assert!(table.contains("\\x1b[2J\\x0dred\\x0a\\x9b1m 1000\n"), "{table:?}");
            child.kill().expect("kill");
            child.wait().expect("wait");
        });
    }

    #[test]
    fn what_nobody_is_in_is_shown_with_what_keeps_it() {
        faultkit::require!(root, program("lsns"), program("unshare"), program("findmnt"));
        faultkit::isolated!(|| {
            let pin = Path::new("/run/pin with blank");
            File::create(pin).expect("file");
            let path = pin.to_str().expect("path");
            let pinning = Command::new("unshare").args([&format!("--uts={path}"), "true"]).status().expect("unshare");
            assert!(pinning.success());
            let mounts = stdout(Command::new("findmnt").args(["-n", "-o", "FSROOT", "--mountpoint", path]));
            let pinned = mounts.trim().replace(|c: char| !c.is_ascii_digit(), "");
            let process = Apart::new(&["--net"]);
            let held = process.inode("net");
            let fd = File::open(format!("/proc/{}/ns/net", process.0.id())).expect("open");
            drop(process);
            let table = stdout(example("lsns").arg("-a"));
            let row = |inode: &str| {
                let row = table
                    .lines()
                    .find(|line| line.trim_start().starts_with(inode))
                    .unwrap_or_else(|| panic!("{table}"));
                row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(row(&pinned), format!("uts 0 - - mounted on {path}"));
            let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
            assert_eq!(row(&held), format!("net 0 - - fd {number} of {}", std::process::id()));
            drop(fd);
            assert!(!stdout(example("lsns").arg("-a")).contains(&held));
            assert!(Command::new("umount").arg(pin).status().expect("umount").success());
            assert!(!stdout(example("lsns").arg("-a")).contains(&pinned));
            fs::remove_file(pin).expect("remove");
        });
    }

    #[test]
    fn what_an_ordinary_user_may_not_see_is_counted() {
        faultkit::require!(root, program("lsns"));
        faultkit::isolated!(|| {
            let user = faultkit::ordinary_user();
            let program = user.copy_of(faultkit::built_example("lsns"));
            let mut command = user.command(program);
            let output = command.output().expect("start");
            assert!(output.status.success(), "{output:?}");
            // Of this pid namespace: PID 1, which reaps, the test and the harness; all of root.
            let others = fs::read_dir("/proc")
                .expect("proc")
                .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
            let said = format!("{} processes may not be looked into\n", others.count());
            assert_eq!(String::from_utf8_lossy(&output.stderr), said);
            let theirs = stdout(user.command("lsns").args(["--list", "--output", "NS,TYPE,NPROCS,USER"]));
            let theirs: BTreeSet<_> = rows(&theirs);
            let ours = rows(&String::from_utf8_lossy(&output.stdout));
            let ours = ours.into_iter().map(|row| [0, 1, 2, 4].map(|at| row[at].clone()).to_vec());
            assert_eq!(ours.collect::<BTreeSet<_>>(), theirs);
        });
    }
}
