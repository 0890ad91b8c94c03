use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{example, stdout};

/// A process in a user namespace of its own, which only waits.
struct Sleeping(Child);

impl Sleeping {
    /// Of a command that ends in `unshare --user sleep`.
    fn new(words: &[&str]) -> Self {
        let child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).spawn().expect(words[0]);
        let this = Self(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while fs::read_to_string(format!("/proc/{}/comm", this.pid())).expect("comm") != "sleep\n" {
            assert!(Instant::now() < deadline, "{words:?} does not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        this
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

mod root {
    use super::*;

    /// What stat says to a process there.
    fn stat(there: &Sleeping, path: &str) -> String {
        stdout(Command::new("nsenter").args(["--user", "--target", &there.pid(), "stat", "-c", "%u:%g", path]))
            .trim()
            .to_owned()
    }

    #[test]
    fn two_nested_namespaces_as_stat_has_them() {
        faultkit::require!(root, program("unshare"), program("nsenter"), program("stat"));
        faultkit::isolated!(|| {
            let outer = Sleeping::new(&["unshare", "--user", "sleep", "1000"]);
            for file in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{}/{file}", outer.pid()), "0 100000 1000\n1000 300000 1000\n").expect(file);
            }
            let enter = ["nsenter", "--user", "--target", &outer.pid()];
            let inner = Sleeping::new(&[&enter[..], &["unshare", "--user", "sleep", "1000"]].concat());
            for file in ["uid_map", "gid_map"] {
                // Seven extents, so that the kernel searches; the last in the second of the outer map.
                let lines = r"0 10 1\n1 20 1\n2 30 1\n3 40 1\n4 50 1\n5 60 1\n6 1000 100\n";
                let script = format!("printf '{lines}' > /proc/{}/{file}", inner.pid());
                stdout(Command::new(enter[0]).args(&enter[1..]).args(["sh", "-c", &script]));
            }
            let levels = |said: &str| -> Vec<String> {
                said.lines().map(|line| line.split_once(' ').expect("a namespace and an owner").1.to_owned()).collect()
            };
            let link = |pid: &str| {
                fs::read_link(format!("/proc/{pid}/ns/user")).expect("link").to_str().expect("text").to_owned()
            };

            let dir = faultkit::TempDir::new();
            let file = dir.join("file");
            fs::write(&file, "").expect("write");
            let path = file.to_str().expect("text");
            for (uid, gid) in [
                (100_010, 100_060),
                (300_000, 300_099),
                (100_011, 100_020),
                (0, 300_500),
                (99_999, 300_100),
                (300_007, 0),
            ] {
                chown(&file, Some(uid), Some(gid)).expect("chown");
                let said = stdout(example("who_owns_this").args([&inner.pid(), path]));
                let expected = [stat(&inner, path), stat(&outer, path), format!("{uid}:{gid}")];
                assert_eq!(said.replace("nobody", "65534").lines().count(), 3, "{said}");
                assert_eq!(levels(&said.replace("nobody", "65534")), expected, "{said}");
                let namespaces: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
                assert_eq!(namespaces, [link(&inner.pid()), link(&outer.pid()), link("self")]);
                // The other way: from the id inside.
                if !levels(&said)[0].contains("nobody") {
                    assert_eq!(stdout(example("who_owns_this").args([&inner.pid(), &levels(&said)[0]])), said);
                }
                assert_eq!(
                    levels(&stdout(example("who_owns_this").args([&outer.pid(), path])).replace("nobody", "65534")),
                    expected[1..]
                );
            }
            assert_eq!(
                levels(&stdout(example("who_owns_this").args([&inner.pid(), "6"]))),
                ["6:6", "1000:1000", "300000:300000"]
            );
            let me = std::process::id().to_string();
            let metadata = fs::metadata(path).expect("stat");
            assert_eq!(
                levels(&stdout(example("who_owns_this").args([&me, path]))),
                [format!("{}:{}", metadata.uid(), metadata.gid())]
            );

            let refused = |args: &[&str]| {
                let output = example("who_owns_this").args(args).output().expect("start");
                assert!(!output.status.success(), "{args:?}");
                String::from_utf8_lossy(&output.stderr).into_owned()
            };
            assert!(refused(&[&inner.pid(), "7000"]).contains("no such id"));
            assert!(refused(&[&inner.pid(), "root"]).contains("UID:GID"));
            assert!(refused(&[&inner.pid(), "/no/such/file"]).contains("ENOENT"));
            assert!(refused(&["4000000", "0"]).contains("4000000"));
            assert!(refused(&["0:0"]).contains("usage"));
            // From within the outer namespace, a process of the machine is not below.
            let within = Command::new("nsenter")
                .args(["--user", "--target", &outer.pid()])
                .arg(faultkit::built_example("who_owns_this"))
                .args([&me, "0"])
                .output();
            let said = String::from_utf8_lossy(&within.expect("nsenter").stderr).into_owned();
            assert!(
                said.contains("EACCES") || said.contains("EPERM") || said.contains("not in this user namespace"),
                "{said}"
            );
        });
    }
}
