#![forbid(unsafe_code)]

use super::*;
use cellkit_core::ErrorKind;

#[test]
fn what_is_refused_before_anything_is_made() {
    let null = std::fs::File::open("/dev/null").expect("open");
    for (bind, why) in
        [(Bind::new(""), "empty"), (Bind::new("a\0b"), "NUL"), (Bind::new("/usr").idmap(&null), "this is none")]
    {
        let error = bind.mount().expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn what_stayed_is_told_in_words() {
    let kept = |attrs, atime| Kept { attrs, atime }.to_string();
    assert_eq!(kept(MountAttr::empty(), true), "atime");
    assert_eq!(kept(MountAttr::NODEV | MountAttr::RDONLY, false), "ro,nodev");
    assert_eq!(kept(MountAttr::NOSUID, true), "nosuid,atime");
}

mod root {
    use super::*;

    /// The same tree by either way, as the kernel's own table shows it.
    #[test]
    fn one_call_and_two_make_the_same() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let dir = faultkit::TempDir::new();
            for name in ["from", "to"] {
                std::fs::create_dir(dir.join(name)).expect("mkdir");
            }
            let root = RootFd::open(&*dir).expect("root");
            let source = crate::Tmpfs::new().no_exec().mount().expect("mount");
            let source = source.attach(&root, "from").expect("attach");
            let options = |way: Way| {
                let bind = Bind::new(dir.join("from")).recursive().attrs(MountAttr::RDONLY).clear(MountAttr::NOEXEC);
                let bind = bind.atime(Atime::Never).propagation(Propagation::Shared);
                let mount = bind.mount_by(way).expect("mount").attach(&root, "to").expect("attach");
                let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
                mount.unmount().expect("umount");
                let line = table.lines().find(|line| line.contains(&format!("{}/to ", dir.display())));
                let fields: Vec<_> = line.expect("a line").split(' ').skip(5).map(str::to_owned).collect();
                (fields[0].clone(), fields[1].starts_with("shared:"))
            };
            let expected = ("ro,nosuid,nodev,noatime".to_owned(), true);
            assert_eq!(options(Way::TwoCalls), expected);
            assert_eq!(options(Way::Best), expected);
            source.unmount().expect("umount");
        });
    }
}
