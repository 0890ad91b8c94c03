//! As root of a user namespace that an ordinary user made: whoever runs the test, or one that root becomes.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use faultkit::TempDir;
use mountkit::{
    Bind, BinfmtMisc, Cgroup2, Devpts, ErrorKind, Hugetlbfs, Mount, MountAttr, MountChange, Mqueue, Proc, RootFd,
    Sysfs, Tmpfs,
};

use crate::place::{Place, findmnt};
use crate::user_namespace::{is_here, run_again, run_again_with};

#[test]
fn a_tmpfs_and_terminals() {
    faultkit::require!(userns, program("unshare"), program("findmnt"));
    if !is_here() {
        return faultkit::isolated!(|| run_again("rootless::a_tmpfs_and_terminals"));
    }
    let place = Place::new();
    place.with(Tmpfs::new().size(1 << 20).mode(0o711).mount().expect("tmpfs"), |at| {
        assert_eq!(
            (findmnt("FSTYPE", at), findmnt("VFS-OPTIONS", at)),
            ("tmpfs".into(), "rw,nosuid,nodev,relatime".into())
        );
        assert_eq!(fs::metadata(at).expect("stat").mode() & 0o7777, 0o711);
        fs::write(at.join("file"), "x").expect("write");
    });
    // An id that the namespace does not map cannot be an owner.
    let error = Tmpfs::new().uid(70_000).mount().expect_err("not mapped");
    assert_eq!((error.operation(), error.kind()), ("fsconfig", ErrorKind::Invalid), "{error:#}");
    place.with(Devpts::new().ptmxmode(0o666).mount().expect("devpts"), |at| {
        let ptmx = fs::OpenOptions::new().read(true).write(true).open(at.join("ptmx")).expect("a terminal");
        assert!(at.join("0").exists());
        drop(ptmx);
    });
}

/// Each is of a namespace, which has to belong to the user namespace.
#[test]
fn file_systems_of_namespaces() {
    faultkit::require!(userns, cgroup2, program("unshare"), program("findmnt"));
    if !is_here() {
        return faultkit::isolated!(|| {
            let test = "rootless::file_systems_of_namespaces";
            run_again(test);
            run_again_with(&["--pid", "--fork", "--mount-proc", "--net", "--ipc", "--cgroup"], test);
        });
    }
    let owns_them = std::process::id() == 1;
    let place = Place::new();
    for (kind, made) in [
        ("proc", Proc::new().mount()),
        ("sysfs", Sysfs::new().mount()),
        ("mqueue", Mqueue::new().mount()),
        ("cgroup2", Cgroup2::new().mount()),
    ] {
        match made {
            Ok(mount) => place.with(mount, |at| {
                assert!(owns_them, "{kind}");
                assert_eq!(findmnt("FSTYPE", at), kind);
            }),
            Err(error) => {
                assert!(!owns_them, "{kind}: {error:#}");
                assert_eq!(error.kind(), ErrorKind::Permission, "{kind}: {error:#}");
                assert!(error.hint().is_some(), "{kind}: {error:#}");
            }
        }
    }
}

#[test]
fn formats_of_programs_are_the_namespaces_own() {
    faultkit::require!(userns, program("unshare"), program("findmnt"));
    if !is_here() {
        return faultkit::isolated!(|| run_again("rootless::formats_of_programs_are_the_namespaces_own"));
    }
    let place = Place::new();
    match BinfmtMisc::new().mount() {
        Ok(mount) => place.with(mount, |at| {
            assert_eq!(findmnt("FSTYPE", at), "binfmt_misc");
            // `register` takes a format, which is of this namespace alone.
            let script = std::env::temp_dir().join("x.mountkit-format");
            fs::write(at.join("register"), ":mine:E::mountkit-format::/bin/echo:").expect("register");
            assert!(at.join("mine").exists());
            fs::write(&script, "").expect("write");
            fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
            let output = std::process::Command::new(&script).output().expect("its interpreter is run");
            fs::remove_file(&script).expect("rm");
            assert!(String::from_utf8_lossy(&output.stdout).contains("x.mountkit-format"), "{output:?}");
            assert!(!std::path::Path::new("/proc/sys/fs/binfmt_misc/mine").exists());
            fs::write(at.join("mine"), "-1").expect("remove it");
        }),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            assert!(error.to_string().contains("6.7"), "{error:#}");
        }
        // Built without it.
        Err(error) => assert_eq!((error.operation(), error.kind()), ("fsopen", ErrorKind::NotFound), "{error:#}"),
    }
}

#[test]
fn formats_of_programs_where_they_are_promised() {
    faultkit::require!(userns, kernel(6.7), program("unshare"));
    if !is_here() {
        return faultkit::isolated!(|| run_again("rootless::formats_of_programs_where_they_are_promised"));
    }
    match BinfmtMisc::new().mount() {
        Ok(mount) => drop(mount),
        Err(error) => assert_eq!((error.operation(), error.kind()), ("fsopen", ErrorKind::NotFound), "{error:#}"),
    }
}

#[test]
fn what_is_for_root_alone_is_refused() {
    faultkit::require!(userns, program("unshare"));
    if !is_here() {
        return faultkit::isolated!(|| run_again("rootless::what_is_for_root_alone_is_refused"));
    }
    let error = match Hugetlbfs::new().mount() {
        Ok(_) => panic!("the kernel lets nobody but root have it"),
        Err(error) => error,
    };
    // Without it, or not for a user namespace.
    assert!(matches!(error.kind(), ErrorKind::Permission | ErrorKind::NotFound), "{error:#}");
}

#[test]
fn a_bind_with_flags() {
    faultkit::require!(userns, program("unshare"), program("findmnt"));
    if !is_here() {
        return faultkit::isolated!(|| run_again("rootless::a_bind_with_flags"));
    }
    let (place, source) = (Place::new(), TempDir::new());
    fs::write(source.join("file"), "kept").expect("write");
    let bind = Bind::new(source.path()).recursive().attrs(MountAttr::RDONLY | MountAttr::NOSUID);
    place.with(bind.mount().expect("bind"), |at| {
        assert_eq!(fs::read_to_string(at.join("file")).expect("read"), "kept");
        assert!(fs::write(at.join("file"), "x").is_err(), "read-only");
        assert!(findmnt("VFS-OPTIONS", at).starts_with("ro,nosuid"));
    });
    // What is mounted already is changed, and goes again.
    let root = RootFd::open(place.path().parent().expect("a directory")).expect("open");
    bind.mount().expect("bind").attach(&root, "at").expect("attach");
    let mount = Mount::open(&root, "at").expect("open");
    mount.change(&MountChange::new().set(MountAttr::NOEXEC).clear(MountAttr::RDONLY)).expect("change");
    assert!(findmnt("VFS-OPTIONS", &place.path()).starts_with("rw,nosuid,noexec"), "nodev may be locked");
    mount.unmount().expect("unmount");
    assert_eq!(fs::read_to_string(source.join("file")).expect("read"), "kept");
}
