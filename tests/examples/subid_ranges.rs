use super::example;

mod root {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// An /etc of the test's own, in its own mount namespace.
    struct Etc(faultkit::TempDir);

    impl Etc {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = faultkit::TempDir::new();
            assert!(Command::new("chmod").arg("755").arg(&*dir).status().expect("chmod").success());
            for (name, content) in files {
                fs::write(dir.join(name), content).expect(name);
            }
            assert!(std::env::var_os("CELLKIT_ISOLATED").is_some(), "never in the machine's own mount namespace");
            assert!(Command::new("mount").arg("--bind").arg(&*dir).arg("/etc").status().expect("mount").success());
            Self(dir)
        }

        /// Adds a line to a file.
        fn add(&self, file: &str, line: &str) {
            let path = self.0.join(file);
            let content = fs::read_to_string(&path).expect(file);
            fs::write(path, format!("{content}{line}\n")).expect(file);
        }
    }

    impl Drop for Etc {
        fn drop(&mut self) {
            assert!(Command::new("umount").arg("/etc").status().expect("umount").success());
        }
    }

    const PASSWD: (&str, &str) = ("passwd", "root:x:0:0::/:\nann:x:12345:12345::/:\nbob:x:12346:12346::/:\n");
    const GROUP: (&str, &str) = ("group", "root:x:0:\nann:x:12345:\nbob:x:12346:\n");

    /// What it says to ann, and whether all is well.
    fn said_to_ann(args: &[&str]) -> (String, bool) {
        let user = faultkit::ordinary_user();
        let program = user.copy_of(faultkit::built_example("subid_ranges"));
        let output = user.command(program).args(args).output().expect("the example");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    }

    #[test]
    fn the_ranges_are_those_of_getsubids() {
        faultkit::require!(root, program("getsubids"));
        faultkit::isolated!(|| {
            let rows = "bob:100000:65536\nann:200000:1000\n12345:300000:65536\n";
            let _etc = Etc::new(&[PASSWD, GROUP, ("subuid", rows), ("subgid", rows)]);
            for name in ["ann", "bob"] {
                let theirs = |flags: &[&str]| {
                    let output = Command::new("getsubids").args(flags).arg(name).output().expect("getsubids");
                    let text = String::from_utf8(output.stdout).expect("text");
                    // INDEX: NAME START COUNT
                    text.lines().map(|line| line.split(' ').skip(2).collect::<Vec<_>>().join(":")).collect::<Vec<_>>()
                };
                let output = example("subid_ranges").args([name, "9"]).output().expect("the example");
                let said = String::from_utf8(output.stdout).expect("text");
                let ours = |kind: &str| -> Vec<String> {
                    let lines = said.lines().filter_map(|line| line.trim().strip_prefix(kind));
                    lines.map(|range| range.trim().to_owned()).collect()
                };
                assert_eq!((ours("uids"), ours("gids")), (theirs(&[]), theirs(&["-g"])), "{said}");
            }
        });
    }

    #[test]
    fn the_line_that_it_names_is_the_one_that_was_missing() {
        faultkit::require!(root, program("newuidmap"), program("newgidmap"));
        faultkit::isolated!(|| {
            let rows = "bob:100000:65536\nann:165530:100\n";
            let etc = Etc::new(&[PASSWD, GROUP, ("subuid", rows), ("subgid", rows)]);
            let (said, well) = said_to_ann(&[]);
            assert!(!well, "{said}");
            assert!(
                said.contains("beware: /etc/subuid: line 1 (bob:100000:65536) and line 2 (ann:165530:100) share"),
                "{said}"
            );
            for file in ["subuid", "subgid"] {
                let line = said.split(&format!("\" to /etc/{file}")).next().and_then(|text| text.rsplit('"').next());
                let line = line.expect("a line").to_owned();
                assert!(line.starts_with("ann:") && line.len() < 30, "{line}");
                etc.add(file, &line);
            }
            let (said, well) = said_to_ann(&[]);
            assert!(
                well && said.contains("0 to 65535 inside: Helper\n  uid 0 is 12345 outside, and so on: 1\n"),
                "{said}"
            );
            // Another's are not ann's to map, and that is said.
            let (said, well) = said_to_ann(&["bob"]);
            assert!(!well && said.contains("the ranges are those of \"bob\""), "{said}");
            assert_eq!(said_to_ann(&["ann", "many"]), (String::new(), false));
        });
    }
}
