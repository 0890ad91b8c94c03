//! The same archives, unpacked by GNU tar and by us: nothing that can be seen differs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use mountkit::RootFd;
use mountkit::layers::Apply;

use crate::{run, tree};

/// Always the same numbers, at random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A tree of everything that an image has, with names of many lengths.
fn make_tree(dir: &Path, random: &mut Random) {
    fs::create_dir(dir).expect("mkdir");
    let mut dirs = vec![dir.to_owned()];
    let mut files = Vec::new();
    for number in 0..40 {
        let parent = dirs[random.below(dirs.len() as u64) as usize].clone();
        let length = [1, 10, 60, 101, 200][random.below(5) as usize];
        let path = parent.join(format!("{number}-{}", "n\u{e9} ".repeat(length / 4)));
        let mode = random.below(0o10000) as u32;
        match random.below(6) {
            0 | 1 => {
                fs::create_dir(&path).expect("mkdir");
                dirs.push(path.clone());
            }
            2 => symlink("../".repeat(length), &path).expect("symlink"),
            3 if !files.is_empty() => {
                let target: &std::path::PathBuf = &files[random.below(files.len() as u64) as usize];
                fs::hard_link(target, &path).expect("link");
                continue;
            }
            4 => {
                let mut file = fs::File::create(&path).expect("create");
                for _ in 0..random.below(9) {
                    file.seek(SeekFrom::Current((random.below(9) << 13) as i64)).expect("seek");
                    file.write_all(&vec![b'x'; random.below(9000) as usize]).expect("write");
                }
                file.set_len(random.below(1 << 19)).expect("ftruncate");
                files.push(path.clone());
            }
            _ => {
                fs::write(&path, vec![random.below(256) as u8; random.below(30_000) as usize]).expect("write");
                files.push(path.clone());
            }
        }
        let is_link = fs::symlink_metadata(&path).expect("stat").file_type().is_symlink();
        lchown(&path, Some(random.below(3000) as u32), Some(random.below(3000) as u32)).expect("chown");
        if !is_link {
            if random.below(3) == 0 {
                let name = path.to_str().expect("UTF-8");
                run("setfattr", &["-n", "user.some", "-v", "0x00ff0a3d", name], dir);
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    }
    // The directories last: what is in them changes their times.
    for path in tree::paths(dir).iter().rev() {
        let (seconds, nanoseconds) = (random.below(1 << 31), random.below(1_000_000_000) as u32);
        if fs::symlink_metadata(path).expect("stat").file_type().is_symlink() {
            let stamp = format!("@{seconds}.{nanoseconds:09}");
            run("touch", &["-h", "-d", &stamp, path.to_str().expect("UTF-8")], dir);
        } else {
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
            fs::File::open(path).and_then(|file| file.set_modified(time)).expect("utimensat");
        }
    }
}

/// What of each path can be seen, without the tree's own place.
fn seen(dir: &Path) -> Vec<String> {
    let mut first_name = BTreeMap::new();
    let paths = std::iter::once(dir.to_owned()).chain(tree::paths(dir));
    paths
        .map(|path| {
            let found = fs::symlink_metadata(&path).expect("stat");
            let name = path.strip_prefix(dir).expect("below").to_owned();
            let first = first_name.entry(found.ino()).or_insert_with(|| name.clone()).clone();
            let content = match found.is_file() {
                true => format!("{:?}", mountkit::layers::Digest::sha256_of(&fs::read(&path).expect("read"))),
                false => fs::read_link(&path).map(|target| format!("{target:?}")).unwrap_or_default(),
            };
            let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
            let (size, time) = (if found.is_dir() { 0 } else { found.size() }, (found.mtime(), found.mtime_nsec()));
            format!("{name:?} {mode:o} {uid}:{gid} {size} {time:?} is {first:?} {content}")
        })
        .chain([run("getfattr", &["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."], dir)])
        .collect()
}

fn blocks(dir: &Path) -> u64 {
    tree::paths(dir).iter().map(|path| fs::symlink_metadata(path).expect("stat").blocks()).sum()
}

#[test]
fn random_trees_in_all_its_formats() {
    // Attributes of users on tmpfs came with 6.6.
    faultkit::require!(root, kernel(6.6), program("tar"), program("getfattr"));
    let place = faultkit::TempDir::new();
    let mut random = Random(0x1234_5678_9abc_def1);
    let formats: [&[&str]; 6] = [
        &["--format=pax"],
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ];
    for (round, format) in formats.iter().enumerate() {
        let [source, theirs, ours] = ["source", "theirs", "ours"].map(|name| place.join(format!("{name}-{round}")));
        make_tree(&source, &mut random);
        let archive = place.join("archive.tar");
        let [from, to] = [&source, &archive].map(|path| path.to_str().expect("UTF-8"));
        let create =
            [format, &["--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", to, "-C", from, "."][..]].concat();
        run("tar", &create, &place);
        for folder in [&theirs, &ours] {
            fs::create_dir(folder).expect("mkdir");
        }
        let extract = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-xpf", to, "-C"];
        run("tar", &[&extract[..], &[theirs.to_str().expect("UTF-8")]].concat(), &place);
        let layer = fs::File::open(&archive).expect("open");
        let applied = Apply::new().apply(layer, &RootFd::open(&ours).expect("open"));
        if let Err(error) = applied {
            panic!("{format:?}: {error:#}");
        }
        let (theirs_seen, ours_seen) = (seen(&theirs), seen(&ours));
        for (theirs, ours) in theirs_seen.iter().zip(&ours_seen) {
            assert_eq!(theirs, ours, "{format:?}");
        }
        assert_eq!(theirs_seen.len(), ours_seen.len());
        assert!(blocks(&ours) <= blocks(&theirs) + 64, "{format:?}: {} and {}", blocks(&ours), blocks(&theirs));
    }
}
