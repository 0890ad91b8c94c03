#![forbid(unsafe_code)]

use super::*;
use crate::{DeviceAccess, DeviceKind, DeviceMatch, ErrorKind};

#[test]
fn ours_by_name() {
    let program = |name: Option<&str>| AttachedProgram { id: 1, name: name.map(str::to_owned), tag: None };
    assert!(program(Some("cellkit_dev")).is_ours());
    for name in [None, Some(""), Some("cellkit_dev2"), Some("cellkit"), Some("sd_devices")] {
        assert!(!program(name).is_ours(), "{name:?}");
    }
}

#[test]
fn the_step_in_words() {
    let step = Devices::describe_attach("/sys/fs/cgroup/web", &DeviceRules::oci_default());
    let wanted = r#"BPF_PROG_ATTACH("/sys/fs/cgroup/web", BPF_CGROUP_DEVICE, 27 instructions, BPF_F_ALLOW_MULTI)"#;
    assert_eq!(step.to_string(), wanted);
}

mod root {
    use super::*;

    #[test]
    fn the_verifiers_words_are_in_the_error() {
        faultkit::require!(root);
        // exit, without an answer.
        let code = [0x95, 0, 0, 0, 0, 0, 0, 0];
        let errno = bpf::load(&code, NAME, None).expect_err("no answer");
        let error = not_loaded(&code, errno);
        assert_eq!((error.operation(), error.raw_os_error()), ("BPF_PROG_LOAD", Some(libc::EACCES)));
        assert_eq!(error.kernel_text(), Some("R0 !read_ok"), "{error:#}");
        // A loop without end.
        let code = [[0x05, 0, 0xff, 0xff, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        let error = not_loaded(code.as_flattened(), Errno(libc::EINVAL));
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.kernel_text().is_some_and(|text| !text.is_empty()), "{error:#}");
    }

    /// The kernel takes every program that the compiler makes, of whatever size, as fast as it can: proptest's rules are
    /// small beside these. 8,192 comparisons in a row would be too many for the verifier.
    #[test]
    fn the_kernel_takes_hundreds_and_thousands_of_rules() {
        faultkit::require!(root);
        for (majors, minors) in [(1, 500), (500, 1), (40, 40), (1, 28_000), (9000, 1)] {
            let mut rules = DeviceRules::deny_all().allow("c *:7 r".parse().expect("rule"));
            for major in 0..majors {
                for minor in 0..minors {
                    let access = DeviceAccess::from_bits(((major + minor) % 7 + 1) as u8).expect("access");
                    rules = rules.allow(DeviceMatch::new(DeviceKind::Char, major, minor, access));
                }
            }
            let program = rules.compile().expect("compile");
            let loaded = bpf::load(program.as_bytes(), NAME, None);
            assert!(loaded.is_ok(), "{majors} {minors}: {:#}", not_loaded(program.as_bytes(), Errno(libc::EINVAL)));
        }
    }

    fn group(name: &str) -> Cgroup {
        let place = crate::Hierarchy::detect().expect("hierarchy").place().expect("place");
        let name = crate::CgroupName::new(name).expect("name");
        place.create(&name, &crate::Limits::new(), &mut ()).expect("create")
    }

    /// A program of somebody else, attached with `bpftool` and its flags.
    fn attach_foreign(group: &Cgroup, flags: &[&str]) -> u32 {
        let code = DeviceRules::allow_all().compile().expect("compile");
        let program = bpf::load(code.as_bytes(), b"somebody_else\0\0\0", None).expect("load");
        let id = bpf::info(program.as_fd()).expect("info").id;
        let mut bpftool = std::process::Command::new("bpftool");
        bpftool.args(["cgroup", "attach"]).arg(group.path()).args(["device", "id", &id.to_string()]).args(flags);
        assert!(bpftool.status().expect("bpftool").success());
        id
    }

    const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

    #[test]
    fn programs_of_others_stay() {
        faultkit::require!(root, cgroup2, program("bpftool"));
        faultkit::isolated!(|| {
            let group = group("shared");
            let foreign = attach_foreign(&group, &["multi"]);
            let names = || -> Vec<String> {
                let programs = group.devices().attached().expect("attached").programs;
                assert!(programs.iter().any(|program| program.id == foreign));
                programs.into_iter().filter_map(|program| program.name).collect()
            };
            for rules in [DeviceRules::deny_all(), DeviceRules::oci_default()] {
                group.devices().attach(&rules).expect("attach");
                assert_eq!(names(), ["somebody_else", "cellkit_dev"]);
            }
            // Two of ours, as a caller leaves them who is killed between attaching the first and looking: the next one
            // puts that right.
            let code = DeviceRules::allow_all().compile().expect("compile");
            let second = bpf::load(code.as_bytes(), NAME, None).expect("load");
            bpf::attach(group.as_fd(), second.as_fd(), None).expect("attach");
            assert_eq!(names(), ["somebody_else", "cellkit_dev", "cellkit_dev"]);
            group.devices().attach(&DeviceRules::deny_all()).expect("attach");
            assert_eq!(names(), ["somebody_else", "cellkit_dev"]);
            group.devices().detach().expect("detach");
            assert_eq!(names(), ["somebody_else"]);
            group.remove(LIMIT).expect("remove");
        });
    }

    #[test]
    fn a_program_that_wants_to_be_alone_is_named() {
        faultkit::require!(root, cgroup2, program("bpftool"));
        faultkit::isolated!(|| {
            let above = group("above");
            let below = above.path().join("below");
            std::fs::create_dir(&below).expect("mkdir");
            let below = Cgroup::open(below).expect("open");
            let refused = |group: &Cgroup| {
                let error = group.devices().attach(&DeviceRules::deny_all()).expect_err("alone");
                assert_eq!((error.kind(), error.operation()), (ErrorKind::Permission, "BPF_PROG_ATTACH"));
                error.hint().unwrap_or_default().to_owned()
            };
            let id = attach_foreign(&above, &[]);
            let hint = format!("the group {:?} has a device program that was attached without", above.path());
            for group in [&above, &below] {
                let said = refused(group);
                assert!(said.starts_with(&hint) && said.ends_with(&format!("show id {id}")), "{said}");
            }
            assert_eq!(above.devices().attached().expect("attached").mode, Some(AttachMode::Alone));
            above.remove(LIMIT).expect("remove");

            // One that may be overridden keeps its own group to itself, and leaves the groups below alone.
            let above = group("above");
            let below = above.path().join("below");
            std::fs::create_dir(&below).expect("mkdir");
            let below = Cgroup::open(below).expect("open");
            attach_foreign(&above, &["override"]);
            assert_eq!(above.devices().attached().expect("attached").mode, Some(AttachMode::Override));
            assert!(refused(&above).starts_with(&hint));
            below.devices().attach(&DeviceRules::deny_all()).expect("attach");
            above.remove(LIMIT).expect("remove");
        });
    }
}
