use std::fs;

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn outside_root_may_everything_and_root_of_a_user_namespace_nothing() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            let before = mounts();
            let said = stdout(&mut example("escape_as_nobody"));
            assert_eq!(mounts(), before, "nothing is mounted where others see it");
            let (without, with) = said.split_once("with a user namespace\n").expect("both");
            assert_eq!(
                without.lines().map(str::trim).collect::<Vec<_>>(),
                [
                    "without a user namespace",
                    "root here is this uid outside, for so many: 0 4294967295",
                    "the secret outside belongs to: root",
                    "it reads: for root only",
                    "it writes: a file of its own",
                    "it takes over: the secret",
                ]
            );
            let with: Vec<&str> = with.lines().map(str::trim).collect();
            assert_eq!(with.len(), 5, "{said}");
            assert_eq!(with[0], "root here is this uid outside, for so many: 100000 65536");
            assert_eq!(with[1], "the secret outside belongs to: nobody");
            assert!(with[2].starts_with("it reads: ") && with[2].ends_with("Permission denied"), "{}", with[2]);
            assert!(with[3].starts_with("it writes: ") && with[3].ends_with("Permission denied"), "{}", with[3]);
            assert!(with[4].starts_with("it takes over: ") && with[4].contains("not permitted"), "{}", with[4]);
        });
    }

    /// The same by other means: who is uid 100000 of the machine to a file that only root may read?
    #[test]
    fn whom_the_kernel_takes_it_for() {
        faultkit::require!(root, program("unshare"), program("nsenter"), program("setpriv"));
        faultkit::isolated!(|| {
            let dir = faultkit::TempDir::new();
            let secret = dir.path().join("secret");
            fs::write(&secret, "for root only").expect("write");
            fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
            let read = |words: &[&str]| {
                let output = std::process::Command::new(words[0]).args(&words[1..]).arg("cat").arg(&secret).output();
                output.expect(words[0]).status.success()
            };
            assert!(read(&["env"]));
            assert!(!read(&["setpriv", "--reuid", "100000", "--regid", "100000", "--clear-groups"]));
        });
    }

    #[test]
    fn an_ordinary_user_is_told_that_it_takes_root() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let alice = faultkit::ordinary_user();
            let output = alice.command(alice.copy_of(faultkit::built_example("escape_as_nobody"))).output();
            let output = output.expect("start");
            assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("only root of the machine"), "{output:?}");
        });
    }
}
