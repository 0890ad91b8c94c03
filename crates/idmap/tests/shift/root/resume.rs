//! Killed at any system call and made again, a shift ends where one that was never interrupted does.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::num::NonZero;
use std::path::Path;
use std::process::Stdio;

use faultkit::{End, Failure, Fault, Sweep};
use idmap::{IdMaps, Result, Shift, Shifted};

use crate::tree::{expected, look, make, open, sh};

fn one_thread(maps: &IdMaps) -> Shift {
    Shift::to_outside(maps).threads(NonZero::<usize>::MIN)
}

fn told(result: Result<Shifted>) -> Result<(), Failure> {
    result.map(drop).map_err(|error| Failure::new(error.operation(), error.raw_os_error(), &error))
}

fn journal_at(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).expect("journal")
}

/// A few files with what a change of owner takes away, and a fresh copy of them for each run.
fn template(dir: &Path) {
    let template = dir.join("template");
    fs::create_dir(&template).expect("mkdir");
    sh(
        &template,
        "umask 022; mkdir d; echo >d/su; chown 3:4 d/su; chmod 6755 d/su; echo >ping; setcap cap_net_raw=ep ping
         chmod 4711 ping; ln ping d/again; echo >plain; setfacl -m u:33:r,g:1:rw d; setfacl -d -m u:7:r d; ln -s plain l
         setfacl -m u:5:r plain",
    );
}

fn fresh(dir: &Path) {
    sh(dir, "rm -rf tree journal; cp -a --preserve=all template tree");
}

fn one_thread_in(maps: &IdMaps) -> Shift {
    Shift::to_inside(maps).threads(NonZero::<usize>::MIN)
}

fn swept(maps: &IdMaps, to: impl Fn(u32) -> u32 + Copy, stride: usize) {
    swept_from(|_| {}, &one_thread(maps), to, stride);
}

fn swept_from(begin: impl Fn(&Path), shift: &Shift, to: impl Fn(u32) -> u32 + Copy, stride: usize) {
    let dir = faultkit::TempDir::new();
    template(dir.path());
    begin(&dir.path().join("template"));
    fresh(dir.path());
    let (tree, journal) = (dir.path().join("tree"), dir.path().join("journal"));
    let wanted = expected(&look(&tree), to, to);
    let sweep = Sweep::new(|counted| {
        fresh(dir.path());
        let (tree, journal) = (open(&tree), journal_at(&journal));
        told(counted.run(|| shift.apply_with_journal(&tree, &journal)))
    });
    let done = sweep.stride(stride).each(Fault::Kill, |run| {
        if run.end != End::Killed {
            return Err(format!("{:?}", run.end));
        }
        // Not even a second kill makes a difference: it is made again twice.
        for _ in 0..2 {
            shift
                .apply_with_journal(open(&tree), journal_at(&journal))
                .map_err(|error| format!("made again: {error:#}"))?;
        }
        let now = look(&tree);
        if now.len() != wanted.len() {
            return Err(format!("{} files, not {}", now.len(), wanted.len()));
        }
        let wrong = now.iter().zip(&wanted).find(|(now, wanted)| now != wanted);
        wrong.map_or(Ok(()), |(now, wanted)| Err(format!("{now}, not {wanted}")))
    });
    assert!(done.runs * stride > 100, "{done:?}");
}

#[test]
fn killed_at_each_system_call() {
    faultkit::require!(root, program("setfacl"), program("setcap"));
    faultkit::isolated!(limit_secs = 900, || {
        swept(&"100000:100000:65536".parse().expect("maps"), |id| id + 100_000, 1);
    });
}

#[test]
fn killed_at_each_system_call_on_the_way_inside() {
    faultkit::require!(root, program("setfacl"), program("setcap"));
    faultkit::isolated!(limit_secs = 900, || {
        // Directories become the caller's, and are changed before the names in them.
        let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
        let outside = |dir: &Path| {
            Shift::to_outside(&maps).apply(open(dir)).expect("shift");
        };
        swept_from(outside, &one_thread_in(&maps), |id| id.checked_sub(100_000).expect("an id outside"), 1);
    });
}

#[test]
fn killed_at_each_system_call_where_ids_are_old_and_new() {
    faultkit::require!(root, program("setfacl"), program("setcap"));
    faultkit::isolated!(limit_secs = 900, || {
        let maps = IdMaps::new("0:1:60000".parse().expect("map"), "0:1:60000".parse().expect("map"));
        swept(&maps, |id| id + 1, 2);
    });
}

#[test]
fn killed_at_any_moment_with_several_threads() {
    faultkit::require!(root, program("setfacl"), program("setcap"));
    faultkit::isolated!(limit_secs = 600, || {
        let dir = faultkit::TempDir::new();
        let template = dir.path().join("template");
        make(&template, Path::new("/nowhere"));
        sh(
            &template,
            "for d in 1 2 3 4 5 6; do mkdir many$d; for f in 1 2 3 4 5 6 7 8 9; do
               echo >many$d/$f; chown $d:$f many$d/$f; chmod 6755 many$d/$f; done; setcap cap_chown=ep many$d/1; done",
        );
        fresh(dir.path());
        let (tree, state) = (dir.path().join("tree"), dir.path().join("journal"));
        let to = |id: u32| if id == 0 { 1000 } else { 99_999 + id };
        let wanted = expected(&look(&tree), to, to);
        let mut unfinished = 0;
        for round in 0..40 {
            fresh(dir.path());
            // The shift is in another process of this test, which is killed after a while.
            for attempt in 0..3u64 {
                let mut child = std::process::Command::new(std::env::current_exe().expect("exe"))
                    .args(["root::resume::in_another_process", "--exact", "--ignored", "--test-threads=1"])
                    .env("SHIFT_TREE", &tree)
                    .env("SHIFT_JOURNAL", &state)
                    .env_remove("CELLKIT_ISOLATED")
                    .stdout(Stdio::null())
                    .spawn()
                    .expect("this test");
                std::thread::sleep(std::time::Duration::from_micros(1500 + 700 * ((round * 7 + attempt * 3) % 19)));
                child.kill().expect("kill");
                child.wait().expect("wait");
                unfinished += u32::from(!fs::read_to_string(&state).unwrap_or_default().ends_with("done\n"));
            }
            let maps = rootless();
            Shift::to_outside(&maps).apply_with_journal(open(&tree), journal_at(&state)).expect("made again");
            let now = look(&tree);
            assert_eq!(now.len(), wanted.len(), "round {round}");
            for (now, wanted) in now.iter().zip(&wanted) {
                assert_eq!(now, wanted, "round {round}");
            }
        }
        assert!(unfinished > 0, "no shift was killed before its end");
    });
}

fn rootless() -> IdMaps {
    let map = || "0:1000:1,1:100000:65536".parse().expect("map");
    IdMaps::new(map(), map())
}

#[test]
#[ignore = "run by killed_at_any_moment_with_several_threads, which kills it"]
fn in_another_process() {
    let (Some(tree), Some(state)) = (std::env::var_os("SHIFT_TREE"), std::env::var_os("SHIFT_JOURNAL")) else {
        panic!("SHIFT_TREE and SHIFT_JOURNAL say what is to be shifted");
    };
    let shift = Shift::to_outside(&rootless()).threads(NonZero::new(3).expect("threads"));
    shift.apply_with_journal(open(Path::new(&tree)), journal_at(Path::new(&state))).expect("shift");
}

#[test]
fn a_line_that_was_cut_off_does_not_count() {
    faultkit::require!(root, program("setcap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        template(dir.path());
        fresh(dir.path());
        let (tree, state) = (dir.path().join("tree"), dir.path().join("journal"));
        let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
        let wanted = expected(&look(&tree), |id| id + 100_000, |id| id + 100_000);
        one_thread(&maps).apply_with_journal(open(&tree), journal_at(&state)).expect("shift");
        let whole = fs::read(&state).expect("journal");
        assert!(whole.ends_with(b"done\n"));
        for length in 0..whole.len() {
            fresh(dir.path());
            // As after a kill within the write; nothing that the line speaks of was done, or all.
            let stat = sh(&tree, "stat -c %i .");
            let mut begun = String::from_utf8(whole.clone()).expect("text");
            let old = begun.split([' ', ':']).nth(6).expect("inode").to_owned();
            begun = begun.replacen(&format!(":{old} "), &format!(":{} ", stat.trim()), 1);
            fs::write(&state, begun.get(..length.min(begun.len() - 1)).expect("part")).expect("write");
            one_thread(&maps).apply_with_journal(open(&tree), journal_at(&state)).expect("made again");
            assert_eq!(look(&tree), wanted, "{length}");
            let after = fs::read_to_string(&state).expect("journal");
            assert!(after.ends_with("done\n") && after.lines().filter(|line| *line == "done").count() == 1, "{after}");
        }
    });
}

#[test]
fn one_journal_for_one_shift_at_a_time() {
    faultkit::require!(root, program("flock"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let state = dir.path().join("journal");
        fs::create_dir(dir.path().join("tree")).expect("mkdir");
        let shift = Shift::to_outside(&rootless());
        let mut other = std::process::Command::new("flock")
            .args(["-x", "journal", "sh", "-c", "echo locked; read x"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock");
        let mut line = [0; 7];
        std::io::Read::read_exact(other.stdout.as_mut().expect("pipe"), &mut line).expect("read");
        let tree = dir.path().join("tree");
        let error = shift.apply_with_journal(open(&tree), journal_at(&state)).expect_err("locked");
        assert_eq!(error.kind(), cellkit_core::ErrorKind::Busy, "{error}");
        drop(other.stdin.take());
        other.wait().expect("wait");
        let mine = journal_at(&state);
        shift.apply_with_journal(open(&tree), &mine).expect("free again");
        sh(dir.path(), "flock -n journal true");
        drop(mine);
    });
}
