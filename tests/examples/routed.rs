use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn one_container_reaches_the_other_without_a_bridge() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            assert_eq!(stdout(&mut example("routed")), "10.40.0.2 reached 10.40.0.3\n");
            assert!(!std::path::Path::new("/run/routed-example").exists(), "nothing stays");
        });
    }
}
