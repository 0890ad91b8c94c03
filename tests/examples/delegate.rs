mod root {
    use super::super::example;

    #[test]
    fn the_user_is_in_a_group_of_its_own_making_and_nothing_is_left() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let user = faultkit::ordinary_user();
            let program = user.copy_of(example("delegate").get_program());
            let script = "id -u; grep ^0:: /proc/self/cgroup; mount=$(findmnt -nt cgroup2 -o TARGET | tail -1)
                g=$mount$(sed -n 's/^0:://p' /proc/self/cgroup); stat -c '%u %n' $g/cgroup.procs | cut -d' ' -f1
                stat -c %u $g/.. $g/../cgroup.procs $g/../cgroup.subtree_control $g/../cgroup.max.depth
                mkdir $g/../another && rmdir $g/../another && echo made
                echo 1 2> /dev/null > $g/../cgroup.max.depth || echo refused; exit 7";
            let output = std::process::Command::new(&program)
                .args([&user.uid().to_string(), "sh", "-c", script])
                .output()
                .expect("start");
            let text = String::from_utf8(output.stdout).expect("text");
            let lines: Vec<&str> = text.lines().collect();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(7), "{text}{errors}");
            assert_eq!(lines.first(), Some(&"12345"), "{text}{errors}");
            assert!(lines[1].starts_with("0::/delegate-") && lines[1].ends_with("/mine"), "{text}");
            assert_eq!(lines[2..], ["12345", "12345", "12345", "12345", "0", "made", "refused"], "{text}{errors}");
            let usage = example("delegate").output().expect("start");
            assert_eq!(usage.status.code(), Some(2));
        });
    }
}
