use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn what_ip_changes_is_told_line_by_line() {
        faultkit::require!(root, program("ip"));
        faultkit::isolated!(|| {
            let ip = |args: &str| stdout(Command::new("ip").args(args.split(' ')));
            let mut monitor = example("monitor").stdout(Stdio::piped()).spawn().expect("start");
            let mut lines =
                BufReader::new(monitor.stdout.take().expect("piped")).lines().map(|line| line.expect("a line"));
            // Reads up to a line that is wanted.
            let mut until = |wanted: &str| {
                let mut seen = Vec::new();
                for line in lines.by_ref() {
                    if line.contains(wanted) {
                        return line;
                    }
                    seen.push(line);
                }
                panic!("no {wanted:?} in {seen:#?}")
            };
            assert!(until("link").starts_with("+ link 1: lo mtu 65536"));
            until("= that is all");
            ip("link add va type veth peer name vb");
            until("+ link");
            ip("link set va mtu 1400");
            until(": va mtu 1400 down");
            ip("address add 10.1.0.1/24 dev va");
            until("+ address 10.1.0.1/24");
            ip("link set va up");
            ip("link set vb up");
            until("+ route 10.1.0.0/24");
            ip("route add 10.2.0.0/16 via 10.1.0.2");
            until("+ route 10.2.0.0/16 via 10.1.0.2");
            // The kernel does not mention this one.
            ip("link set va down");
            until("- route 10.2.0.0/16 via 10.1.0.2");
            ip("link delete va");
            until("- link");
            monitor.kill().expect("kill");
            monitor.wait().expect("wait");
            assert_eq!(example("monitor").arg("nonsense").status().expect("start").code(), Some(2));
        });
    }
}
