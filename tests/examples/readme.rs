use super::example;

mod rootless {
    use super::*;

    #[test]
    fn a_container_of_an_ordinary_user() {
        faultkit::require!(user, userns, program("newuidmap"));
        faultkit::isolated!(|| {
            // Where something is mounted below /etc, it is read-only inside, and touch says so: not what is tested here.
            let said = example("readme").output().expect("start");
            assert_eq!(String::from_utf8_lossy(&said.stdout), "I am 1 on web, uid 0\n", "{said:?}");
            assert!(!std::path::Path::new("/etc/gone-again").exists(), "the host's own /etc");
        });
    }
}
