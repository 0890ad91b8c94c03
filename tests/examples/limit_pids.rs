use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn a_loop_of_forks_ends_at_the_limit() {
        faultkit::require!(root, cgroup2("pids"));
        faultkit::isolated!(|| {
            let text = stdout(example("limit_pids").arg("9"));
            println!("{text}");
            // What a shell says when it cannot fork.
            assert!(text.starts_with("the shell ended with 2\n"), "{text}");
            // The shell has ended: those that it made are left, and none of them outlives the example.
            assert!(text.contains("8 tasks of at most 9, 1 forks refused\n"), "{text}");
            faultkit::reap_orphans();
        });
    }

    #[test]
    fn a_limit_that_is_none() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let output = example("limit_pids").arg("0").output().expect("start");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && error.contains("not between 1 and 4194304"), "{error}");
        });
    }
}
