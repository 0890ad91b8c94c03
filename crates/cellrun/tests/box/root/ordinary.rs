//! Boxes of an ordinary user, with one id and with ranges: whose files and processes they are, what is left, and that the
//! plan is true.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use faultkit::OrdinaryUser;
use nix::sys::signal::Signal;

use super::accounts::Ann;
use super::explain::{assert_strace_saw, steps};
use crate::run::{Running, Said, assert_no_records, children, eventually, host, nothing_is_left, program_for, say};
use crate::status::value;

fn cellrun(user: &OrdinaryUser, args: &[&str]) -> Command {
    let mut command = user.command(program_for(user));
    command.args(args).stdin(Stdio::null());
    command
}

fn boxed(user: &OrdinaryUser, args: &[&str]) -> Said {
    say(&mut cellrun(user, &[&["box"], args].concat()))
}

/// What a shell script prints inside. It has to succeed in silence.
#[track_caller]
fn inside(user: &OrdinaryUser, options: &[&str], script: &str) -> String {
    boxed(user, &[options, &["--", "sh", "-c", script]].concat()).ok()
}

/// A folder of the user's.
fn folder(user: &OrdinaryUser, name: &str) -> String {
    let path = user.home().join(name);
    host(&format!("mkdir {0}; chown {1}:{1} {0}", path.display(), user.uid()));
    path.display().to_string()
}

fn state_is_clean(user: &OrdinaryUser) {
    assert_no_records(&user.runtime_dir().join("cellrun"));
    nothing_is_left();
}

#[test]
fn whose_files_and_processes_they_are() {
    faultkit::require!(root, userns, program("newuidmap"), program("newgidmap"), program("ps"));
    faultkit::isolated!(|| {
        let ann = Ann::with_ranges();
        let user = &ann.user;
        let volume = folder(user, "volume");
        host(&format!(
            "touch {volume}/hers {volume}/roots {volume}/web; chown 12345:12345 {volume}/hers; chown 300032:400032 {volume}/web"
        ));
        let option = format!("{volume}:/vol");
        // Root inside is Ann; 33 is the 33rd of her range; what is neither's is nobody's, and stays as it is.
        let script = "cd /vol; stat -c '%n %u:%g' *; touch made; install -o 33 -g 44 /dev/null web2; chown 0:0 web; \
                      chown 0 roots 2>/dev/null || echo refused; (echo x >roots) 2>/dev/null || echo refused";
        let said = inside(user, &["-v", &option], script);
        assert_eq!(said, "hers 0:0\nroots 65534:65534\nweb 33:33\nrefused\nrefused\n");
        let owner = |name: &str| {
            let meta = fs::metadata(Path::new(&volume).join(name)).expect(name);
            (meta.uid(), meta.gid())
        };
        assert_eq!(
            ["made", "web", "web2", "roots"].map(owner),
            [(12345, 12345), (12345, 12345), (300_032, 400_043), (0, 0)]
        );
        // By name and by number, and with groups of the ranges.
        let said =
            inside(user, &["-v", &option, "--user", "www-data"], "id -u; id -G; touch /tmp/x; stat -c %u:%g /tmp/x");
        assert_eq!(said, "33\n33\n33:33\n");
        let script = "id -u; id -g; awk '/^Groups/ { print NF }' /proc/self/status";
        assert_eq!(inside(user, &["--user", "1000:1000"], script), "1000\n1000\n1\n");
        let said = boxed(user, &["--user", "65537", "--", "true"]);
        assert_eq!(said.status, 125, "an id that there is not: {said:?}");
        said.failure();

        // Processes, as ps and the kernel show them outside.
        for (options, uid) in [(&[][..], 12345), (&["--user", "33:44"], 300_032)] {
            let mut running = Running::start(&mut cellrun(
                user,
                &[&["box"], options, &["--", "sh", "-c", "echo ready; read line || true"]].concat(),
            ));
            running.until("ready");
            let pid = running.payload();
            assert_eq!(host(&format!("ps -o uid= -p {pid}")).trim(), uid.to_string());
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
            assert_eq!(value(&status, "Uid"), vec![uid.to_string(); 4].join("\t"));
            assert_eq!(running.end().status, 0);
        }
        // Without setgroups it could not be: a program that drops its groups.
        assert_eq!(inside(user, &[], "setpriv --reuid 33 --regid 33 --clear-groups id -G"), "33\n");
        state_is_clean(user);
    });
}

#[test]
fn one_id_and_what_is_missing_for_more() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let ann = Ann::without_ranges();
        let user = &ann.user;
        let notes = boxed(user, &["--explain", "--", "true"]).ok();
        let line = "as root, add the line \"ann:100000:65536\" to /etc/subuid and the line \"ann:100000:65536\" to /etc/subgid";
        assert!(
            notes.lines().next().expect("a note").starts_with("note: only root exists in the container: "),
            "{notes}"
        );
        assert!(notes.contains(line), "{notes}");
        // A person at a terminal is told before the shell comes.
        let shell = format!("{} box --net none -t -- true", program_for(user).display());
        let mut script = user.command("script");
        let said = say(script.args(["-qec", &shell, "/dev/null"]).env("SHELL", "/bin/sh").stdin(Stdio::null()));
        assert_eq!(said.status, 0, "{said:?}");
        assert!(said.out.contains("note: only root exists in the container"), "{said:?}");

        let volume = folder(user, "volume");
        let option = format!("{volume}:/vol");
        let script = "touch /vol/made; chown 1 /vol/made 2>/dev/null || echo no such id; stat -c %u:%g /vol/made; cat /proc/self/setgroups";
        assert_eq!(inside(user, &["-v", &option], script), "no such id\n0:0\ndeny\n");
        let meta = fs::metadata(Path::new(&volume).join("made")).expect("made");
        assert_eq!((meta.uid(), meta.gid()), (12345, 12345));
        let said = boxed(user, &["--user", "1000", "--", "true"]);
        assert_eq!(said.status, 125);
        assert!(said.failure().contains("1000") && said.err.contains("  hint: "), "{said:?}");
        let options = ["--read-only", "--tmpfs", "/t:size=1m", "-v", &format!("{volume}:/ro:ro")];
        let script =
            "echo x >/t/x && cat /t/x; for f in /x /ro/x /usr/x; do touch $f 2>/dev/null || echo read-only; done";
        assert_eq!(inside(user, &options, script), "x\nread-only\nread-only\nread-only\n");
        state_is_clean(user);
    });
}

#[test]
fn a_root_of_the_users_under_a_layer() {
    faultkit::require!(root, userns, program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        for ann in [Ann::without_ranges as fn() -> Ann, Ann::with_ranges] {
            let ann = ann();
            let user = &ann.user;
            let rootfs = folder(user, "rootfs");
            host(&format!(
                "cd {rootfs}; mkdir -p usr proc sys dev etc data/dir/below; ln -s usr/bin usr/lib usr/lib64 usr/sbin .
                 echo old >data/file; echo old >data/dir/file; echo old >data/dir/below/file; chown -hR 12345:12345 ."
            ));
            let options = ["--net", "none", "--rootfs", &rootfs, "-v", "/usr:/usr:ro"];
            let before = host(&format!("cd {rootfs}; find . -printf '%p %y %U:%G %m\\n' | sort; cat data/file"));
            // Files and directories of the lower layer are removed, changed, renamed, and seen to be so.
            let script = "cd /data; rm file; ls; echo new >>dir/file; cat dir/file; rm -r dir/below; ls dir; mv dir/file .; ls . dir; ls -A /data | wc -l";
            assert_eq!(inside(user, &options, script), "dir\nold\nnew\nfile\n.:\ndir\nfile\n\ndir:\n2\n");
            // An opaque directory: removed, made again, empty. Its mark needs attributes of users on tmpfs.
            if kernel_is(6, 6) {
                let script = "cd /data; rm -r dir; mkdir dir; ls -A dir; touch dir/new; ls dir";
                assert_eq!(inside(user, &options, script), "new\n");
            }
            let after = host(&format!("cd {rootfs}; find . -printf '%p %y %U:%G %m\\n' | sort; cat data/file"));
            assert_eq!(after, before, "nothing is written to the directory");
            // Written into, by who owns it.
            let writable = [&options[..], &["--writable"]].concat();
            assert_eq!(
                inside(user, &writable, "rm /data/dir/file; echo new >/data/made; stat -c %u /data/made"),
                "0\n"
            );
            assert_eq!(host(&format!("cd {rootfs}/data; stat -c %u made; ls dir")), "12345\nbelow\n");
            state_is_clean(user);
        }
    });
}

fn kernel_is(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}

#[test]
fn many_in_a_row_leave_nothing() {
    faultkit::require!(root, userns, program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let ann = Ann::with_ranges();
        let before = host(&format!("find {} | sort", ann.user.home().display()));
        let count = if std::env::var_os("CELLKIT_VM").is_some() { 20 } else { 200 };
        for number in 0..count {
            let said = boxed(&ann.user, &["--net", "none", "--", "sh", "-c", &format!("exit {}", number % 100)]);
            assert_eq!((said.status, said.err.as_str()), (number % 100, ""), "{said:?}");
        }
        let state = ann.user.runtime_dir().join("cellrun");
        let meta = fs::metadata(&state).expect("the folder of records");
        assert_eq!((meta.uid(), meta.permissions().mode() & 0o7777), (12345, 0o700));
        state_is_clean(&ann.user);
        let after = host(&format!("find {} | sort", ann.user.home().display()));
        let new: Vec<&str> =
            after.lines().filter(|line| !before.contains(line) && !line.ends_with("/cellrun")).collect();
        assert_eq!(new, [""; 0]);
        assert_eq!(host("find /run -uid 12345"), "");
    });
}

#[test]
fn killed_at_any_moment() {
    faultkit::require!(root, userns, program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let ann = Ann::with_ranges();
        let mine = i32::try_from(std::process::id()).expect("a pid");
        for round in 0..12 {
            let name = format!("victim{round}");
            let running = Running::start(&mut cellrun(
                &ann.user,
                &["box", "--net", "none", "--name", &name, "--", "sleep", "4242"],
            ));
            std::thread::sleep(Duration::from_millis(10) * round);
            running.signal(Signal::SIGKILL);
            assert_eq!(running.end().status, -9);
            eventually("nothing lives on", || {
                faultkit::reap_orphans();
                children(mine).is_empty()
            });
            let said = say(&mut cellrun(&ann.user, &["recover"]));
            assert!(said.out.is_empty() || said.out == format!("{name}\n"), "{said:?}");
            said.ok();
            assert_eq!(say(&mut cellrun(&ann.user, &["recover"])).ok(), "", "round {round}: nothing more");
        }
        state_is_clean(&ann.user);
    });
}

#[test]
fn the_plan_is_what_is_done() {
    faultkit::require!(root, userns, program("strace"), program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        for ann in [Ann::without_ranges as fn() -> Ann, Ann::with_ranges] {
            let ann = ann();
            let user = &ann.user;
            let run = |mode: &str| boxed(user, &[mode, "--net", "none", "--name", "same", "--", "true"]);
            let explained = run("--explain").ok();
            let traced = run("--trace");
            assert_eq!(steps(&explained), steps(&traced.err));
            // As root and with -u: what is traced by somebody without privilege gains none, and newuidmap needs it.
            let log = user.home().join("log");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-s", "200", "-u", "ann", "-o"]).arg(&log).arg(program_for(user));
            strace.args(["box", "--net", "none", "--name", "same", "--", "true"]).stdin(Stdio::null());
            let said = say(strace.env("XDG_RUNTIME_DIR", user.runtime_dir()).current_dir(user.home()));
            assert_eq!((said.status, said.err.as_str()), (0, ""), "{said:?}");
            let log = fs::read_to_string(&log).expect("the log");
            assert_strace_saw(&steps(&explained), &log, "ordinary");
            // The parent's part: the maps, by whom the plan says.
            let calls = |text: &str| log.lines().filter(|line| line.contains(text)).count();
            let helpers = calls("execve(\"/usr/bin/newuidmap\"") + calls("execve(\"/usr/bin/newgidmap\"");
            let planned = steps(&explained)
                .iter()
                .filter(|step| step.starts_with("newuidmap(") || step.starts_with("newgidmap("))
                .count();
            // A program that knows no descriptors is asked twice.
            assert!(helpers >= planned && helpers <= 3 && (helpers == 0) == (planned == 0), "{helpers} for {planned}");
            fs::remove_file(user.home().join("log")).expect("remove");
            state_is_clean(user);
        }
    });
}
