use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use super::{example, stdout};

mod root {
    use super::*;

    /// What the server says at this port of this machine.
    fn get(address: &str) -> String {
        let mut stream = TcpStream::connect(address).expect(address);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answer");
        answer.rsplit_once("\r\n\r\n").expect("a body").1.to_owned()
    }

    #[test]
    fn each_is_reached_by_its_own_port_and_nothing_is_left() {
        faultkit::require!(root, program("ip"), program("nft"));
        faultkit::isolated!(|| {
            let dir = faultkit::TempDir::new();
            stdout(Command::new("ip").args("address add 192.0.2.1/32 dev lo".split(' ')));
            let start = || {
                example("port_80_twice")
                    .arg(dir.path().join("state"))
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
            };
            let mut child = start().expect("start");
            let mut output = BufReader::new(child.stdout.take().expect("pipe"));
            output.read_line(&mut String::new()).expect("ready");
            assert_eq!((get("192.0.2.1:8081"), get("192.0.2.1:8082")), ("one\n".to_owned(), "two\n".to_owned()));
            let rules = stdout(Command::new("nft").args(["list", "map", "inet", "port80", "published4"]));
            assert!(rules.contains("tcp . 8081 comment \"one\" : 10.209.0.2 . 80"), "{rules}");
            assert!(rules.contains("tcp . 8082 comment \"two\" : 10.209.0.3 . 80"), "{rules}");
            drop(child.stdin.take());
            assert!(child.wait().expect("wait").success());

            // A port that is in use: what was made for the first is removed.
            let taken = std::net::TcpListener::bind("0.0.0.0:8082").expect("bind");
            let refused = start().expect("start").wait_with_output().expect("wait");
            assert!(!refused.status.success());
            drop(taken);
            assert_eq!(stdout(Command::new("nft").args(["list", "ruleset"])), "");
            assert!(!stdout(Command::new("ip").args(["-o", "link"])).contains("port80"));
            stdout(Command::new("ip").args("address delete 192.0.2.1/32 dev lo".split(' ')));
            assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
        });
    }
}
