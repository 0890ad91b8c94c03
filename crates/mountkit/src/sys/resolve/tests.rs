//! Both resolvers asked the same: each answer is the same file or the same errno.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use faultkit::TempDir;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::sys;

const FLAGS: [i32; 7] = [
    libc::O_PATH,
    libc::O_PATH | libc::O_DIRECTORY,
    libc::O_PATH | libc::O_NOFOLLOW,
    libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY,
    libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY,
    libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW,
    libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY,
];

/// The file that was found, and what may be done with the descriptor.
type Answer = Result<((u32, u32), u64, u64, u64), Errno>;

fn ask(root: &fs::File, resolver: Resolver, path: &[u8], flags: i32, links: Links) -> Answer {
    let path = CString::new(path).expect("no NUL");
    let fd = owned(open_in_root(Root { fd: root.as_raw_fd(), resolver }, &path, flags, links))?;
    let stat = sys::statx(fd.as_raw_fd()).expect("statx");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("fdinfo");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
    let flags = u64::from_str_radix(flags, 8).expect("octal");
    // The walk says O_NOFOLLOW and O_DIRECTORY also where it was not asked for; neither does anything to what is open.
    let flags = flags & !((libc::O_NOFOLLOW | libc::O_DIRECTORY) as u64);
    Ok((stat.device, stat.inode, stat.mount_id, flags))
}

#[track_caller]
fn agree(root: &fs::File, path: &[u8]) {
    for flags in FLAGS {
        for links in [Links::Inside, Links::Refused] {
            let ask = |resolver| ask(root, resolver, path, flags, links);
            let (mut kernel, walk) = (ask(Resolver::Kernel), ask(Resolver::UserSpace));
            // When somebody renames anything meanwhile the kernel begins again, and goes on counting links: asked once more,
            // it gets as far as it says.
            for _ in 0..100 {
                if kernel == Err(Errno(libc::ELOOP)) && walk.is_ok() {
                    kernel = ask(Resolver::Kernel);
                }
            }
            let shown = String::from_utf8_lossy(path.get(..200).unwrap_or(path)).into_owned();
            assert_eq!(walk, kernel, "{shown:?} with {flags:#o}, {links:?}");
        }
    }
}

fn open(dir: impl AsRef<Path>) -> fs::File {
    crate::host_path::open_dir(dir.as_ref()).expect("the root")
}

/// What stands at one place of a random tree.
#[derive(Clone, Debug)]
enum Thing {
    Dir(u32),
    File(u32),
    Link(String),
    Fifo,
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => Just("a".to_owned()), 6 => Just("b".to_owned()), 4 => Just("c".to_owned()), 5 => Just("..".to_owned()),
        2 => Just(".".to_owned()), 1 => Just(String::new()), 1 => Just("missing".to_owned()),
        1 => Just("n".repeat(255)), 1 => Just("n".repeat(256)),
    ];
    (any::<bool>(), prop::collection::vec(part, 1..7), 0..4).prop_map(|(absolute, parts, end)| {
        let start = if absolute { "/" } else { "" };
        let end = if end == 0 { "/" } else { "" };
        let path = format!("{start}{}{end}", parts.join("/"));
        if path.is_empty() { "a".to_owned() } else { path }
    })
}

fn thing() -> impl Strategy<Value = Thing> {
    let mode = prop_oneof![8 => Just(0o755), 1 => Just(0o600), 1 => Just(0o500), 1 => Just(0o000)];
    let file_mode = prop_oneof![4 => Just(0o644), 1 => Just(0o200), 1 => Just(0o000)];
    prop_oneof![
        6 => mode.prop_map(Thing::Dir), 2 => file_mode.prop_map(Thing::File), 8 => path().prop_map(Thing::Link),
        1 => Just(Thing::Fifo),
    ]
}

/// Makes the tree from the top down. Modes come last, so that they do not stop the making.
fn make(root: &Path, things: &[(usize, usize, Thing)]) -> Vec<(PathBuf, u32)> {
    let mut dirs = vec![root.to_owned()];
    let mut modes = Vec::new();
    for (place, name, thing) in things {
        let path = dirs[place % dirs.len()].join(["a", "b", "c", &"n".repeat(255)][name % 4]);
        match thing {
            Thing::Dir(mode) if fs::create_dir(&path).is_ok() => {
                modes.push((path.clone(), *mode));
                dirs.push(path);
            }
            // Not through a link that is there already, which may lead to the machine's own `/a`.
            Thing::File(mode) if fs::File::create_new(&path).is_ok() => modes.push((path, *mode)),
            Thing::Link(target) => drop(symlink(target, &path)),
            Thing::Fifo if !path.exists() => drop(std::process::Command::new("mkfifo").arg(&path).output()),
            _ => {}
        }
    }
    for (path, mode) in modes.iter().rev() {
        fs::set_permissions(path, fs::Permissions::from_mode(*mode)).expect("chmod");
    }
    modes
}

/// 80 trees, 20 paths in each, seven ways to open and two to treat links: 22,400 questions.
#[test]
fn random_trees_and_paths() {
    let things = prop::collection::vec((0..8_usize, 0..4_usize, thing()), 1..24);
    let paths = prop::collection::vec(path(), 20);
    let mut runner = TestRunner::new(Config { cases: 80, failure_persistence: None, ..Config::default() });
    runner
        .run(&(things, paths), |(things, paths)| {
            let dir = TempDir::new();
            let modes = make(dir.path(), &things);
            let root = open(&dir);
            for path in &paths {
                agree(&root, path.as_bytes());
            }
            for (path, _) in modes {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn what_is_at_the_edge() {
    let dir = TempDir::new();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("d/e/f")).expect("mkdir");
    fs::write(path("d/file"), "x").expect("write");
    symlink("/", path("d/top")).expect("symlink");
    symlink("///", path("tops")).expect("symlink");
    symlink("d/file/", path("file-as-dir")).expect("symlink");
    symlink("d/file/.", path("file-dot")).expect("symlink");
    symlink("../../../../d", path("up")).expect("symlink");
    symlink("loop", path("loop")).expect("symlink");
    symlink("d/", path("d-slash")).expect("symlink");
    // Chains as long as can be, and one longer.
    symlink("d", path("l1")).expect("symlink");
    for number in 2..=41 {
        symlink(format!("l{}", number - 1), path(&format!("l{number}"))).expect("symlink");
    }
    // As long as a link and a path can be.
    let long = format!("{}d", "./".repeat(2047));
    symlink(&long, path("long")).expect("symlink");
    let deep = format!("d/{}file", "e/../".repeat(700));
    symlink(&deep, path("deep")).expect("symlink");
    let root = open(&dir);
    let mut paths: Vec<Vec<u8>> = [
        "/",
        ".",
        "..",
        "../..",
        "//",
        "/.",
        "d",
        "d/",
        "d/.",
        "d/..",
        "d/../",
        "d/../..",
        "d/e/f/../../..",
        "d/file",
        "d/file/",
        "d/file/.",
        "d/file/..",
        "d/file/x",
        "d/top",
        "d/top/",
        "d/top/d/top/d/file",
        "tops",
        "tops/d",
        "up",
        "up/e",
        "loop",
        "loop/",
        "loop/x",
        "d-slash",
        "d-slash/file",
        "file-as-dir",
        "file-as-dir/",
        "file-dot",
        "l39/file",
        "l40",
        "l40/file",
        "l41",
        "l41/file",
        "l20/top/l20/file",
        "l20/top/l21/file",
        "long",
        "long/file",
        "deep",
        "missing",
        "missing/",
        "missing/..",
        "d/missing/../file",
        "d/e/../file",
        "d\n",
        "\u{ff}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    paths.push(b"d/\xff\xfe".to_vec());
    paths.push(long.clone().into_bytes());
    paths.push(format!("./{long}").into_bytes());
    paths.push(format!("{}/", &long[2..]).into_bytes());
    paths.push([b"d/file/".to_vec(), vec![b'n'; 300]].concat());
    paths.push([b"d/".to_vec(), vec![b'n'; 300], b"/..".to_vec()].concat());
    for path in &paths {
        agree(&root, path);
    }
    for resolver in [Resolver::Kernel, Resolver::UserSpace] {
        let ask = |path: &[u8]| ask(&root, resolver, path, libc::O_PATH, Links::Inside);
        assert_eq!(ask(b""), Err(Errno(libc::ENOENT)), "{resolver:?}");
        assert_eq!(ask(&[b'/'; 4096]), Err(Errno(libc::ENAMETOOLONG)), "{resolver:?}");
        assert!(ask(&[b'/'; 4095]).is_ok(), "{resolver:?}");
        assert_eq!(ask(b"l41"), Err(Errno(libc::ELOOP)), "{resolver:?}");
        // A descriptor of something else is no root.
        let file = fs::File::open(path("d/file")).expect("open");
        for of_a_file in ["x", "/", ".", ".."] {
            let answer = super::tests::ask(&file, resolver, of_a_file.as_bytes(), libc::O_PATH, Links::Inside);
            assert_eq!(answer, Err(Errno(libc::ENOTDIR)), "{resolver:?} {of_a_file}");
        }
    }
}

#[test]
fn links_of_procfs() {
    let root = open("/");
    let pid = std::process::id();
    for path in [
        "proc/self",
        "proc/self/",
        "proc/self/comm",
        "proc/thread-self/comm",
        "proc/mounts",
        "proc/net/dev",
        "proc/self/exe",
        "proc/self/exe/",
        "proc/self/cwd",
        "proc/self/cwd/x",
        "proc/self/root/etc",
        "proc/self/fd/0",
        "proc/self/fd/0/",
        "proc/self/ns/net",
        "proc/self/../self/comm",
        "proc/self/root/../..",
    ] {
        agree(&root, path.as_bytes());
        let path = path.replace("self", &pid.to_string());
        agree(&root, path.as_bytes());
    }
    // And of the files that this machine happens to have.
    for path in [
        "etc/os-release",
        "bin/sh",
        "etc/mtab",
        "usr/bin/awk",
        "lib64/ld-linux-x86-64.so.2",
        "dev/stdin",
        "dev/fd/0",
        "sys/class/net/lo/",
    ] {
        agree(&root, path.as_bytes());
    }
}

/// Trees that cost more than any honest one does: given up in bounded time, with bounded memory.
#[test]
fn absurd_trees_are_given_up() {
    let dir = TempDir::new();
    let mut deepest = PathBuf::from("top");
    for _ in 0..300 {
        deepest.push("d");
    }
    fs::create_dir_all(dir.path().join(&deepest)).expect("mkdir");
    let down = "d/".repeat(300);
    symlink(format!("{}{down}", "../".repeat(300)), dir.path().join(&deepest).join("again")).expect("symlink");
    let root = open(&dir);
    let path = format!("{}{}", deepest.join("again").display(), "/again".repeat(38));
    assert_eq!(ask(&root, Resolver::UserSpace, path.as_bytes(), libc::O_PATH, Links::Inside), Err(Errno(libc::ELOOP)));
    // Bodies that wait for each other, more than 16 KiB of them: an error on the way is the right one, and the end is not
    // reached.
    for number in 0..6 {
        let body = format!("w{}/{}", number + 1, "./".repeat(2040));
        symlink(body, dir.path().join(format!("w{number}"))).expect("symlink");
    }
    agree(&root, b"w0");
    symlink(format!("loop/{}", "./".repeat(2040)), dir.path().join("loop")).expect("symlink");
    agree(&root, b"loop");
    fs::create_dir(dir.path().join("w6")).expect("mkdir");
    let of = |resolver| super::tests::ask(&root, resolver, b"w0", libc::O_PATH, Links::Inside);
    assert!(of(Resolver::Kernel).is_ok());
    assert_eq!(of(Resolver::UserSpace), Err(Errno(libc::ENAMETOOLONG)));
    let of = |resolver| super::tests::ask(&root, resolver, b"w3", libc::O_PATH, Links::Inside);
    assert_eq!(of(Resolver::Kernel), of(Resolver::UserSpace));
}

mod root {
    use super::*;

    /// An ordinary user's answers depend on the modes, which root does not see.
    #[test]
    fn random_trees_as_an_ordinary_user() {
        faultkit::require!(root);
        let user = faultkit::ordinary_user();
        let program = user.copy_of(std::env::current_exe().expect("this program"));
        for test in ["random_trees_and_paths", "what_is_at_the_edge", "a_directory_that_may_not_be_passed"] {
            let name = format!("sys::resolve::tests::{test}");
            let output = user.command(&program).args([&name, "--exact", "--nocapture"]).output().expect("run");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{text}{:?}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    #[test]
    fn where_something_is_mounted() {
        faultkit::require!(root, program("mount"));
        faultkit::isolated!(|| {
            let dir = TempDir::new();
            let path = |name: &str| dir.path().join(name);
            for name in ["a/b/c", "m", "p", "n", "outer"] {
                fs::create_dir_all(path(name)).expect("mkdir");
            }
            let mount = |arguments: &[&str], at: &Path| {
                let status = std::process::Command::new("mount").args(arguments).arg(at).status().expect("mount");
                assert!(status.success(), "{arguments:?}");
            };
            mount(&["-t", "tmpfs", "none"], &path("m"));
            fs::create_dir_all(path("m/x/y")).expect("mkdir");
            symlink("../../..", path("m/x/y/up")).expect("symlink");
            symlink("/m/x", path("a/b/to-x")).expect("symlink");
            mount(&["-t", "tmpfs", "again"], &path("m/x/y"));
            mount(&["-t", "proc", "proc"], &path("p"));
            mount(&["--bind", dir.path().join("a").to_str().expect("text")], &path("outer"));
            mount(&["-t", "tmpfs", "-o", "nosymfollow", "none"], &path("n"));
            symlink("/a", path("n/link")).expect("symlink");
            let root = open(&dir);
            for path in [
                "m",
                "m/..",
                "m/x/..",
                "m/x/y/..",
                "m/x/y/../..",
                "m/x/y/../../..",
                "m/x/y/../../../..",
                "a/b/to-x/y",
                "a/b/to-x/y/..",
                "m/x/y/up",
                "outer/b/to-x",
                "outer/../a",
                "outer/b/..",
                "p/self",
                "p/self/root",
                "p/mounts",
                "p/1/cwd",
                "n/link",
                "n/link/b",
                "n/..",
            ] {
                agree(&root, path.as_bytes());
            }
            for at in ["n", "outer", "p", "m/x/y", "m"] {
                assert!(std::process::Command::new("umount").arg(path(at)).status().expect("umount").success());
            }
        });
    }
}

#[test]
fn a_directory_that_may_not_be_passed() {
    faultkit::require!(user);
    let dir = TempDir::new();
    fs::create_dir_all(dir.path().join("shut/in")).expect("mkdir");
    symlink("shut/in", dir.path().join("link")).expect("symlink");
    fs::set_permissions(dir.path().join("shut"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let root = open(&dir);
    for path in ["shut", "shut/", "shut/.", "shut/..", "shut/in", "shut/in/..", "link", "link/x", "shut/missing"] {
        agree(&root, path.as_bytes());
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o000)).expect("chmod");
    for path in ["/", ".", "..", "shut", "/shut", "//"] {
        let path = path.as_bytes();
        for flags in [libc::O_PATH, libc::O_PATH | libc::O_DIRECTORY] {
            let answers = [Resolver::Kernel, Resolver::UserSpace]
                .map(|resolver| ask(&root, resolver, path, flags, Links::Inside));
            assert_eq!(answers[0], answers[1], "{path:?}");
        }
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
    fs::set_permissions(dir.path().join("shut"), fs::Permissions::from_mode(0o700)).expect("chmod");
}
