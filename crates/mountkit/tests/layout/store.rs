//! Images unpacked to a store, by anybody.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use faultkit::TempDir;
use mountkit::ErrorKind;
use mountkit::layers::{Apply, Devices, Image, ImageLayout, Owner, Store, Unpacked, Whiteouts};

use crate::made::{Files, Made};

pub(crate) const BASE: Files<'static> = &[("bin/sh", "#!"), ("etc/passwd", "root")];
pub(crate) const APP: Files<'static> = &[("srv/app", "1"), ("etc/.wh.passwd", "")];
const OTHER: Files<'static> = &[("srv/other", "2")];

pub(crate) fn image_of(made: &Made) -> Image {
    let image = ImageLayout::open(&made.dir).and_then(|layout| layout.find().image());
    image.unwrap_or_else(|error| panic!("{error:#}"))
}

/// For whoever runs the test.
pub(crate) fn anybodys() -> Apply {
    Apply::new().whiteouts(Whiteouts::OverlayUser).owner(Owner::Caller)
}

#[track_caller]
pub(crate) fn unpacked(store: &Store, image: &Image) -> Unpacked {
    store.unpack(image, &anybodys()).unwrap_or_else(|error| panic!("{error:#}"))
}

pub(crate) fn paths(unpacked: &Unpacked) -> Vec<PathBuf> {
    unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect()
}

fn new(unpacked: &Unpacked) -> usize {
    unpacked.layers().iter().filter(|layer| layer.is_new()).count()
}

/// All names in the store but those above the layers.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for form in fs::read_dir(dir.join("layers")).expect("readdir") {
        for place in fs::read_dir(form.expect("entry").path()).expect("readdir") {
            for name in fs::read_dir(place.expect("entry").path()).expect("readdir") {
                found.push(name.expect("entry").file_name().into_string().expect("text"));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_topmost_first_and_each_once() {
    faultkit::require!(program("tar"), program("gzip"));
    let (made, temp) = (Made::image(&[BASE, APP]), TempDir::new());
    let dir = temp.join("store");
    let store = Store::open(&dir).expect("store");
    let first = unpacked(&store, &image_of(&made));
    assert_eq!((first.layers().len(), new(&first)), (2, 2));
    assert_eq!(first.config().cmd, ["/bin/hello"]);
    let [top, bottom] = [0, 1].map(|index| paths(&first)[index].clone());
    assert_eq!(fs::read(top.join("srv/app")).expect("read"), b"1");
    assert_eq!(fs::symlink_metadata(top.join("etc/passwd")).expect("whiteout").rdev(), 0);
    assert_eq!(fs::read(bottom.join("etc/passwd")).expect("read"), b"root");
    let again = unpacked(&Store::open(&dir).expect("again"), &image_of(&made));
    assert_eq!((new(&again), paths(&again)), (0, paths(&first)));
    assert_eq!(names(&dir), ["diff", "diff", "lock", "lock", "whole", "whole"]);
    assert_eq!(fs::metadata(&dir).expect("stat").permissions().mode() & 0o7777, 0o700);
}

#[test]
fn what_two_images_have_in_common_is_there_once() {
    faultkit::require!(program("tar"), program("gzip"), program("du"));
    let temp = TempDir::new();
    let large = "x".repeat(1 << 20);
    let base: Files<'_> = &[("usr/lib", &large)];
    let store = Store::open(temp.join("store")).expect("store");
    let one = unpacked(&store, &image_of(&Made::image(&[base, APP])));
    let other = unpacked(&store, &image_of(&Made::image(&[base, OTHER])));
    assert_eq!((new(&one), new(&other)), (2, 1));
    assert_eq!(paths(&one)[1], paths(&other)[1]);
    let kilobytes = std::process::Command::new("du").args(["-sk", "--apparent-size"]).arg(temp.path()).output();
    let text = String::from_utf8(kilobytes.expect("du").stdout).expect("text");
    let kilobytes: u64 = text.split('\t').next().and_then(|number| number.parse().ok()).expect("number");
    assert!((1024..1500).contains(&kilobytes), "{text}");
}

#[test]
fn of_sixteen_at_once_one_unpacks_each_layer() {
    faultkit::require!(program("tar"), program("gzip"));
    let (made, temp) = (Made::image(&[BASE, APP, OTHER]), TempDir::new());
    let dir = temp.join("store");
    for round in 0..5 {
        let barrier = Barrier::new(16);
        let all: Vec<Unpacked> = std::thread::scope(|scope| {
            let one = || {
                let store = Store::open(&dir).expect("store").volatile();
                let image = image_of(&made);
                barrier.wait();
                let unpacked = unpacked(&store, &image);
                // Whole, for each of them and at once.
                assert_eq!(fs::read(paths(&unpacked)[2].join("bin/sh")).expect("read"), b"#!");
                unpacked
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().expect("thread")).collect()
        });
        assert_eq!(all.iter().map(new).sum::<usize>(), 3, "round {round}");
        assert_eq!(all.iter().map(paths).collect::<BTreeSet<_>>().len(), 1);
        let store = Store::open(&dir).expect("store");
        let pruned = store.prune().expect("prune");
        assert_eq!((pruned.removed, pruned.in_use), (0, 3));
        drop(all);
        assert_eq!(store.prune().expect("prune").removed, 3);
        assert!(names(&dir).is_empty());
    }
}

/// Who unpacks and who prunes at the same time: nobody ever sees a layer that is not whole.
#[test]
fn nobody_is_pruned_under_ones_hands() {
    faultkit::require!(program("tar"), program("gzip"));
    let (made, temp) = (Made::image(&[BASE, APP]), TempDir::new());
    let (dir, removed) = (temp.join("store"), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let user = || {
            let store = Store::open(&dir).expect("store").volatile();
            let image = image_of(&made);
            while removed.load(Ordering::Relaxed) < 10 {
                let unpacked = unpacked(&store, &image);
                assert_eq!(fs::read(paths(&unpacked)[0].join("srv/app")).expect("read"), b"1");
                assert_eq!(fs::read(paths(&unpacked)[1].join("etc/passwd")).expect("read"), b"root");
                drop(unpacked);
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        };
        let users: Vec<_> = (0..2).map(|_| scope.spawn(user)).collect();
        let store = Store::open(&dir).expect("store");
        while !users.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            removed.fetch_add(store.prune().expect("prune").removed, Ordering::Relaxed);
        }
    });
}

#[test]
fn what_fails_leaves_nothing() {
    faultkit::require!(program("tar"), program("gzip"));
    let (made, temp) = (Made::image(&[BASE, APP]), TempDir::new());
    let image = image_of(&made);
    let dir = temp.join("store");
    let store = Store::open(&dir).expect("store");
    let top = image.layers()[1];
    let blob = made.dir.join("blobs/sha256").join(top.digest().hex());
    let good = fs::read(&blob).expect("read");
    // A bit of the checksum of gzip's, and of what it packs.
    for at in [good.len() - 5, good.len() / 2] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&blob, bad).expect("write");
        let error = store.unpack(&image, &anybodys()).expect_err("another content");
        assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Parse), "{error:#}");
        assert!(format!("{error:#}").contains(&top.digest().to_string()), "{error:#}");
        assert!(names(&dir).is_empty(), "{:?}", names(&dir));
    }
    fs::write(&blob, good).expect("write");
    assert_eq!(new(&unpacked(&store, &image)), 2);
}

#[test]
fn what_a_killed_process_left_is_removed_or_made_anew() {
    faultkit::require!(program("tar"), program("gzip"));
    let (made, temp) = (Made::image(&[BASE]), TempDir::new());
    let (image, dir) = (image_of(&made), temp.join("store"));
    let path = paths(&unpacked(&Store::open(&dir).expect("store"), &image))[0].clone();
    let place = path.parent().expect("place");
    type Spoil = fn(&Path);
    let spoilt: [(&str, Spoil); 4] = [
        ("no marker", |place| fs::remove_file(place.join("whole")).expect("rm")),
        ("a torn marker", |place| fs::write(place.join("whole"), "cellkit layer 1\ndiff_id sha").expect("write")),
        ("a marker of bytes", |place| fs::write(place.join("whole"), b"\xff\xfe").expect("write")),
        ("of another layer", |place| {
            let text = fs::read_to_string(place.join("whole")).expect("read");
            let (start, end) = text.split_once("sha256:").expect("digest");
            let end = end.split_once('\n').expect("line").1;
            fs::write(place.join("whole"), format!("{start}sha256:{}\n{end}", "0".repeat(64))).expect("write");
        }),
    ];
    for (what, spoil) in spoilt {
        spoil(place);
        fs::write(path.join("half"), "").expect("write");
        fs::create_dir(place.join("work")).expect("mkdir");
        let store = Store::open(&dir).expect("store");
        assert_eq!(new(&unpacked(&store, &image)), 1, "{what}");
        assert!(!path.join("half").exists(), "{what}");
        assert_eq!(names(&dir), ["diff", "lock", "whole"], "{what}");
    }
    fs::remove_file(place.join("whole")).expect("rm");
    Store::open(&dir).expect("store");
    assert!(!place.exists(), "half a layer is removed by the next one who opens the store");
}

#[test]
fn a_store_is_its_owners_alone() {
    let temp = TempDir::new();
    for mode in [0o755, 0o701, 0o770] {
        let dir = temp.join("store");
        fs::create_dir(&dir).expect("mkdir");
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).expect("chmod");
        let error = Store::open(&dir).expect_err("others may enter");
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(&format!("{mode:#o}")), "{error:#}");
        fs::remove_dir_all(&dir).expect("rm");
    }
    assert_eq!(Store::open(temp.join("no/store")).expect_err("nothing").kind(), ErrorKind::NotFound);
    // What cannot be a store is left as it was.
    let open = temp.join("open");
    fs::create_dir(&open).expect("mkdir");
    Store::open(&open).expect_err("others may enter");
    assert_eq!(fs::read_dir(&open).expect("readdir").count(), 0);
    fs::write(temp.join("file"), "").expect("write");
    assert_eq!(Store::open(temp.join("file")).expect_err("a file").kind(), ErrorKind::Invalid);
    // Others could write to it once.
    for (number, put) in [|path: &Path| std::os::unix::fs::symlink("/", path), |path: &Path| fs::create_dir(path)]
        .into_iter()
        .enumerate()
    {
        let dir = temp.join(format!("once-{number}"));
        fs::create_dir(&dir).expect("mkdir");
        put(&dir.join("layers")).expect("put");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("chmod");
        let error = Store::open(&dir).expect_err("what is in it is not ours");
        assert!(error.kind() == ErrorKind::Invalid && format!("{error}").contains("layers"), "{error:#}");
    }
}

#[test]
fn a_link_to_a_store_is_followed_once() {
    faultkit::require!(program("tar"), program("gzip"));
    let (made, temp) = (Made::image(&[OTHER]), TempDir::new());
    let [ours, theirs, link] = ["ours", "theirs", "link"].map(|name| temp.join(name));
    fs::create_dir(&theirs).expect("mkdir");
    Store::open(&ours).expect("store");
    std::os::unix::fs::symlink(&ours, &link).expect("symlink");
    let store = Store::open(&link).expect("store");
    fs::remove_file(&link).expect("rm");
    std::os::unix::fs::symlink(&theirs, &link).expect("symlink");
    let found = unpacked(&store, &image_of(&made));
    assert!(paths(&found).iter().all(|path| path.starts_with(fs::canonicalize(&ours).expect("realpath"))));
    assert_eq!(fs::read_dir(&theirs).expect("readdir").count(), 0);
}

#[test]
fn other_ways_to_apply_are_other_layers() {
    faultkit::require!(program("tar"), program("gzip"));
    let (made, temp) = (Made::image(&[OTHER]), TempDir::new());
    let (image, store) = (image_of(&made), Store::open(temp.join("store")).expect("store"));
    let ways = [anybodys(), anybodys().devices(Devices::Refuse)];
    let found: BTreeSet<_> = ways
        .iter()
        .map(|apply| paths(&store.unpack(&image, apply).unwrap_or_else(|error| panic!("{error:#}"))))
        .collect();
    assert_eq!(found.len(), 2);
    let error = store.unpack(&image, &anybodys().whiteouts(Whiteouts::Flattened)).expect_err("flattened");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
}

#[test]
fn a_layer_that_is_there_twice_and_one_that_hides_all() {
    // An opaque directory is marked with an attribute of users, which tmpfs keeps since then.
    faultkit::require!(kernel(6.6), program("tar"), program("gzip"));
    let temp = TempDir::new();
    let store = Store::open(temp.join("store")).expect("store");
    let twice = unpacked(&store, &image_of(&Made::image(&[BASE, APP, BASE])));
    let base = unpacked(&store, &image_of(&Made::image(&[BASE])));
    assert_eq!((twice.layers().len(), &paths(&twice)[0]), (2, &paths(&base)[0]));
    let hides: Files<'_> = &[(".wh..wh..opq", ""), ("only", "this")];
    for new_ones in [2, 0] {
        let hidden = unpacked(&store, &image_of(&Made::image(&[BASE, hides, OTHER])));
        assert_eq!(hidden.layers().len(), 2, "what is below is left out");
        let count = new(&hidden);
        assert_eq!(count, new_ones);
    }
}

#[test]
fn an_overlay_of_an_image_of_an_ordinary_user() {
    // tmpfs, which the folder for temporary files may be on, has user attributes since then.
    faultkit::require!(userns, kernel(6.6), program("tar"), program("gzip"), program("unshare"));
    let (made, temp) = (Made::image(&[BASE, APP]), TempDir::new());
    let store = Store::open(temp.join("store")).expect("store");
    let unpacked = unpacked(&store, &image_of(&made));
    let lower: Vec<_> = paths(&unpacked).iter().map(|path| path.display().to_string()).collect();
    let script = format!(
        "mount -t tmpfs state {0} && mkdir {0}/upper {0}/work {0}/merged &&
         mount -t overlay -o userxattr,lowerdir={1},upperdir={0}/upper,workdir={0}/work none {0}/merged && cd {0}/merged &&
         cat bin/sh srv/app && ls etc && echo 2 >srv/app && cat {0}/upper/srv/app",
        temp.join("state").display(),
        lower.join(":"),
    );
    fs::create_dir(temp.join("state")).expect("mkdir");
    let output = std::process::Command::new("unshare")
        .args(["-Urm", "--propagation", "private", "sh", "-c", &script])
        .output()
        .expect("unshare");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // `etc` is there, and what the upper layer hides in it is not.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "#!12\n");
    assert_eq!(fs::read(paths(&unpacked)[0].join("srv/app")).expect("read"), b"1", "the layer is as it was");
}
