//! Layers made of upper directories.

use std::fs;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use faultkit::{End, Failure, Fault, Sweep, TempDir};
use mountkit::layers::{Create, LeftOut, Whiteouts};
use mountkit::{ErrorKind, RootFd};

use crate::create::{layer_of, names, piped, plain, refused};
use crate::{portrait, sys};

#[track_caller]
pub(super) fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
pub(super) fn sh(script: &str, dir: &Path) {
    run("sh", &["-ec", script, "sh", dir.to_str().expect("text")]);
}

#[test]
fn gnu_tar_unpacks_what_there_was() {
    faultkit::require!(root, program("tar"), program("mknod"), program("sha256sum"));
    faultkit::isolated!(|| {
        let (dir, out) = (TempDir::new(), TempDir::new());
        // A file system whose user attributes, too, are there on old kernels.
        run("mount", &["-t", "tmpfs", "none", dir.to_str().expect("text")]);
        sh(
            "cd $1; mkdir -p a/b d; chmod 1777 d; chmod 2755 a; echo x >a/file; chmod 4711 a/file; ln a/file a/hard
             ln -s /etc/passwd a/link; ln a/link d/hard-link-of-a-link; mknod a/null c 1 3; mknod a/disk b 300 70000
             mkfifo a/fifo; ln a/fifo d/fifo; : >empty",
            &dir,
        );
        chown(dir.join("a/b"), Some(3_000_000_000), Some(4_000_000_000)).expect("chown");
        lchown(dir.join("a/link"), Some(7), Some(8)).expect("chown");
        sys::set_attribute(&dir.join("a/file"), c"security.capability", &capability());
        sys::set_attribute(&dir.join("d"), c"trusted.mine", b"\0\n=bytes");
        for path in ["a/link", "a/null", "a/fifo"] {
            sys::set_attribute(&dir.join(path), c"trusted.note", path.as_bytes());
        }
        sys::set_mtime(&dir.join("a/link"), 1_234_567_890, 987_654_321);
        sys::set_mtime(&dir.join("a"), -1, 1);
        let (tar, created) = layer_of(&dir, &plain());
        assert_eq!(created.left_out, []);
        let args = ["-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f-", "-C"];
        piped("tar", &[args.as_slice(), &[out.to_str().expect("text")]].concat(), &tar);
        // GNU tar does not give attributes back to links and devices: they are in the archive all the same.
        let without = |lines: Vec<String>| -> Vec<String> {
            let special = ["a/link ", "a/null ", "a/fifo ", "d/fifo ", "d/hard-link-of-a-link "];
            let cut = |line: String| match special.iter().any(|path| line.starts_with(path)) {
                true => line.rsplit_once(" [").expect("attributes").0.to_owned(),
                false => line,
            };
            lines.into_iter().map(cut).collect()
        };
        assert_eq!(without(portrait::of(&out)), without(portrait::of(&dir)));
        let text = String::from_utf8_lossy(&tar);
        for record in ["SCHILY.xattr.trusted.note=a/link\n", "SCHILY.xattr.trusted.note=a/null\n"] {
            assert!(text.contains(record), "{record}");
        }
        run("umount", &[dir.to_str().expect("text")]);
    });
}

/// `cap_net_raw=ep`, as a file has it.
pub(super) fn capability() -> Vec<u8> {
    let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An overlay on folders of `dir`, with `options`.
pub(super) fn overlay(dir: &Path, options: &str) {
    let shown = dir.display();
    let data = format!("lowerdir={shown}/lower,upperdir={shown}/upper,workdir={shown}/work{options}");
    run("mount", &["-t", "overlay", "-o", &data, "none", dir.join("merged").to_str().expect("text")]);
}

/// Folders for an overlay, on a file system that upper directories may be on.
pub(super) fn stage() -> TempDir {
    let dir = TempDir::new();
    run("mount", &["-t", "tmpfs", "none", dir.to_str().expect("text")]);
    sh(
        "cd $1; mkdir lower upper work merged; cd lower; mkdir -p d/sub e; echo 1 >d/one; echo 2 >d/two; echo 3 >e/three; echo 4 >four",
        &dir,
    );
    dir
}

#[test]
fn what_an_overlay_removed_is_whiteouts() {
    // User attributes of tmpfs came with 6.6.
    faultkit::require!(root, kernel(6.6), program("tar"));
    faultkit::isolated!(|| {
        let trusted = (Whiteouts::OverlayTrusted, ",redirect_dir=nofollow,metacopy=off");
        for (form, options) in [trusted, (Whiteouts::OverlayUser, ",userxattr")] {
            let dir = stage();
            overlay(&dir, options);
            sh(
                "cd $1/merged; rm d/one; rm -r e; mkdir e; echo new >e/new; rm four; mkdir four; echo 5 >four/five
                 chmod 700 d/sub; echo more >>d/two",
                &dir,
            );
            run("umount", &[dir.join("merged").to_str().expect("text")]);
            let (tar, created) = layer_of(&dir.join("upper"), &plain().whiteouts(form));
            assert_eq!(
                names(&tar),
                [
                    "./",
                    "d/",
                    "d/.wh.one",
                    "d/sub/",
                    "d/two",
                    "e/",
                    "e/.wh..wh..opq",
                    "e/new",
                    "four/",
                    "four/.wh..wh..opq",
                    "four/five"
                ],
                "{form:?}"
            );
            assert_eq!(created.left_out, []);
            assert!(!String::from_utf8_lossy(&tar).contains("overlay."), "its book-keeping");
            run("umount", &[dir.to_str().expect("text")]);
        }
    });
}

#[test]
fn whiteouts_that_are_files() {
    faultkit::require!(root, program("tar"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        run("mount", &["-t", "tmpfs", "none", dir.to_str().expect("text")]);
        sh("cd $1; mkdir marked plain; : >marked/gone; : >plain/stays", &dir);
        sys::set_attribute(&dir.join("marked"), c"trusted.overlay.opaque", b"x");
        for path in ["marked/gone", "plain/stays"] {
            sys::set_attribute(&dir.join(path), c"trusted.overlay.whiteout", b"");
        }
        let (tar, _) = layer_of(&dir, &plain().whiteouts(Whiteouts::OverlayTrusted));
        // The kernel, too, knows them in marked directories only.
        assert_eq!(names(&tar), ["./", "marked/", "marked/.wh.gone", "plain/", "plain/stays"]);
        run("umount", &[dir.to_str().expect("text")]);
    });
}

#[test]
fn what_continues_in_a_lower_layer_is_refused() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        for (options, script, mark) in [
            (",redirect_dir=on", "mv $1/merged/d $1/merged/moved", "overlay.redirect"),
            (",metacopy=on,redirect_dir=on", "chmod 600 $1/merged/d/two", "overlay.metacopy"),
        ] {
            let dir = stage();
            overlay(&dir, options);
            sh(script, &dir);
            run("umount", &[dir.join("merged").to_str().expect("text")]);
            let error = refused(&dir.join("upper"), &Create::new());
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
            let text = format!("{error:#}");
            assert!(text.contains(mark) && text.contains("redirect_dir=nofollow"), "{text}");
            run("umount", &[dir.to_str().expect("text")]);
        }
    });
}

#[test]
fn marks_of_the_other_form_are_told() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        fs::create_dir(dir.join("d")).expect("mkdir");
        sys::set_attribute(&dir.join("d"), c"trusted.overlay.opaque", b"y");
        let (_, created) = layer_of(&dir, &plain().whiteouts(Whiteouts::OverlayUser));
        assert_eq!(created.left_out, [LeftOut::Attribute("d".into(), b"trusted.overlay.opaque".to_vec())]);
    });
}

#[test]
fn another_file_system_inside_is_refused() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        fs::create_dir_all(dir.join("a/b")).expect("mkdir");
        run("mount", &["--bind", dir.join("a").to_str().expect("text"), dir.join("a/b").to_str().expect("text")]);
        let error = refused(&dir, &plain());
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("\"a/b\""), "{error:#}");
        run("umount", &[dir.join("a/b").to_str().expect("text")]);
    });
}

#[test]
fn as_deep_as_a_layer_may_be_and_deeper() {
    faultkit::require!(root, program("tar"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        let here = std::env::current_dir().expect("cwd");
        std::env::set_current_dir(&dir).expect("chdir");
        for depth in 1..=4097 {
            fs::create_dir("d").expect("mkdir");
            std::env::set_current_dir("d").expect("chdir");
            // A name after the directory: found again by `..` on the way back.
            if depth == 200 || depth == 4095 {
                fs::write("e", depth.to_string()).expect("write");
            }
        }
        std::env::set_current_dir(&here).expect("chdir");
        let error = refused(&dir, &plain());
        assert_eq!(error.kind(), ErrorKind::Limit, "{}", error.operation());
        assert!(error.to_string().ends_with("more than 4096 directories within each other"), "{}", error.operation());
        std::env::set_current_dir(&dir).expect("chdir");
        for _ in 0..4096 {
            std::env::set_current_dir("d").expect("chdir");
        }
        fs::remove_dir("d").expect("rmdir");
        std::env::set_current_dir(&here).expect("chdir");
        let (tar, created) = layer_of(&dir, &plain());
        assert_eq!(created.entries, 4097 + 2);
        let names = names(&tar);
        assert_eq!(names.iter().filter(|name| name.ends_with("/e")).count(), 2);
        assert_eq!(names.last().map(|name| name.len()), Some(2 * 200 + 1));
        run("rm", &["-r", dir.join("d").to_str().expect("text")]);
    });
}

#[test]
fn every_call_that_fails_is_an_error() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        fs::create_dir(dir.join("d")).expect("mkdir");
        fs::write(dir.join("d/file"), "content").expect("write");
        symlink("target", dir.join("link")).expect("symlink");
        sys::set_attribute(&dir.join("link"), c"trusted.note", b"note");
        sys::set_attribute(&dir.join("d/file"), c"trusted.note", &[b'n'; 600]);
        let root = RootFd::open(&dir).expect("root");
        let body = |counted: &faultkit::Counted<'_>| {
            let result = counted.run(|| plain().create(&root, std::io::sink()));
            let result = result.map(drop);
            result.map_err(|error| Failure::new(error.operation().to_owned(), error.raw_os_error(), &error))
        };
        // Before Linux 6.13 the attributes of a link are read by a thread. It goes without a name, and without knowing how many processors there are.
        let of_a_thread = ["rt_sigprocmask", "mmap", "mprotect"];
        let sweep = Sweep::new(body).spare("the C library does not look, or ends the process", |call| {
            of_a_thread.contains(&call.name.as_str())
        });
        let swept = sweep.each(Fault::Fail(libc::EIO), |run| match &run.end {
            End::Returned(Err(failure)) if failure.errno == Some(libc::EIO) => Ok(()),
            End::Returned(Ok(())) if ["close", "prctl", "sched_getaffinity"].contains(&run.call.name.as_str()) => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        });
        assert!(swept.runs > 20, "{swept:?}");
    });
}

/// Where the kernel is older than the calls, the layer is the same.
#[test]
fn attributes_of_links_without_the_newest_calls() {
    // Which an older kernel has not got: there every test goes the other way.
    faultkit::require!(root, kernel(6.13));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        symlink("target", dir.join("link")).expect("symlink");
        sys::set_attribute(&dir.join("link"), c"trusted.note", b"note");
        let with = layer_of(&dir, &plain()).0;
        assert!(String::from_utf8_lossy(&with).contains("SCHILY.xattr.trusted.note=note\n"));
        let root = RootFd::open(&dir).expect("root");
        let body = |counted: &faultkit::Counted<'_>| {
            let mut layer = Vec::new();
            counted
                .run(|| plain().create(&root, &mut layer))
                .map_err(|error| Failure::new(error.operation().to_owned(), error.raw_os_error(), &error))?;
            if layer == with { Ok(()) } else { Err(Failure::new("another layer", None, "")) }
        };
        // getxattrat(2) and listxattrat(2), which the C library has no names for yet.
        let mut without = 0;
        Sweep::new(body).each(Fault::Fail(libc::ENOSYS), |run| match &run.end {
            End::Returned(Ok(())) if run.call.name == "close" => Ok(()),
            End::Returned(Ok(())) if ["syscall 464", "syscall 465"].contains(&run.call.name.as_str()) => {
                without += 1;
                Ok(())
            }
            End::Returned(Err(failure)) if failure.errno == Some(libc::ENOSYS) => Ok(()),
            other => Err(format!("{}: {other:?}", run.call.name)),
        });
        assert!(without > 0);
    });
}
