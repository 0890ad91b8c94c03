//! Layers that want out, that lie, and that ask for too much. After each the outside is as it was, and the answer is the
//! expected one.

use mountkit::ErrorKind;
use mountkit::layers::{Devices, Limits, SkippedWhat};

use crate::tar::{Member, Tar, archive, chardev, dir, fifo, file, hardlink, record, symlink};
use crate::{Ground, as_i_may, tree};

/// What has to come of a layer.
enum Comes {
    /// An error of this kind that has this word in it.
    Refused(ErrorKind, &'static str),
    /// Exactly this in the folder.
    Made(Vec<String>),
}
use Comes::{Made, Refused};

fn made<const N: usize>(lines: [&str; N]) -> Comes {
    Made(lines.map(str::to_owned).to_vec())
}

#[track_caller]
fn check(name: &str, layer: &[u8], comes: Comes) {
    let ground = Ground::new();
    check_on(&ground, name, layer, comes);
}

#[track_caller]
fn check_on(ground: &Ground, name: &str, layer: &[u8], comes: Comes) {
    let answer = ground.apply_as_i_may(layer);
    ground.outside_is_untouched();
    match (comes, answer) {
        (Refused(kind, word), Err(error)) => {
            assert_eq!(error.kind(), kind, "{name}: {error:#}");
            assert!(format!("{error:#}").contains(word), "{name}: {error:#}");
        }
        (Made(wanted), Ok(_)) => assert_eq!(tree::listing(&ground.layer()), wanted, "{name}"),
        (Refused(..), Ok(applied)) => panic!("{name}: {applied:?}"),
        (Made(_), Err(error)) => panic!("{name}: {error:#}"),
    }
}

/// The path of the folder outside, as a layer may know it.
fn outside(ground: &Ground, name: &str) -> String {
    ground.outside().join(name).to_str().expect("UTF-8").to_owned()
}

#[test]
fn paths_that_lead_up() {
    for name in ["../escape", "a/../../escape", "/../escape", "a/..", "..", "./../escape", "a/b/../../../escape"] {
        check(name, &archive([dir("a"), file(name, "x")]), Refused(ErrorKind::Invalid, "`..`"));
        check(name, &archive([dir("a"), dir(name)]), Refused(ErrorKind::Invalid, "`..`"));
        check(name, &archive([dir("a"), symlink(name, "x")]), Refused(ErrorKind::Invalid, "`..`"));
        check(name, &archive([dir("a"), file("f", ""), hardlink("h", name)]), Refused(ErrorKind::Invalid, "`..`"));
    }
    let by_pax = file("good", "x").pax("path", "../escape");
    check("by PAX", &archive([by_pax]), Refused(ErrorKind::Invalid, "`..`"));
    let mut long = Tar::new();
    long.extended(b'L', b"../escape\0");
    check("by a long name", &long.with(file("good", "x")).end(), Refused(ErrorKind::Invalid, "`..`"));
    let prefixed = file("escape", "x").patch(345, b"..");
    check("by a prefix", &archive([prefixed]), Refused(ErrorKind::Invalid, "`..`"));
}

#[test]
fn absolute_paths_are_inside() {
    check("absolute", &archive([file("/etc/passwd", "x")]), made(["etc dir", "etc/passwd file:x"]));
    let ground = Ground::new();
    let victim = outside(&ground, "victim");
    let layer = archive([file(&victim, "overwritten")]);
    ground.apply_as_i_may(&layer).expect("it is inside");
    ground.outside_is_untouched();
    let inside = std::fs::read(ground.layer().join(victim.trim_start_matches('/'))).expect("it is there");
    assert_eq!(inside, b"overwritten");
}

#[test]
fn a_symbolic_link_and_then_something_below_it() {
    for below in [file("l/new", "x"), file("l/victim", "x"), dir("l/new"), symlink("l/new", "x"), fifo("l/new")] {
        let ground = Ground::new();
        let layer = archive([symlink("l", outside(&ground, "")), below]);
        check_on(&ground, "absolute", &layer, Refused(ErrorKind::NotFound, "l/"));
    }
    // Up ends at the root of the layer.
    let layer = archive([symlink("l", "../../../../outside"), file("l/new", "x")]);
    check("relative", &layer, Refused(ErrorKind::NotFound, "l/new"));
    let layer = archive([dir("outside"), symlink("l", "../../../../outside"), file("l/new", "x")]);
    check(
        "relative, to what is inside",
        &layer,
        made(["l link:../../../../outside", "outside dir", "outside/new file:x"]),
    );
    let layer = archive([dir("d"), dir("d/e"), symlink("d/l", "../d/e"), file("d/l/new", "x")]);
    check("inside", &layer, made(["d dir", "d/e dir", "d/e/new file:x", "d/l link:../d/e"]));
    let layer = archive([symlink("a", "b"), symlink("b", "a"), file("a/x", "")]);
    check("a loop", &layer, Refused(ErrorKind::Invalid, "ELOOP"));
    let layer = archive([symlink("a", "a"), file("a/x", "")]);
    check("itself", &layer, Refused(ErrorKind::Invalid, "ELOOP"));
    let layer = archive([symlink("p", "/proc/self/root"), file("p/x", "")]);
    check("a magic link", &layer, Refused(ErrorKind::NotFound, "p/x"));
}

#[test]
fn a_symbolic_link_is_replaced_and_never_followed() {
    let ground = Ground::new();
    let victim = outside(&ground, "victim");
    let layer = archive([symlink("l", &victim), file("l", "new").mode(0o4777).mtime(1)]);
    check_on(&ground, "a file", &layer, made(["l file:new"]));

    let ground = Ground::new();
    let layer = archive([symlink("l", outside(&ground, "")), dir("l").mode(0o777).mtime(1), file("l/victim", "new")]);
    check_on(&ground, "a directory", &layer, made(["l dir", "l/victim file:new"]));

    let ground = Ground::new();
    let to = outside(&ground, "");
    let layer = archive([dir("d"), file("d/victim", "mine"), symlink("d", &to), dir("d").mode(0o700), dir("d/sub")]);
    check_on(&ground, "back and forth", &layer, made(["d dir", "d/sub dir"]));

    let ground = Ground::new();
    let layer = archive([dir("d"), symlink("d", outside(&ground, "")), file("d/victim", "x")]);
    check_on(&ground, "a directory that was open", &layer, Refused(ErrorKind::NotFound, "d/victim"));

    let ground = Ground::new();
    let layer = archive([symlink("l", outside(&ground, "victim")), fifo("l")]);
    check_on(&ground, "a FIFO", &layer, made(["l fifo"]));

    // Attributes, owners and times are those of the link itself.
    let ground = Ground::new();
    let link = symlink("l", outside(&ground, "victim")).owner(1, 1).mtime(1).xattr("user.a", "x");
    let layer = archive([link]);
    let target = outside(&ground, "victim");
    check_on(&ground, "the link itself", &layer, Made(vec![format!("l link:{target}")]));
}

#[test]
fn hard_links_to_what_is_not_in_the_layer() {
    let ground = Ground::new();
    let victim = outside(&ground, "victim");
    check_on(&ground, "absolute", &archive([hardlink("h", &victim)]), Refused(ErrorKind::NotFound, "same layer"));

    let ground = Ground::new();
    let layer = archive([symlink("l", outside(&ground, "")), hardlink("h", "l/victim")]);
    check_on(&ground, "below a link", &layer, Refused(ErrorKind::NotFound, "same layer"));

    // The link gets one more name, not what it leads to; and then it is replaced, not written through.
    let ground = Ground::new();
    let target = outside(&ground, "victim");
    let layer = archive([symlink("l", &target), hardlink("h", "l")]);
    check_on(&ground, "to a link", &layer, Made(vec![format!("h link:{target}"), format!("l link:{target}")]));
    let ground = Ground::new();
    let target = outside(&ground, "victim");
    let layer = archive([symlink("l", &target), hardlink("h", "l"), file("h", "x")]);
    check_on(&ground, "written through", &layer, Made(vec!["h file:x".into(), format!("l link:{target}")]));

    check("to a directory", &archive([dir("d"), hardlink("h", "d")]), Refused(ErrorKind::Permission, "EPERM"));
    check("to the root", &archive([hardlink("h", ".")]), Refused(ErrorKind::Invalid, "root"));
    check("to nothing", &archive([hardlink("h", "")]), Refused(ErrorKind::Invalid, "root"));
    check("to itself, missing", &archive([hardlink("h", "h")]), Refused(ErrorKind::NotFound, "same layer"));
    check("to itself", &archive([file("h", "x"), hardlink("h", "h")]), made(["h file:x"]));
    check(
        "to what is below it",
        &archive([file("d/x", ""), hardlink("d", "d/x")]),
        Refused(ErrorKind::NotFound, "linkat"),
    );
    check("of the root", &archive([file("f", ""), hardlink(".", "f")]), Refused(ErrorKind::Invalid, "root"));
    check(
        "to a whiteout",
        &archive([file(".wh.gone", ""), hardlink("h", "gone")]),
        Refused(ErrorKind::NotFound, "same layer"),
    );
    let replaced = archive([dir("d"), file("d/f", "old"), file("f", "new"), hardlink("d", "f")]);
    check("over a directory", &replaced, made(["d file:new", "f file:new"]));
}

#[test]
fn the_root_is_a_directory() {
    for name in [".", "./", "/", "", "././"] {
        let ground = Ground::new();
        let layer = archive([symlink(name, outside(&ground, ""))]);
        check_on(&ground, "a link", &layer, Refused(ErrorKind::Invalid, "root of a layer"));
        check("a FIFO", &archive([fifo(name)]), Refused(ErrorKind::Invalid, "root of a layer"));
    }
    check("a file", &archive([file(".", "")]), Refused(ErrorKind::Invalid, "root of a layer"));
    check("a directory", &archive([dir("./").mode(0o711), file("./f", "")]), made(["f file:"]));
}

#[test]
fn whiteouts_of_what_can_be_no_name() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh...", ".wh.../x", ".wh../x"] {
        check(name, &archive([dir("d"), file(name, "")]), Refused(ErrorKind::Invalid, ".wh."));
    }
    check("with something below", &archive([file(".wh.a/b", "")]), Refused(ErrorKind::Invalid, "nothing below"));
    check(
        "opaque with something below",
        &archive([file(".wh..wh..opq/b", "")]),
        Refused(ErrorKind::Invalid, "nothing below"),
    );
    for marker in [".wh.victim", ".wh..wh..opq", ".wh.sub"] {
        let ground = Ground::new();
        let layer = archive([symlink("l", outside(&ground, "")), file(format!("l/{marker}"), "")]);
        check_on(&ground, marker, &layer, Refused(ErrorKind::NotFound, "l/"));
    }
    // Whatever type they have.
    let ground = Ground::new();
    let target = outside(&ground, "victim");
    let layer = archive([
        symlink(".wh.a", &target),
        file(".wh.b", "content that says nothing"),
        dir(".wh.c/"),
        hardlink(".wh.d", ".wh.a"),
        fifo(".wh.e"),
        chardev(".wh.f", 1, 3),
        file("g", ""),
    ]);
    let wanted = ["a", "b", "c", "d", "e", "f"].map(|name| format!("{name} whiteout")).into_iter();
    check_on(&ground, "all types", &layer, Made(wanted.chain(["g file:".to_owned()]).collect()));
}

#[test]
fn what_aufs_left() {
    let layer = archive([
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/123.456", "x"),
        file(".wh..wh.aufs", ""),
        dir(".wh..wh.orph"),
        file("d/.wh..wh.plnk/x", ""),
        file("f", ""),
    ]);
    check("aufs", &layer, made(["f file:"]));
    let ground = Ground::new();
    let applied = ground.apply_as_i_may(&layer).expect("applied");
    assert_eq!(applied.skipped_count, 5);
    assert!(applied.skipped.iter().all(|skipped| skipped.what == SkippedWhat::Aufs));
}

#[test]
fn device_nodes() {
    let block = Member::new(b'4', "disk").device(8, 0);
    let layer =
        archive([chardev("null", 1, 3), chardev("whiteout", 0, 0), block, hardlink("again", "null"), file("f", "")]);
    check("left out", &layer, made(["f file:"]));
    let ground = Ground::new();
    let applied = ground.apply_as_i_may(&layer).expect("applied");
    let told: Vec<_> = applied.skipped.iter().map(|skipped| skipped.path.to_str().expect("UTF-8")).collect();
    assert_eq!(told, ["null", "whiteout", "disk", "again"]);
    for device in [chardev("null", 1, 3), chardev("whiteout", 0, 0)] {
        let ground = Ground::new();
        let error = ground.apply(&as_i_may().devices(Devices::Refuse), &archive([device])).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("Skip")));
    }
    let ground = Ground::new();
    let create = as_i_may().devices(Devices::Create);
    ground.apply(&create, &archive([chardev("whiteout", 0, 0), file("f", "")])).expect("0:0 is left out");
    assert_eq!(tree::listing(&ground.layer()), ["f file:"]);
}

#[test]
fn fifos_are_not_waited_for() {
    check("replaced", &archive([fifo("f"), file("f", "x")]), made(["f file:x"]));
    check("as a directory", &archive([fifo("f"), file("f/x", "")]), Refused(ErrorKind::Invalid, "ENOTDIR"));
    check("a file as a directory", &archive([file("f", ""), file("f/x", "")]), Refused(ErrorKind::Invalid, "ENOTDIR"));
    check("linked", &archive([fifo("f"), hardlink("g", "f")]), made(["f fifo", "g fifo"]));
}

#[test]
fn the_same_name_again() {
    check("files", &archive([file("f", "long content"), file("f", "x")]), made(["f file:x"]));
    check(
        "spelled otherwise",
        &archive([file("a/b", "1"), file("./a//b", "2"), file("/a/./b", "3")]),
        made(["a dir", "a/b file:3"]),
    );
    check(
        "a directory over a file",
        &archive([file("f", ""), dir("f"), file("f/x", "")]),
        made(["f dir", "f/x file:"]),
    );
    let deep = archive([dir("d"), file("d/a/b/c/d/e", "x"), file("d", "y")]);
    check("a file over a tree", &deep, made(["d file:y"]));
    check(
        "a directory twice",
        &archive([dir("d"), file("d/x", "x"), dir("d").mode(0o700)]),
        made(["d dir", "d/x file:x"]),
    );
    // What has two names keeps the other.
    check(
        "a linked file",
        &archive([file("a", "1"), hardlink("b", "a"), file("a", "2")]),
        made(["a file:2", "b file:1"]),
    );
}

#[test]
fn archives_that_readers_disagree_about() {
    let inner = Tar::new().with(file("smuggled", "x")).0;
    let sizes = file("a", &inner).pax("size", "0");
    check("two sizes", &archive([sizes, file("b", "")]), Refused(ErrorKind::Parse, "disagree"));
    let with_content = Member::new(b'5', "d").content(&inner);
    check("a directory with content", &archive([with_content]), Refused(ErrorKind::Parse, "disagree"));
    let link = hardlink("h", "a").content(&inner);
    check("a link with content", &archive([file("a", ""), link]), Refused(ErrorKind::Parse, "disagree"));
    let more = [archive([file("a", "")]), inner.clone()].concat();
    check("after the end", &more, Refused(ErrorKind::Parse, "follows the end"));
    let mut global = Tar::new();
    global.extended(b'g', &record(b"path", b"b"));
    check("for all", &global.with(file("a", "")).end(), Refused(ErrorKind::Parse, "all entries"));
    check(
        "two names",
        &{
            let mut tar = Tar::new();
            tar.extended(b'L', b"one\0");
            tar.with(file("a", "").pax("path", "two")).end()
        },
        Refused(ErrorKind::Parse, "disagree"),
    );
    check("an unknown type", &archive([Member::new(b'Q', "a")]), Refused(ErrorKind::Parse, "type"));
    check("NUL", &archive([file("a", "").pax("path", "a\0b")]), Refused(ErrorKind::Parse, "NUL"));
    check("torn", &archive([file("a", "x")])[..1000], Refused(ErrorKind::Parse, "ends"));
    check("empty", b"", Refused(ErrorKind::Parse, "ends"));
    check("not an archive", b"#!/bin/sh\n", Refused(ErrorKind::Parse, "ends"));
}

#[test]
fn more_than_is_allowed() {
    check(
        "a name of 256 bytes",
        &archive([file("a", "").pax("path", [b'n'; 256])]),
        Refused(ErrorKind::Invalid, "255"),
    );
    check(
        "a path of 5000 bytes",
        &archive([file("a", "").pax("path", "a/".repeat(2500))]),
        Refused(ErrorKind::Limit, "4095"),
    );
    check(
        "a deep path",
        &archive([file("a", "").pax("path", "a/".repeat(600) + "b")]),
        Refused(ErrorKind::Limit, "512"),
    );
    let bottomless = file("a", "").pax("path", "a/".repeat(100_000));
    check("100,000 names", &archive([bottomless]), Refused(ErrorKind::Limit, "4095"));
    let bomb = file("a", "").pax("GNU.sparse.size", (1_u64 << 60).to_string()).pax("GNU.sparse.map", "");
    check("an exbibyte of holes", &archive([bomb]), Refused(ErrorKind::Limit, "bytes"));
    let lies = file("a", "abc").pax("GNU.sparse.size", "10").pax("GNU.sparse.map", "0,2,1,1");
    check("holes that overlap", &archive([lies]), Refused(ErrorKind::Parse, "overlap"));
    check("an empty link", &archive([symlink("l", "")]), Refused(ErrorKind::Invalid, "empty"));
    check("a long link", &archive([symlink("l", "").pax("linkpath", [b'x'; 4096])]), Refused(ErrorKind::Limit, "4095"));
    let large = file("a", "").xattr("user.a", vec![b'x'; 200_000]);
    check("a large attribute", &archive([large]), Refused(ErrorKind::Limit, "attributes"));

    let ground = Ground::new();
    let few = as_i_may().limits(Limits::new().entries(2).depth(3));
    let error = ground.apply(&few, &archive([file("a", ""), file("b", ""), file("c", "")])).expect_err("too many");
    assert_eq!((error.kind(), tree::listing(&ground.layer()).len()), (ErrorKind::Limit, 2));
    assert_eq!(error.subject(), Some(&cellkit_core::Subject::Path("c".into())), "{error:#}");
    assert!(error.hint().is_some_and(|hint| hint.contains("Limits")));
    let small = as_i_may().limits(Limits::new().bytes(100_000));
    let ground = Ground::new();
    let error = ground.apply(&small, &archive([file("a", vec![0; 200_000])])).expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:#}");
}

#[test]
fn attributes_that_are_not_the_images_business() {
    let ground = Ground::new();
    let layer = archive([
        dir("d")
            .xattr("user.overlay.opaque", "y")
            .xattr("user.overlay.redirect", "/etc")
            .xattr("trusted.overlay.redirect", "/etc")
            .xattr("trusted.overlay.metacopy", "")
            .xattr("trusted.other", "x"),
        file("f", "")
            .xattr("security.selinux", "system_u:object_r:etc_t:s0")
            .xattr("security.ima", "x")
            .xattr("user.overlay.metacopy", "")
            .xattr("system.nonsense", "x")
            .xattr("nonsense", "x"),
        symlink("l", "f").xattr("user.a", "x"),
        fifo("p").xattr("user.a", "x"),
    ]);
    let applied = ground.apply_as_i_may(&layer).expect("applied");
    assert_eq!(applied.skipped_count, 12, "{:?}", applied.skipped);
    let wanted = SkippedWhat::Attribute("trusted.overlay.redirect".into());
    assert!(applied.skipped.iter().any(|s| s.what == wanted && s.path.to_str() == Some("d")));
    let left = crate::run("getfattr", &["-R", "-P", "-h", "-d", "-m", "-", "."], &ground.layer());
    assert_eq!(left, "");
}

#[test]
fn any_byte_in_a_name() {
    let every: Vec<u8> = (1..=255_u8).filter(|byte| *byte != b'/').collect();
    let (first, second) = every.split_at(127);
    let layer = archive([file("a", "1").pax("path", first), file("b", "2").pax("path", second)]);
    let wanted = [format!("{} file:1", first.escape_ascii()), format!("{} file:2", second.escape_ascii())];
    check("bytes", &layer, Made(wanted.to_vec()));
    let layer = archive([file("new\nline", ""), symlink("l", "..\n/\x1b[31m")]);
    check("a terminal's", &layer, made(["l link:..\n/\x1b[31m", "new\\nline file:"]));
}

#[test]
fn a_folder_that_is_not_empty_is_left_alone() {
    let ground = Ground::new();
    std::fs::write(ground.layer().join("there"), "before").expect("write");
    let layer = archive([file("there", "new")]);
    check_on(&ground, "not empty", &layer, Refused(ErrorKind::Invalid, "not empty"));
    assert_eq!(tree::listing(&ground.layer()), ["there file:before"]);
}

#[test]
fn directories_that_their_owner_may_not_enter() {
    let ground = Ground::new();
    let layer = archive([
        dir("a").mode(0o500),
        dir("a/b").mode(0),
        file("a/b/c", "x").mode(0),
        dir("d").mode(0o755),
        // Back again, after it was left.
        file("a/b/again", "y"),
        file("a/late", "z"),
    ]);
    ground.apply_as_i_may(&layer).expect("applied");
    let mode = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::symlink_metadata(ground.layer().join(path)).map(|found| found.mode() & 0o7777)
    };
    assert_eq!(mode("a").expect("stat"), 0o500);
    assert_eq!(mode("a/b").expect("stat"), 0);
    // So that it can be looked into, and removed.
    for path in ["a", "a/b"] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(ground.layer().join(path), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    }
    assert_eq!(mode("a/b/c").expect("stat"), 0);
    assert_eq!(std::fs::read(ground.layer().join("a/b/again")).expect("read"), b"y");
    assert_eq!(std::fs::read(ground.layer().join("a/late")).expect("read"), b"z");
}

#[test]
fn times_are_those_of_the_archive_whatever_comes_after() {
    use std::os::unix::fs::MetadataExt;
    let ground = Ground::new();
    let layer = archive([
        dir("d").pax("mtime", "1234567890.987654321"),
        dir("e").mtime(5),
        file("d/f", "x").pax("mtime", "-1.5"),
        symlink("d/l", "f").mtime(7),
        hardlink("d/h", "d/f"),
        file("e/x", ""),
        file("d/late", "").mtime(9),
        file("e/.wh.gone", ""),
    ]);
    ground.apply_as_i_may(&layer).expect("applied");
    for (path, seconds, nanoseconds) in
        [("d", 1_234_567_890, 987_654_321), ("d/f", -2, 500_000_000), ("d/l", 7, 0), ("d/late", 9, 0), ("e", 5, 0)]
    {
        let found = std::fs::symlink_metadata(ground.layer().join(path)).expect("stat");
        assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, nanoseconds), "{path}");
    }
}

#[test]
fn paths_as_deep_as_one_allows() {
    const DEPTH: usize = 1500;
    let ground = Ground::new();
    let mut tar = Tar::new();
    let mut path = String::new();
    for depth in 1..=DEPTH {
        path.push_str("d/");
        tar.push(&dir("d").pax("path", &path).mtime(depth as u64));
    }
    // Up and down again: what was closed on the way is reached anew.
    for depth in [1, DEPTH / 2, DEPTH, 200, 1] {
        tar.push(&file("f", "x").pax("path", "d/".repeat(depth) + "f"));
    }
    let apply = as_i_may().limits(Limits::new().depth(DEPTH + 1).path(1 << 16));
    let answer = ground.apply(&apply, &tar.end());
    let found = crate::run("sh", &["-c", "find . -name f | wc -l; find . -type d -name d | wc -l"], &ground.layer());
    let root = mountkit::RootFd::open(ground.layer()).expect("open");
    root.open_dir(".").and_then(|dir| dir.remove_all("d")).expect("removed");
    answer.expect("applied");
    assert_eq!(found.split_whitespace().collect::<Vec<_>>(), ["4", "1500"]);
}

#[test]
fn names_in_errors_move_no_cursor() {
    let by_attribute = file("f", "x").pax("LIBARCHIVE.xattr.user.\u{1b}[2J", "no base64!");
    let mut for_all = Tar::new();
    for_all.extended(b'g', &record(b"SCHILY.xattr.user.\x1b[2J", b"x"));
    for layer in [archive([by_attribute]), for_all.with(file("f", "x")).end()] {
        let error = Ground::new().apply_as_i_may(&layer).expect_err("refused");
        let text = format!("{error:#} {error:?}");
        assert!(text.contains("[2J") && !text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn a_link_to_what_came_in_the_place_of_a_device() {
    let layer = archive([chardev("x", 1, 3), file("x", "file"), hardlink("y", "x"), hardlink("z", "y")]);
    check("a file after a device", &layer, made(["x file:file", "y file:file", "z file:file"]));
}

/// What is noted of devices that are left out has an end, and a link to one that is not noted is an error.
#[test]
fn devices_without_end() {
    let devices = (0..10_001).map(|number| chardev(format!("d{number}"), 1, 3));
    let ground = Ground::new();
    let link = hardlink("first", "d0");
    let applied = ground.apply_as_i_may(&archive(devices.clone().chain([link]))).expect("left out");
    assert_eq!(applied.skipped_count, 10_002);
    let layer = archive(devices.chain([hardlink("last", "d10000")]));
    check("the last of many", &layer, Refused(ErrorKind::NotFound, "hard link"));
}

#[test]
fn the_target_of_a_hard_link_is_looked_up_in_the_tree_as_it_is() {
    let begin = [file("a/x", "A"), file("b/x", "B"), symlink("l", "a"), hardlink("1", "l/x")];
    let then = [symlink("l", "b"), hardlink("2", "l/x"), dir("l"), file("l/x", "C"), hardlink("3", "l/x")];
    let again = [file("l", "no directory"), dir("l"), file("l/x", "D"), hardlink("4", "l/x")];
    let ground = Ground::new();
    ground.apply_as_i_may(&archive(begin.into_iter().chain(then).chain(again))).expect("applied");
    for (name, content) in [("1", "A"), ("2", "B"), ("3", "C"), ("4", "D")] {
        assert_eq!(std::fs::read_to_string(ground.layer().join(name)).expect("read"), content, "{name}");
    }
}

/// Each attribute once, with the value that came last, however many there are.
#[test]
fn attributes_without_end() {
    let mut member = file("f", "x");
    for value in ["old", "new"] {
        for number in 0..2000 {
            member = member.xattr(&format!("trusted.{number}"), value);
        }
        member = member.xattr("user.kept", value);
    }
    let ground = Ground::new();
    let applied = ground.apply_as_i_may(&archive([member])).expect("applied");
    assert_eq!(applied.skipped_count, 2000);
    let value = crate::run("getfattr", &["--only-values", "-n", "user.kept", "f"], &ground.layer());
    assert_eq!(value, "new");
}
