use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn two_containers_share_a_network_namespace() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let text = stdout(&mut example("pod"));
            // Each is process 1 of its own, and the loopback interface is both's.
            assert_eq!(text, "the host reaches it: false\nprocess 1 visits: process 1 served 127.0.0.1\n");
        });
    }
}
