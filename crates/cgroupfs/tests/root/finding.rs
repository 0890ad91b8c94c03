#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use cgroupfs::{Cgroup, Controller, ErrorKind, Hierarchy, Layout, Reason};

use super::{cat, group, place};

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn agrees_with_findmnt_and_proc() {
    faultkit::require!(root, cgroup2, program("findmnt"));
    faultkit::isolated!(|| {
        let output = Command::new("findmnt").args(["-n", "-t", "cgroup2", "-o", "TARGET"]).output().expect("findmnt");
        let targets = String::from_utf8(output.stdout).expect("text");
        let hierarchy = Hierarchy::detect().expect("hierarchy");
        let mount_point = hierarchy.mount_point().to_str().expect("text");
        assert!(
            targets.lines().any(|line| line.trim_start_matches(['├', '└', '─', '│', ' ']) == mount_point),
            "{targets}"
        );

        let own = fs::read_to_string("/proc/self/cgroup").expect("cgroup");
        let path = own.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2");
        let group = hierarchy.own_group().expect("own group");
        assert_eq!(group.path_in_hierarchy(), Path::new(path));
        assert!(cat(group.path(), "cgroup.procs").lines().any(|line| line == std::process::id().to_string()));
        assert!(group.procs().expect("procs").contains(&(std::process::id() as i32)));

        let v1 = own.lines().any(|line| !line.starts_with("0::") && !line.contains(":name="));
        assert_eq!(hierarchy.layout(), if v1 { Layout::Hybrid } else { Layout::Unified });
    });
}

#[test]
fn finds_it_wherever_it_is_mounted() {
    faultkit::require!(root, cgroup2, program("mount"));
    faultkit::isolated!(|| {
        let usual = place().hierarchy().mount_point().to_owned();
        // The usual one is covered, and the only other one has a name that the kernel escapes.
        let odd = Path::new("/run/odd place\twith\\backslash");
        fs::create_dir(odd).expect("mkdir");
        let odd_text = odd.to_str().expect("text");
        run("mount", &["-t", "cgroup2", "none", odd_text]);
        let cover = usual.to_str().expect("text");
        run("mount", &["-t", "tmpfs", "none", cover]);
        let found = Hierarchy::detect().map(|hierarchy| hierarchy.mount_point().to_owned());
        let own = Hierarchy::detect().and_then(|hierarchy| hierarchy.own_group()).map(|group| group.path().to_owned());
        run("umount", &[odd_text]);
        let nothing = Hierarchy::detect().map(|hierarchy| hierarchy.mount_point().to_owned());
        run("umount", &[cover]);
        fs::remove_dir(odd).expect("rmdir");
        assert_eq!(found.expect("found"), odd);
        assert_eq!(own.expect("own"), odd.join("test"));
        // Nothing of cgroup2 can be reached then: the cover is refused, not taken for it.
        assert_eq!(nothing.expect_err("nothing").kind(), ErrorKind::Invalid);
    });
}

#[test]
fn what_is_put_over_proc_does_not_mislead() {
    faultkit::require!(root, cgroup2, program("mount"));
    faultkit::isolated!(|| {
        let find = || -> cgroupfs::Result<_> {
            let hierarchy = Hierarchy::detect()?;
            Ok((hierarchy.mount_point().to_owned(), hierarchy.own_group()?.path().to_owned()))
        };
        let truth = find().expect("hierarchy");
        fs::write("/run/lie", "0::/\n").expect("lie");
        let thread = fs::canonicalize("/proc/thread-self").expect("thread").join("cgroup");
        let thread = thread.to_str().expect("text");
        run("mount", &["--bind", "/run/lie", thread]);
        assert_eq!(fs::read_to_string("/proc/thread-self/cgroup").expect("lie"), "0::/\n");
        let covered = find();
        run("umount", &[thread]);
        // All of it, by files of the right names.
        run("mount", &["-t", "tmpfs", "none", "/proc"]);
        fs::create_dir("/proc/thread-self").expect("mkdir");
        fs::write("/proc/thread-self/cgroup", "0::/\n").expect("lie");
        fs::write("/proc/thread-self/mountinfo", "").expect("lie");
        let hidden = find();
        run("umount", &["/proc"]);
        fs::remove_file("/run/lie").expect("unlink");
        assert_eq!(covered.expect("covered"), truth);
        assert_eq!(hidden.expect("hidden"), truth);
    });
}

#[test]
fn a_pretender_is_refused() {
    faultkit::require!(root, cgroup2, program("mount"));
    faultkit::isolated!(|| {
        let fake = PathBuf::from("/run/fake");
        fs::create_dir(&fake).expect("mkdir");
        for (file, content) in [
            ("cgroup.controllers", "cpu memory pids\n"),
            ("cgroup.subtree_control", "cpu memory pids\n"),
            ("cgroup.procs", ""),
            ("cgroup.events", "populated 0\nfrozen 0\n"),
        ] {
            fs::write(fake.join(file), content).expect("write");
        }
        let error = Hierarchy::at(File::open(&fake).expect("open")).expect_err("a tmpfs");
        assert_eq!(error.to_string(), r#"fstatfs "/run/fake": this is not a cgroup2 file system"#);
        assert_eq!(Cgroup::open(&fake).expect_err("a tmpfs").kind(), ErrorKind::Invalid);

        // And one that is mounted over a group of the real one.
        let place = place();
        let hidden = group(&place, "hidden");
        run("mount", &["--bind", fake.to_str().expect("text"), hidden.path().to_str().expect("text")]);
        let error = place.hierarchy().open("/hidden").expect_err("a mount");
        let handle = hidden.procs();
        run("umount", &[hidden.path().to_str().expect("text")]);
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
        assert!(error.hint().expect("hint").contains("findmnt"));
        // The handle was taken before, and is of the group.
        assert_eq!(handle.expect("procs"), [0; 0]);
        hidden.remove(super::LIMIT).expect("remove");
        fs::remove_dir_all(&fake).expect("rm");
    });
}

#[test]
fn a_link_to_a_group_is_not_followed() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let target = group(&place(), "target");
        target.create_child(&super::name("below")).expect("below");
        let link = PathBuf::from("/run/link");
        std::os::unix::fs::symlink(target.path(), &link).expect("symlink");
        assert!(link.join("cgroup.procs").exists(), "the link leads to a group");
        for path in [link.clone(), link.join("below")] {
            let error = Cgroup::open(&path).expect_err("a link");
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error:#}");
            assert!(error.hint().expect("hint").contains("without links"), "{error:#}");
        }
        fs::remove_file(&link).expect("unlink");
        target.remove(super::LIMIT).expect("remove");
    });
}

#[test]
fn begins_at_a_given_directory() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let detected = Hierarchy::detect().expect("hierarchy");
        let at = Hierarchy::at(&detected).expect("at");
        assert_eq!(at.mount_point(), detected.mount_point());
        assert_eq!(at.own_group().expect("own").path(), detected.own_group().expect("own").path());

        let own = Hierarchy::at(detected.own_group().expect("own")).expect("at");
        assert_eq!(own.own_group().expect("own").path_in_hierarchy(), Path::new("/"));
        let elsewhere = group(&place(), "elsewhere");
        let below = Hierarchy::at(&elsewhere).expect("at");
        assert_eq!(below.own_group().expect_err("not in it").kind(), ErrorKind::NotFound);
        assert_eq!(detected.open("/../..").expect_err("above").kind(), ErrorKind::Invalid);
        assert_eq!(detected.open("elsewhere").expect("relative").path(), elsewhere.path());
        assert_eq!(detected.open("/no/such").expect_err("none").kind(), ErrorKind::NotFound);

        // A record of the path is enough to find it again.
        let again = Cgroup::open(elsewhere.path().join(".")).expect("open");
        assert_eq!(again.path_in_hierarchy(), Path::new("/elsewhere"));
        assert_eq!(again.path(), elsewhere.path());
        elsewhere.remove(super::LIMIT).expect("remove");
    });
}

#[test]
fn says_which_version_1_hierarchy_holds_a_controller() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let own = fs::read_to_string("/proc/self/cgroup").expect("cgroup");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        for controller in Controller::ALL {
            let v1_name = if controller == Controller::Io { "blkio" } else { controller.name() };
            let held = own.lines().any(|line| {
                let mut fields = line.split(':');
                fields.next() != Some("0")
                    && fields.next().is_some_and(|names| names.split(',').any(|name| name == v1_name))
            });
            let offered = cat(place.hierarchy().mount_point(), "cgroup.controllers")
                .split(' ')
                .any(|name| name == controller.name());
            let why_not = place.why_not(controller);
            assert_eq!(why_not.is_none(), offered, "{controller}: {why_not:?}");
            let Some(why_not) = why_not else { continue };
            println!("{why_not}: {}", why_not.what_to_do());
            match why_not.reason() {
                Reason::HeldByV1 { mounts: named } => {
                    assert!(held, "{controller}");
                    for mount in named {
                        let ending = format!(" {} ", mount.display());
                        let line = mounts.lines().find(|line| line.contains(&ending)).expect("a mount");
                        assert!(line.split([',', ' ']).any(|word| word == v1_name), "{line}");
                    }
                    assert!(why_not.what_to_do().contains("cgroup_no_v1="));
                }
                reason => assert!(!held, "{controller}: {reason:?}"),
            }
        }
    });
}
