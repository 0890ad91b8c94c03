use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use faultkit::TempDir;

use super::{example, stdout};

/// A disk to try things on: a loop device over a file of its own.
struct LoopDisk {
    path: String,
    _file: TempDir,
}

impl LoopDisk {
    fn new(mib: u64) -> Self {
        let dir = TempDir::new();
        let file = dir.path().join("disk");
        File::create(&file).and_then(|file| file.set_len(mib << 20)).expect("file");
        let path = stdout(Command::new("losetup").args(["--find", "--show"]).arg(&file)).trim().to_owned();
        Self { path, _file: dir }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let status = Command::new("losetup").args(["--detach", &self.path]).status();
        assert!(status.expect("losetup").success() || std::thread::panicking());
    }
}

mod root {
    use super::*;

    #[test]
    fn reading_takes_longer_with_the_limit_in_the_kernels_file() {
        faultkit::require!(root, cgroup2("io"), program("losetup"));
        faultkit::isolated!(|| {
            let disk = LoopDisk::new(8);
            let name = Path::new(&disk.path).file_name().expect("name").to_str().expect("text");
            let numbers = fs::read_to_string(format!("/sys/block/{name}/dev")).expect("dev");
            let limited = format!("{} rbps=1048576 wbps=max riops=max wiops=max", numbers.trim());

            let child = example("limit_io").args([&disk.path, "1m"]).stdout(std::process::Stdio::piped()).spawn();
            let mut child = child.expect("start");
            let group = format!("/sys/fs/cgroup/limit_io-{}", child.id());
            let mut seen = false;
            while child.try_wait().expect("wait").is_none() {
                let read = |file: &str| fs::read_to_string(format!("{group}/{file}")).unwrap_or_default();
                // The second measurement: the limit is there, and dd in the group.
                seen |= read("io.max").trim() == limited && !read("cgroup.procs").is_empty();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let said = child.wait_with_output().expect("wait");
            assert!(said.status.success() && seen, "{said:?}");
            assert!(!Path::new(&group).exists());

            let text = String::from_utf8(said.stdout).expect("text");
            let words: Vec<&str> = text.split_whitespace().collect();
            let seconds = |index: usize| words[index].parse::<f64>().expect("seconds");
            let (free, slow) = (seconds(0), seconds(5));
            // 2 MiB at 1 MiB a second, and twice 2 MiB in all.
            assert!(slow > free && slow > 1.0, "{text}");
            let bytes = text.lines().nth(1).and_then(|line| line.split(' ').next()).expect("bytes");
            assert_eq!(bytes, "4194304", "{text}");
        });
    }

    #[test]
    fn what_is_no_disk_is_refused_in_words() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let said = example("limit_io").args(["/dev/null", "1m"]).output().expect("start");
            assert_eq!(said.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&said.stderr).contains("this is not a block device"), "{said:?}");
            assert_eq!(example("limit_io").arg("/dev/null").status().expect("start").code(), Some(2));
        });
    }
}
