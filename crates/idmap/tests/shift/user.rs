//! Who is not root may give nothing away.
#![forbid(unsafe_code)]

use cellkit_core::ErrorKind;
use idmap::{IdMaps, Shift};

#[test]
fn an_ordinary_user_is_told_what_it_takes() {
    faultkit::require!(user);
    let dir = faultkit::TempDir::new();
    std::fs::write(dir.path().join("mine"), "").expect("write");
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path()).expect("stat"));
    let gid = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(dir.path()).expect("stat"));
    let maps =
        IdMaps::new(format!("{uid}:4000000:1").parse().expect("map"), format!("{gid}:4000000:1").parse().expect("map"));
    let tree = std::fs::File::open(dir.path()).expect("open");
    let would = Shift::to_outside(&maps).check(&tree).expect("anybody may look");
    assert_eq!(would.changed, 2);
    let error = Shift::to_outside(&maps).apply(&tree).expect_err("not permitted");
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "fchownat"), "{error}");
    assert!(error.to_string().contains("\"mine\""), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("podman unshare")), "{error:#}");
}
