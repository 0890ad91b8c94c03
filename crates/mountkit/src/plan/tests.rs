#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use proptest::prelude::*;

use crate::{ErrorKind, Rootfs, Sys, Tmpfs, Volume};

fn lines(rootfs: &Rootfs) -> Vec<String> {
    rootfs.steps().expect("steps").describe().iter().map(ToString::to_string).collect()
}

#[test]
fn a_small_plan_in_full() {
    let dir = faultkit::TempDir::new();
    for place in ["share", "proc"] {
        std::fs::create_dir(dir.path().join(place)).expect("mkdir");
    }
    let rootfs = Rootfs::bind(dir.path()).volume(Volume::bind("/etc", "/share").read_only()).proc().read_only();
    let shown: Vec<_> =
        lines(&rootfs).iter().map(|line| line.replace(&*dir.path().to_string_lossy(), "/usr")).collect();
    assert_eq!(
        shown,
        [
            r#"mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, {propagation=MS_PRIVATE})"#,
            r#"fsopen("tmpfs" → fd#1)"#,
            r#"fsconfig(fd#1, FSCONFIG_SET_STRING, "mode", "0755")"#,
            r#"fsconfig(fd#1, FSCONFIG_CMD_CREATE)"#,
            r#"fsmount(fd#1, MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV → fd#2)"#,
            r#"move_mount(fd#2, "", AT_FDCWD, "/")"#,
            r#"fchdir(fd#2)"#,
            r#"open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE|AT_RECURSIVE → fd#3)"#,
            r#"mount_setattr(fd#3, "", AT_RECURSIVE|AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV})"#,
            r#"move_mount(fd#3, "", AT_FDCWD, "/")"#,
            r#"open_tree(AT_FDCWD, "/etc", OPEN_TREE_CLONE|AT_RECURSIVE → fd#4)"#,
            r#"mount_setattr(fd#4, "", AT_RECURSIVE|AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV})"#,
            r#"openat2(fd#3, "share", {O_PATH|O_DIRECTORY, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS} or mkdirat → fd#5)"#,
            r#"move_mount(fd#4, "", fd#5, "")"#,
            r#"fsopen("proc" → fd#6)"#,
            r#"fsconfig(fd#6, FSCONFIG_CMD_CREATE)"#,
            r#"fsmount(fd#6, MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV|MOUNT_ATTR_NOEXEC → fd#7)"#,
            r#"openat2(fd#3, "proc", {O_PATH|O_DIRECTORY, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS|RESOLVE_NO_SYMLINKS} or mkdirat → fd#8)"#,
            r#"move_mount(fd#7, "", fd#8, "")"#,
            r#"move_mount(fd#2, "", AT_FDCWD, "/usr")"#,
            r#"fchdir(fd#3)"#,
            r#"pivot_root(".", ".")"#,
            r#"umount2(".", MNT_DETACH; until statx("/..") is "/")"#,
            r#"chdir("/")"#,
        ]
    );
}

#[test]
fn every_step_says_why_and_about_what() {
    let full = |rootfs: Rootfs| {
        rootfs.proc().sys(Sys::Fresh).cgroup().dev().console().mask_defaults().read_only().tmpfs("/x", Tmpfs::new())
    };
    let dir = faultkit::TempDir::new();
    for place in ["proc", "sys", "dev", "x"] {
        std::fs::create_dir(dir.path().join(place)).expect("mkdir");
    }
    for rootfs in [full(Rootfs::overlay_of_host()), full(Rootfs::overlay("/usr")), full(Rootfs::bind(dir.path()))] {
        for rootfs in [rootfs.clone(), rootfs.unprivileged()] {
            let steps = match rootfs.steps() {
                Ok(steps) => steps,
                // /usr may have mounts below it here.
                Err(error) => panic!("{error:#}"),
            };
            for step in steps.describe() {
                assert!(!step.reason.is_empty() && step.subject.is_some(), "{step}");
                assert!(!step.to_string().contains('\n'), "{step}");
            }
        }
    }
}

#[test]
fn an_overlay_on_a_mount_of_the_callers_has_its_owner() {
    // Any mount will do to be written down: the steps are not made.
    let lower = crate::DetachedMount::from(OwnedFd::from(std::fs::File::open("/").expect("open")));
    let text = lines(&Rootfs::overlay_of(lower).unprivileged());
    let inherited = text.iter().position(|line| line.starts_with("open_tree(made by the caller")).expect("inherited");
    assert!(text[inherited + 1].contains(r#"mkdirat(fd#2, "lower0""#), "{text:#?}");
    assert!(
        text[inherited + 2].starts_with("move_mount(") && text[inherited + 2].ends_with(r#""lower0")"#),
        "{text:#?}"
    );
    assert!(text[inherited + 3].contains(r#""upper0", as statx(fd#2, "lower0") has it"#), "{text:#?}");
    assert!(text.iter().any(|line| line.contains(r#""lowerdir", "lower0""#)), "{text:#?}");
}

#[test]
fn what_a_user_namespace_changes() {
    // A directory that surely has no mounts below it.
    let dir = faultkit::TempDir::new();
    let rootfs = Rootfs::overlay(dir.path()).dev();
    let text = lines(&rootfs).join("\n");
    assert!(text.contains("redirect_dir") && !text.contains("userxattr"), "{text}");
    assert!(text.contains(r#""gid", "5""#), "{text}");
    let text = lines(&rootfs.unprivileged()).join("\n");
    assert!(!text.contains("redirect_dir") && text.contains("userxattr") && !text.contains(r#""gid""#), "{text}");
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        "(/[a-z.]{0,3}){0,4}",
        "/(proc|sys|dev|usr|tmp)(/[a-z]{0,4}){0,2}",
        proptest::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
    ]
}

proptest! {
    #[test]
    fn any_input_makes_a_plan_or_one_line(
        targets in proptest::collection::vec(path(), 0..4),
        masked in proptest::collection::vec(path(), 0..3),
        size: u64,
        mode: u32,
        dir in path(),
        base in 0..3,
    ) {
        let rootfs = match base {
            0 => Rootfs::overlay_of_host(),
            1 => Rootfs::overlay(&dir),
            _ => Rootfs::bind(&dir),
        };
        let rootfs = targets.iter().fold(rootfs.dev().mask(&masked), |rootfs, target| {
            rootfs.tmpfs(target, Tmpfs::new().size(size).mode(mode)).volume(Volume::bind(target, target))
        });
        match rootfs.steps() {
            Ok(steps) => prop_assert!(!steps.is_empty()),
            Err(error) => {
                let line = error.to_string();
                prop_assert!(!line.contains('\n') && line.len() < 9000, "{}", line);
                prop_assert!(error.kind() != ErrorKind::Other || error.raw_os_error().is_some(), "{}", line);
            }
        }
    }
}
