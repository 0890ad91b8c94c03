use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn two_namespaces_reach_each_other() {
        faultkit::require!(root, program("ip"), program("ping"));
        faultkit::isolated!(|| {
            let text = stdout(&mut example("veth_bridge"));
            for said in ["1 packets transmitted, 1 received", "br0 Up", "a0 Up", "b0 Up"] {
                assert!(text.contains(said), "{said}: {text}");
            }
            // As ip sees it from inside.
            let text = stdout(example("veth_bridge").args(["ip", "-d", "address", "show", "dev", "eth0"]));
            for said in ["eth0@if", "link-netnsid", " veth ", "inet 10.7.0.1/24"] {
                assert!(text.contains(said), "{said}: {text}");
            }
            // A command that fails is told of.
            let refused =
                example("veth_bridge").args(["ping", "-c", "1", "-W", "1", "10.7.0.9"]).output().expect("start");
            let error = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && error.contains("the command failed"), "{error}");
            let missing = example("veth_bridge").arg("no-such-program").output().expect("start");
            assert!(String::from_utf8_lossy(&missing.stderr).contains("ENOENT"), "{missing:?}");
        });
    }
}
