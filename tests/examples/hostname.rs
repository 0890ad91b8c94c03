use std::process::Command;

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn inside_and_outside() {
        faultkit::require!(root, program("unshare"));
        faultkit::isolated!(|| {
            let script = r#"unshare --uts sh -c 'hostname "$0"; uname -n' bizarro; uname -n"#;
            let real = stdout(Command::new("sh").args(["-c", script]));
            assert_eq!(stdout(example("hostname").arg("bizarro")), real);
            assert_eq!(real.lines().next(), Some("bizarro"));
            let refused = example("hostname").arg("x".repeat(65)).output().expect("start");
            assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
        });
    }
}
