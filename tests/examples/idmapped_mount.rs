use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn files_of_root_are_seen_as_of_100000() {
        // Where the folder for temporary files is a tmpfs, that can be idmapped since 6.3.
        faultkit::require!(root, kernel(6.3));
        faultkit::isolated!(|| {
            let dir = faultkit::TempDir::new();
            fs::set_permissions(&*dir, fs::Permissions::from_mode(0o777)).expect("chmod");
            for (name, uid) in [("a", 0), ("b", 1000), ("c", 70_000)] {
                fs::write(dir.join(name), "").expect("write");
                chown(dir.join(name), Some(uid), Some(uid + 1)).expect("chown");
            }
            let said = stdout(example("idmapped_mount").arg(&*dir));
            let lines = |from: &str| {
                let part = said.split(from).nth(1).unwrap_or_else(|| panic!("{from:?} in {said}"));
                let lines = part.lines().skip(1).take_while(|line| line.starts_with("  "));
                let lines =
                    lines.map(|line| line.split_whitespace().take(2).map(|id| id.parse().expect("an id")).collect());
                lines.collect::<Vec<Vec<u32>>>()
            };
            assert_eq!(lines("on the disk:"), [[0, 1], [1000, 1001], [70_000, 70_001]]);
            let seen = [[100_000, 100_001], [101_000, 101_001], [65_534, 65_534]];
            assert_eq!(lines("through the mount:"), seen);
            // With stat(1)'s eyes, in the namespace.
            let looked: Vec<&str> = said
                .split("container root looks")
                .nth(1)
                .expect("a look")
                .lines()
                .nth(1)
                .expect("a line")
                .split_whitespace()
                .collect();
            assert_eq!(looked, ["0", "0", "."], "{said}");
            assert!(said.starts_with("user:[") && said.contains("owned by uid 0"), "{said}");
            let last = said.rsplit("through the mount:").next().unwrap_or_default();
            assert!(last.contains("100000 100000") && last.contains("made-by-container-root"), "{said}");
            // The disk, with the standard library's eyes.
            let made = fs::metadata(dir.join("made-by-container-root")).expect("stat");
            assert_eq!((made.uid(), made.gid()), (0, 0));
        });
    }

    #[test]
    fn usage() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            assert_eq!(example("idmapped_mount").status().expect("start").code(), Some(2));
            let output = example("idmapped_mount").arg("/no/such/folder").output().expect("start");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains("ENOENT") && said.contains("/no/such"), "{said}");
        });
    }
}
