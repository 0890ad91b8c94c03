use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::{example, stdout};

/// A container made by unshare(1), whose first process runs `script` and is known when it has said `ready`.
struct Container {
    unshare: Child,
    pid: String,
    lines: Receiver<String>,
}

impl Container {
    fn new(options: &[&str], script: &str) -> Self {
        let mut unshare = Command::new("unshare")
            .args(["--pid", "--mount", "--mount-proc", "--uts", "--ipc", "--net", "--cgroup", "--fork", "--kill-child"])
            .args(options)
            .args(["sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut reader = BufReader::new(unshare.stdout.take().expect("stdout"));
        let mut line = String::new();
        reader.read_line(&mut line).expect("read");
        assert_eq!(line, "ready\n");
        let (sender, lines) = channel();
        std::thread::spawn(move || reader.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let pid = std::fs::read_to_string(children).expect("children").trim().to_owned();
        Self { unshare, pid, lines }
    }

    /// Ends it; what is an orphan then is this process's.
    fn end(mut self) {
        self.unshare.kill().expect("kill");
        self.unshare.wait().expect("wait");
        while std::path::Path::new("/proc").join(&self.pid).exists() {
            faultkit::reap_orphans();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

mod root {
    use super::*;

    /// `ld.so docker_exec …` runs the loader: executed again, sealed, it would run the first argument.
    #[test]
    fn a_loader_is_not_sealed_in_the_programs_place() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
            let loader =
                maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/ld-"));
            let loader = loader.expect("the loader of a program that is linked dynamically");
            let output = std::process::Command::new(loader)
                .arg(faultkit::built_example("docker_exec"))
                .args(["/bin/echo", "run"])
                .output()
                .expect("start");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
            assert!(said.contains("a loader or an emulator"), "{said}");
        });
    }

    #[test]
    fn inside_as_nsenter_is() {
        faultkit::require!(root, program("nsenter"), program("unshare"));
        faultkit::isolated!(|| {
            let look = "hostname; pwd; id -u; id -g; for kind in cgroup ipc mnt net pid time user uts; do \
                        readlink /proc/self/ns/$kind; done; grep -E '^(NSpid|Cap(Prm|Eff|Bnd))' /proc/self/status | \
                        sed 's/[0-9]*$//; s/\\(NSpid:\\).*/\\1/'; set -- /proc/[0-9]*; echo $#";
            for options in [&[][..], &["--map-root-user"], &["--map-root-user", "--time"]] {
                let container = Container::new(options, "hostname inside; echo ready; exec sleep 1000");
                let real =
                    stdout(Command::new("nsenter").args(["--all", "--target", &container.pid, "sh", "-c", look]));
                let ours = stdout(example("docker_exec").args([&container.pid, "sh", "-c", look]));
                assert_eq!(ours, real, "{options:?}");
                assert!(ours.starts_with("inside\n/\n0\n0\n"), "{ours}");
                // Its number there, as the container counts.
                let number =
                    stdout(example("docker_exec").args([&container.pid, "sh", "-c", "echo $$; cat /proc/1/comm"]));
                let (number, first) = number.split_once('\n').expect("two lines");
                assert!(number.parse::<u32>().is_ok_and(|number| number > 1), "{number}");
                assert_eq!(first, "sleep\n");
                let ended = example("docker_exec").args([&container.pid, "sh", "-c", "exit 7"]).status();
                assert_eq!(ended.expect("start").code(), Some(7));
                container.end();
            }
            assert_eq!(example("docker_exec").arg("1").output().expect("start").status.code(), Some(2));
            assert_eq!(example("docker_exec").args(["999999", "true"]).output().expect("start").status.code(), Some(1));
        });
    }

    #[test]
    fn what_joins_a_container_cannot_be_overwritten_from_inside() {
        faultkit::require!(root, program("unshare"));
        faultkit::isolated!(limit_secs = 120, || {
            // A copy of its own: where others run the program too, it could not be written anyway.
            let dir = faultkit::TempDir::new();
            let copy = dir.path().join("docker_exec");
            std::fs::copy(faultkit::built_example("docker_exec"), &copy).expect("copy");
            std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("chmod");
            let inode = std::fs::metadata(&copy).expect("stat").ino();
            let before = std::fs::read(&copy).expect("read");
            let entry = dir.path().join("entry");
            std::fs::write(&entry, "#!/proc/self/exe\n").expect("write");
            std::fs::set_permissions(&entry, PermissionsExt::from_mode(0o755)).expect("chmod");
            // The machine's root, waiting for the program to be run inside: it keeps it open and writes once it has ended.
            let script = format!(
                "echo ready; while :; do for process in /proc/[0-9]*; do
                     (exec 3<$process/exe && [ \"$(stat -L -c %i /proc/self/fd/3)\" = {inode} ] && echo seen && tries=0 &&
                      while [ $tries -lt 30 ]; do
                          (exec 4<>/proc/self/fd/3) && echo written && break
                          tries=$((tries + 1))
                      done) 2>/dev/null
                 done; done"
            );
            let container = Container::new(&[], &script);
            let mut seen = 0;
            for _ in 0..200 {
                let run = |args: &[&str]| Command::new(&copy).arg(&container.pid).args(args).output().expect("start");
                assert!(run(&["true"]).status.success());
                // The image says that its entry is run by the program itself.
                let inside = run(&[entry.to_str().expect("path")]);
                assert_eq!(inside.status.code(), Some(2));
                assert!(String::from_utf8_lossy(&inside.stderr).contains("usage"), "the program itself, inside");
                // While nobody runs it.
                std::thread::sleep(Duration::from_millis(20));
                for line in container.lines.try_iter() {
                    assert_eq!(line, "seen", "the program on the host was opened for writing");
                    seen += 1;
                }
                if seen >= 10 {
                    break;
                }
            }
            assert!(seen > 0, "nobody inside ever saw it");
            container.end();
            assert_eq!(std::fs::read(&copy).expect("read"), before);
        });
    }
}
