#![forbid(unsafe_code)]

use super::mechanism::Understands;
use super::*;
use cellkit_core::ErrorKind;

#[test]
fn layers_that_cannot_be() {
    let word = |overlay: &Overlay, word: &str| {
        let error = overlay.mount().expect_err(word);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    word(&Overlay::new(), "needs a lower directory");
    word(&Overlay::new().upper("/", "/"), "needs a lower directory");
    word(&Overlay::new().lower("/"), "say Bind");
    word(&Overlay::new().lowers(vec!["/"; 501]), "501 layers");
    word(&Overlay::new().lower("/").data("/").metacopy().redirect_dir(RedirectDir::On).volatile(), "volatile");
    word(&Overlay::new().lowers(["/", "/"]).xattrs(OverlayXattrs::User).metacopy(), "metacopy");
    assert!(Overlay::new().lower("/").forget_volatile().is_err());
}

#[test]
fn order_is_told_by_the_method() {
    let overlay = Overlay::new().lower("/a").lowers(["/b", "/c"]).lowers_from_base(["/e", "/d"]).lower("/f");
    assert_eq!(overlay, Overlay::new().lowers(["/a", "/b", "/c", "/d", "/e", "/f"]));
    assert_ne!(overlay, Overlay::new().lowers(["/a"]));
}

#[test]
fn a_path_that_is_missing_and_one_with_a_nul_byte() {
    let error = Overlay::new().lowers(["/no/such/layer", "/"]).mount().expect_err("missing");
    assert_eq!((error.kind(), error.operation()), (ErrorKind::NotFound, "open"), "{error}");
    assert!(error.to_string().contains("/no/such/layer"), "{error}");
    assert_eq!(Overlay::new().lowers(["/a\0b", "/"]).mount().expect_err("NUL").kind(), ErrorKind::Invalid);
}

mod root {
    use std::ffi::OsString;
    use std::fs;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    use super::*;
    use crate::RootFd;

    /// The mechanisms that this kernel has.
    fn mechanisms() -> Vec<Mechanism> {
        let best = understands().expect("overlay");
        let newer =
            [(Understands::Appending, Mechanism::Appending), (Understands::Descriptors, Mechanism::Descriptors)];
        let has = newer.into_iter().filter(|(needs, _)| best >= *needs).map(|(_, mechanism)| mechanism);
        [Mechanism::OneString, Mechanism::OnePage].into_iter().chain(has).collect()
    }

    /// Names with everything in them that somebody's parser might stumble over, and long ones.
    fn odd_name(number: usize) -> OsString {
        let mut name = match number % 8 {
            0 => b"a:b,c\\d".to_vec(),
            1 => b"lowerdir=x,upperdir=y".to_vec(),
            2 => b"line\nbreak and blanks\t".to_vec(),
            3 => vec![0xff, 0xfe, b'\\', b':'],
            4 => b"::".to_vec(),
            5 => b"\\".to_vec(),
            6 => "ünïcode 🦀".as_bytes().to_vec(),
            _ => b"plain".to_vec(),
        };
        name.extend(format!("{number}").into_bytes());
        // Half of them fill a whole name.
        if number % 2 == 0 {
            name.resize(255, b',');
        }
        OsString::from_vec(name)
    }

    struct Layers {
        dir: PathBuf,
        lowers: Vec<PathBuf>,
    }

    impl Layers {
        /// Layers deep down below odd names, each with a file of its own, and one that all have.
        fn make(dir: &Path, count: usize) -> Self {
            let deep = dir.join(OsString::from_vec(vec![b'x'; 255])).join(odd_name(0));
            fs::create_dir_all(&deep).expect("mkdir");
            let lowers: Vec<PathBuf> = (0..count).map(|number| deep.join(odd_name(number))).collect();
            for (number, lower) in lowers.iter().enumerate() {
                fs::create_dir(lower).expect("mkdir");
                fs::write(lower.join(format!("file{number}")), format!("{number}")).expect("write");
                fs::write(lower.join("top"), format!("{number}")).expect("write");
            }
            for name in ["up,per:", "w\\ork"] {
                fs::create_dir(deep.join(name)).expect("mkdir");
            }
            fs::create_dir(dir.join("at")).expect("mkdir");
            Self { dir: deep, lowers }
        }

        fn upper(&self) -> PathBuf {
            self.dir.join("up,per:")
        }

        fn clear(&self) {
            for name in ["up,per:", "w\\ork"] {
                fs::remove_dir_all(self.dir.join(name)).expect("rm");
                fs::create_dir(self.dir.join(name)).expect("mkdir");
            }
        }

        fn writable(&self) -> Overlay {
            Overlay::new().lowers(&self.lowers).upper(self.upper(), self.dir.join("w\\ork"))
        }
    }

    fn umount(at: &Path) {
        let status = std::process::Command::new("umount").arg(at).status().expect("umount");
        assert!(status.success());
    }

    fn tmpfs(at: &Path) {
        let status = std::process::Command::new("mount").args(["-t", "tmpfs", "x"]).arg(at).status().expect("mount");
        assert!(status.success());
    }

    /// From outside: by paths of the attached mount.
    fn check_all_is_there(layers: &Layers, at: &Path, what: &str) {
        let names: Vec<_> = fs::read_dir(at).expect("readdir").map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(names.len(), layers.lowers.len() + 1, "{what}");
        for number in 0..layers.lowers.len() {
            assert_eq!(fs::read_to_string(at.join(format!("file{number}"))).expect(what), format!("{number}"));
        }
        assert_eq!(fs::read_to_string(at.join("top")).expect("top"), "0", "{what}: the first is the topmost");
        fs::write(at.join("top"), "written").expect(what);
        assert_eq!(fs::read_to_string(layers.upper().join("top")).expect(what), "written");
        assert_eq!(fs::read_to_string(layers.lowers[0].join("top")).expect("top"), "0", "{what}");
    }

    #[test]
    fn every_mechanism_and_every_number_of_layers() {
        faultkit::require!(root, program("umount"));
        faultkit::isolated!(limit_secs = 300, || {
            let host = fs::read("/proc/self/mountinfo").expect("mountinfo");
            // Of one string 97 are the most; 500 are the most at all.
            for count in [1, 2, 34, 97, 98, 500] {
                let temp = faultkit::TempDir::new();
                let layers = Layers::make(&temp, count);
                let here = RootFd::open(&*temp).expect("open");
                for mechanism in mechanisms() {
                    if mechanism == Mechanism::OneString && count > 97 {
                        continue;
                    }
                    let what = format!("{count} layers by {mechanism:?}");
                    let mount = layers.writable().mount_by(Some(mechanism)).unwrap_or_else(|e| panic!("{what}: {e:#}"));
                    assert_eq!(fs::read("/proc/self/mountinfo").expect("mountinfo"), host, "{what} shows");
                    mount.attach(&here, "at").expect("attach");
                    check_all_is_there(&layers, &temp.join("at"), &what);
                    umount(&temp.join("at"));
                    layers.clear();
                }
            }
        });
    }

    #[test]
    fn one_layer_too_many() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let temp = faultkit::TempDir::new();
            let layers = Layers::make(&temp, 501);
            let error = layers.writable().mount().expect_err("501");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("501 layers, of which the kernel takes 500"), "{error}");
            // The kernel itself says no more than this.
            let dirs = open_all(&Overlay::new().lowers(&layers.lowers).lowers).expect("open");
            let settings = Options::default().settings(OverlayXattrs::Trusted);
            let request =
                Request { lowers: &dirs, data: &[], upper: None, settings: &settings, attrs: MountAttr::empty() };
            let mechanism = *mechanisms().last().expect("one");
            let error = request.make(mechanism).expect_err("501");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
        });
    }

    #[test]
    fn the_caller_is_where_it_was() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let temp = faultkit::TempDir::new();
            let layers = Layers::make(&temp, 3);
            let state = || {
                let ns = fs::read_link("/proc/self/ns/mnt").expect("ns");
                (std::env::current_dir().expect("cwd"), ns, fs::read("/proc/self/mountinfo").expect("mountinfo"))
            };
            let before = state();
            for mechanism in mechanisms() {
                layers.clear();
                drop(layers.writable().mount_by(Some(mechanism)).expect("mount"));
                assert_eq!(state(), before, "{mechanism:?}");
            }
        });
    }

    #[test]
    fn a_tree_that_is_shared_sees_nothing() {
        faultkit::require!(root, program("findmnt"));
        faultkit::isolated!(|| {
            let temp = faultkit::TempDir::new();
            tmpfs(&temp);
            let layers = Layers::make(&temp, 3);
            let run = |program: &str, args: &[&str]| {
                let output = std::process::Command::new(program).args(args).output().expect(program);
                assert!(output.status.success(), "{program} {args:?}");
                output.stdout
            };
            run("mount", &["--make-rshared", "/"]);
            // Somebody in another namespace who would be told of every mount.
            let mut peer = std::process::Command::new("unshare")
                .args([
                    "--mount",
                    "--propagation",
                    "slave",
                    "sh",
                    "-c",
                    "cat /proc/self/mountinfo; read x; cat /proc/self/mountinfo",
                ])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("unshare");
            let mut stdout = std::io::BufReader::new(peer.stdout.take().expect("stdout"));
            let mut first = String::new();
            std::io::BufRead::read_line(&mut stdout, &mut first).expect("a line");
            for mechanism in mechanisms() {
                layers.clear();
                drop(layers.writable().mount_by(Some(mechanism)).expect("mount"));
            }
            drop(peer.stdin.take());
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut stdout, &mut rest).expect("the rest");
            peer.wait().expect("wait");
            let all = first + &rest;
            let lines: Vec<&str> = all.lines().collect();
            let (before, after) = lines.split_at(lines.len() / 2);
            assert!(before.len() > 3);
            assert_eq!(before, after);
            run("mount", &["--make-rprivate", "/"]);
            umount(&temp);
        });
    }

    #[test]
    fn without_an_upper_directory_nothing_can_be_written() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let temp = faultkit::TempDir::new();
            let layers = Layers::make(&temp, 3);
            for mechanism in mechanisms() {
                let overlay = Overlay::new().lowers(&layers.lowers);
                overlay
                    .mount_by(Some(mechanism))
                    .expect("mount")
                    .attach(&RootFd::open(&*temp).expect("open"), "at")
                    .expect("attach");
                let error = fs::write(temp.join("at/new"), "").expect_err("read-only");
                assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{mechanism:?}");
                assert_eq!(fs::read_to_string(temp.join("at/file2")).expect("file2"), "2");
                umount(&temp.join("at"));
            }
        });
    }

    #[test]
    fn an_upper_directory_of_two_overlays() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            for mechanism in mechanisms() {
                let temp = faultkit::TempDir::new();
                let layers = Layers::make(&temp, 2);
                let first = layers.writable().mount_by(Some(mechanism)).expect("mount");
                let error = layers.writable().mount_by(Some(mechanism)).expect_err("in use");
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Busy, Some(libc::EBUSY)), "{error:#}");
                assert!(error.to_string().contains("up,per:"), "{error}");
                assert!(error.hint().is_some_and(|hint| hint.contains("another overlay")), "{error:#}");
                drop(first);
                let before: Vec<_> = fs::read_dir(layers.upper()).expect("readdir").collect();
                assert!(before.is_empty(), "the question left nothing");
                drop(layers.writable().mount_by(Some(mechanism)).expect("free again"));
            }
        });
    }

    #[test]
    fn descriptors_of_layers() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            for mechanism in mechanisms() {
                let temp = faultkit::TempDir::new();
                let layers = Layers::make(&temp, 4);
                let fd = |path: &Path| fs::File::open(path).expect("open");
                let overlay = layers.lowers.iter().fold(Overlay::new(), |overlay, lower| overlay.lower_fd(fd(lower)));
                let overlay = overlay.upper_fd(fd(&layers.upper()), fd(&layers.dir.join("w\\ork")));
                let mount =
                    overlay.mount_by(Some(mechanism)).unwrap_or_else(|error| panic!("{mechanism:?}: {error:#}"));
                mount.attach(&RootFd::open(&*temp).expect("open"), "at").expect("attach");
                check_all_is_there(&layers, &temp.join("at"), "by descriptor");
                umount(&temp.join("at"));
            }
        });
    }

    #[test]
    fn a_layer_that_is_mounted_nowhere() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let temp = faultkit::TempDir::new();
            let layers = Layers::make(&temp, 2);
            let bind = |path: &Path| crate::Bind::new(path).attrs(MountAttr::NOSUID).mount().expect("bind");
            let overlay = Overlay::new().lower_fd(bind(&layers.lowers[0])).lower_fd(bind(&layers.lowers[1]));
            let outcome = overlay.mount();
            if understands().expect("overlay") == Understands::Descriptors {
                let mount = outcome.expect("mount");
                assert_eq!(crate::sys::mount_flags(mount.as_fd().as_raw_fd()).expect("flags") & 2, 2, "nosuid is kept");
            } else {
                let error = outcome.expect_err("not before 6.15");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(format!("{error:#}").contains("6.15"), "{error:#}");
            }
        });
    }

    #[test]
    fn data_only_layers() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let temp = faultkit::TempDir::new();
            tmpfs(&temp);
            for name in ["lower", "data", "at"] {
                fs::create_dir(temp.join(name)).expect("mkdir");
            }
            // A file of the lower layer whose data is in the other one.
            fs::write(temp.join("data/blob"), "the data").expect("write");
            fs::File::create(temp.join("lower/file")).expect("create").set_len(8).expect("truncate");
            for (name, value) in [("trusted.overlay.metacopy", ""), ("trusted.overlay.redirect", "/blob")] {
                let status = std::process::Command::new("setfattr")
                    .args(["-n", name, "-v", value])
                    .arg(temp.join("lower/file"))
                    .status()
                    .expect("setfattr");
                assert!(status.success());
            }
            let overlay = Overlay::new().lower(temp.join("lower")).data(temp.join("data"));
            let overlay = overlay.metacopy().redirect_dir(RedirectDir::On);
            match understands().expect("overlay") {
                Understands::OnePage => {
                    let error = overlay.mount().expect_err("not before 6.5");
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                }
                _ => {
                    for mechanism in mechanisms() {
                        let mount =
                            overlay.mount_by(Some(mechanism)).unwrap_or_else(|e| panic!("{mechanism:?}: {e:#}"));
                        mount.attach(&RootFd::open(&*temp).expect("open"), "at").expect("attach");
                        assert_eq!(
                            fs::read_to_string(temp.join("at/file")).expect("read"),
                            "the data",
                            "{mechanism:?}"
                        );
                        assert!(!temp.join("at/blob").exists());
                        umount(&temp.join("at"));
                    }
                }
            }
            umount(&temp);
        });
    }

    /// What has names only the kernel's own parser takes apart, as the reference.
    #[test]
    fn more_text_than_the_kernel_reads_is_cut_in_silence_and_so_never_given() {
        faultkit::require!(root, program("findmnt"));
        faultkit::isolated!(|| {
            let temp = faultkit::TempDir::new();
            tmpfs(&temp);
            let names: Vec<String> = (0..37).map(|number| format!("{number:0100}")).collect();
            for name in names.iter().map(String::as_str).chain(["u", "w", "at"]) {
                fs::create_dir(temp.join(name)).expect("mkdir");
            }
            // By hand: as many layers as end just at the page's end, and the upper directory beyond it.
            let base = temp.to_str().expect("UTF-8").len() + 102;
            let fit = (4095 - "lowerdir=".len() + 1) / base;
            let all: Vec<PathBuf> = names.iter().take(fit).map(|name| temp.join(name)).collect();
            let text = all.iter().map(|path| path.to_str().expect("UTF-8")).collect::<Vec<_>>().join(":");
            let padded = format!("{}{}", "/".repeat(4095 - "lowerdir=".len() - text.len()), text);
            let options = format!("lowerdir={padded},upperdir={0}/u,workdir={0}/w", temp.display());
            let options = std::ffi::CString::new(options).expect("no NUL");
            let at = std::ffi::CString::new(temp.join("at").into_os_string().into_vec()).expect("no NUL");
            crate::sys::overlay::mount_page(c"overlay", &at, 0, &options).expect("in silence");
            assert!(fs::write(temp.join("at/x"), "").is_err(), "the kernel has lost the upper directory");
            umount(&temp.join("at"));
            // Ours, of the same layers.
            let overlay = Overlay::new().lowers(&all).upper(temp.join("u"), temp.join("w"));
            let mount = overlay.mount_by(Some(Mechanism::OnePage)).expect("mount");
            mount.attach(&RootFd::open(&*temp).expect("open"), "at").expect("attach");
            fs::write(temp.join("at/x"), "").expect("the upper directory is there");
            umount(&temp.join("at"));
            umount(&temp);
        });
    }
}
