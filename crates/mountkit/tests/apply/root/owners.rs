//! Owners, modes, capabilities, devices.

use mountkit::ErrorKind;
use mountkit::layers::{Apply, Devices, Owner, Whiteouts};

use crate::tar::{Member, archive, chardev, dir, file, symlink};
use crate::{Ground, run};

/// `stat` of what a layer brought.
fn stat(ground: &Ground, path: &str) -> String {
    run("stat", &["-c", "%u:%g %04a %F %t:%T", path], &ground.layer()).trim().to_owned()
}

fn shifted() -> Apply {
    let extents = vec![(0, 100_000, 1000), (65_534, 101_000, 1)];
    Apply::new().owner(Owner::Shifted { uids: extents.clone(), gids: extents })
}

/// cap_net_raw=ep, of Linux 2.6.24.
pub(super) const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn members() -> Vec<Member> {
    vec![
        dir("./").mode(0o751).owner(3, 4),
        dir("d").mode(0o2775).owner(5, 6),
        file("d/inherits", "").owner(0, 0),
        file("suid", "x").mode(0o6755).owner(1, 2),
        symlink("link", "suid").owner(7, 8),
        file("ping", "x").mode(0o755).owner(9, 9).xattr("security.capability", CAPABILITY),
        file("implicit/f", "").owner(65_534, 65_534),
    ]
}

#[test]
fn as_in_the_archive() {
    faultkit::require!(root, program("getfattr"));
    let ground = Ground::new();
    ground.apply(&Apply::new(), &archive(members())).expect("applied");
    for (path, wanted) in [
        (".", "3:4 0751 directory 0:0"),
        ("d", "5:6 2775 directory 0:0"),
        // The kernel gave it the directory's group.
        ("d/inherits", "0:0 0644 regular empty file 0:0"),
        ("suid", "1:2 6755 regular file 0:0"),
        ("link", "7:8 0777 symbolic link 0:0"),
        ("ping", "9:9 0755 regular file 0:0"),
        ("implicit", "0:0 0755 directory 0:0"),
        ("implicit/f", "65534:65534 0644 regular empty file 0:0"),
    ] {
        assert_eq!(stat(&ground, path), wanted, "{path}");
    }
    let attributes = run("getfattr", &["-d", "-m", "-", "-e", "hex", "ping"], &ground.layer());
    let hex: String = CAPABILITY.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(attributes.contains(&format!("security.capability=0x{hex}")), "{attributes}");
}

#[test]
fn shifted_by_a_map() {
    faultkit::require!(root, program("getfattr"));
    let ground = Ground::new();
    ground.apply(&shifted(), &archive(members())).expect("applied");
    for (path, wanted) in [
        (".", "100003:100004 0751 directory 0:0"),
        ("suid", "100001:100002 6755 regular file 0:0"),
        ("link", "100007:100008 0777 symbolic link 0:0"),
        ("implicit", "100000:100000 0755 directory 0:0"),
        ("implicit/f", "101000:101000 0644 regular empty file 0:0"),
    ] {
        assert_eq!(stat(&ground, path), wanted, "{path}");
    }
    // Of version 3, and for the root 100000 (0x186a0).
    let attributes = run("getfattr", &["-n", "security.capability", "-e", "hex", "ping"], &ground.layer());
    assert!(attributes.contains("=0x01000003") && attributes.contains("a0860100"), "{attributes}");
    let error = Ground::new().apply(&shifted(), &archive([file("f", "").owner(1000, 0)])).expect_err("not mapped");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("1000") && error.to_string().contains("\"f\""), "{error:#}");
}

#[test]
fn ids_that_are_none() {
    faultkit::require!(root);
    for id in [u64::from(u32::MAX), 1 << 33] {
        let error = Ground::new().apply(&Apply::new(), &archive([file("f", "").owner(id, 0)])).expect_err("no id");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
    }
}

#[test]
fn devices_that_are_asked_for() {
    faultkit::require!(root);
    let ground = Ground::new();
    let block = Member::new(b'4', "disk").device(259, 300).mode(0o660).owner(0, 6);
    let layer = archive([chardev("null", 1, 3).mode(0o666), block, chardev("zero-zero", 0, 0)]);
    let applied = ground.apply(&Apply::new().devices(Devices::Create), &layer).expect("applied");
    assert_eq!(stat(&ground, "null"), "0:0 0666 character special file 1:3");
    assert_eq!(stat(&ground, "disk"), "0:6 0660 block special file 103:12c");
    assert!(!ground.layer().join("zero-zero").exists());
    assert_eq!(applied.skipped_count, 1);
}

#[test]
fn a_directory_of_a_lower_layer_gets_all_that_its_entry_says() {
    // Attributes of users on tmpfs came with 6.6.
    faultkit::require!(root, kernel(6.6), program("getfattr"));
    let ground = Ground::new();
    let flattened = Apply::new().whiteouts(Whiteouts::Flattened);
    let lower =
        archive([dir("d").mode(0o2755).owner(1, 1).xattr("user.old", "x").xattr("user.both", "x"), file("d/f", "")]);
    let upper = archive([
        dir("d").mode(0o700).owner(2, 2).xattr("user.both", "y").mtime(3),
        file("f", "").xattr("user.a", "b"),
    ]);
    for layer in [lower, upper] {
        ground.apply(&flattened, &layer).expect("applied");
    }
    assert_eq!(stat(&ground, "d"), "2:2 0700 directory 0:0");
    let of_users = |name: &str| {
        let attributes = run("getfattr", &["-d", name], &ground.layer());
        attributes.lines().filter(|line| line.starts_with("user.")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of_users("d"), ["user.both=\"y\""]);
    assert_eq!(of_users("f"), ["user.a=\"b\""]);
    assert_eq!(run("stat", &["-c", "%Y", "d"], &ground.layer()), "3\n");
}

#[test]
fn a_file_system_without_attributes() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let place = faultkit::TempDir::new();
        // It has none at all, as tmpfs had none of users before 6.6.
        run("mount", &["-t", "ramfs", "ramfs", "."], &place);
        let root = mountkit::RootFd::open(&place).expect("open");
        let apply = Apply::new().whiteouts(Whiteouts::Flattened);
        apply.apply(&archive([file("f", "")])[..], &root).expect("nothing needs one");
        for member in [file("f", "").xattr("user.a", "b"), dir("d").xattr("user.a", "b")] {
            let error = apply.apply(&archive([member])[..], &root).expect_err("none");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Unsupported, "setxattrat"), "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("6.6")), "{error:#}");
        }
        drop(root);
        run("umount", &[place.to_str().expect("UTF-8")], &std::env::temp_dir());
    });
}
