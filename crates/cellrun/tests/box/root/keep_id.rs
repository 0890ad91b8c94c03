//! `--userns keep-id` and `--userns single`, as an ordinary user with ranges and without.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use faultkit::{OrdinaryUser, TempDir};

use crate::run::{Said, host, nothing_is_left, program_for, say};

fn boxed(user: &OrdinaryUser, args: &[&str]) -> Said {
    say(user.command(program_for(user)).arg("box").args(args).stdin(Stdio::null()))
}

/// Files of /etc with the user in them, in this test's own mount namespace.
struct Etc(TempDir);

const NAMES: [&str; 4] = ["passwd", "group", "subuid", "subgid"];

impl Etc {
    fn new(user: &OrdinaryUser, rows: &str) -> Self {
        let etc = TempDir::new();
        let passwd = format!("root:x:0:0::/root:/bin/sh\ncellkit:x:12345:12345::{}:/bin/sh\n", user.home().display());
        for (name, content) in NAMES.into_iter().zip([&passwd, "root:x:0:\ncellkit:x:12345:\n", rows, rows]) {
            fs::write(etc.join(name), content).expect("write");
            host(&format!("mount --bind {}/{name} /etc/{name}", etc.display()));
        }
        Self(etc)
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        NAMES.iter().for_each(|name| drop(host(&format!("umount /etc/{name}"))));
        let _ = &self.0;
    }
}

const LOOK: &str = "id -u; id -g; tr -s ' ' < /proc/self/uid_map; touch /vol/made; stat -c %u:%g /vol/mine /vol/made";

#[test]
fn the_user_keeps_its_id_and_files_their_owner() {
    faultkit::require!(root, userns, program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let _etc = Etc::new(&user, "cellkit:300000:65536\n");
        let home = user.home().display();
        host(&format!("mkdir -m 777 {home}/volume; touch {home}/volume/mine; chown -R 12345:12345 {home}/volume"));
        let volume = format!("{home}/volume:/vol");
        let look = |userns: &str| {
            let said = boxed(&user, &["--userns", userns, "-v", &volume, "--", "sh", "-c", LOOK]).ok();
            let made = fs::metadata(user.home().join("volume/made")).expect("made");
            fs::remove_file(user.home().join("volume/made")).expect("remove");
            (said, made.uid(), made.gid())
        };
        let map = " 0 300000 12345\n 12345 12345 1\n 12346 312345 53191\n";
        let said = format!("12345\n12345\n{map}12345:12345\n12345:12345\n");
        assert_eq!(look("keep-id"), (said, 12345, 12345));
        let map = " 0 300000 7\n 7 12345 1\n 8 300007 65529\n";
        assert_eq!(look("keep-id:7:8"), (format!("7\n8\n{map}7:8\n7:8\n"), 12345, 12345));
        assert_eq!(look("single"), ("0\n0\n 0 12345 1\n0:0\n0:0\n".into(), 12345, 12345));
        // Somebody else is somebody else outside too.
        let options = ["--userns", "keep-id", "--user", "0:0", "-v", &volume, "--", "sh", "-c", "touch /vol/made"];
        boxed(&user, &options).ok();
        let made = fs::metadata(user.home().join("volume/made")).expect("made");
        assert_eq!((made.uid(), made.gid()), (300_000, 300_000));
        nothing_is_left();
    });
}

#[test]
fn without_ranges_it_is_refused_with_the_line_to_add() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let _etc = Etc::new(&user, "");
        let said = boxed(&user, &["--userns", "keep-id", "--", "true"]);
        assert_eq!(said.status, 125, "{said:?}");
        for part in ["--userns", "id 0 inside", "\"cellkit:100000:65536\" to /etc/subuid"] {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
        // One of the numbers that are kept may be root's.
        assert_eq!(boxed(&user, &["--userns", "keep-id:0:0", "--", "id", "-u"]).out, "0\n");
        nothing_is_left();
    });
}
