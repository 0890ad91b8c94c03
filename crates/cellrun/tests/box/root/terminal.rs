//! `-t`, under a terminal that script(1) makes.

use std::fs;
use std::process::Command;

use crate::run::{Running, boxed, children, eventually, host, nothing_is_left, program};

/// `cellrun box -t OPTIONS -- sh -c SCRIPT` in a terminal of 33 by 101, and then what the terminal is set to.
fn start(options: &str, script: &str) -> Running {
    let line = format!(
        "stty rows 33 cols 101; '{}' box --net none -t {options} -- bash --norc -c '{script}'; echo status $?; \
         stty -a | grep -o ' -*icanon'",
        program().display()
    );
    Running::start(Command::new("script").args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh"))
}

/// The process of cellrun below, by its name.
fn cellrun_below(pid: i32) -> Option<i32> {
    let is = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "cellrun");
    children(pid).into_iter().find_map(|child| if is(child) { Some(child) } else { cellrun_below(child) })
}

#[test]
fn a_terminal_of_its_own() {
    faultkit::require!(root, program("script"), program("stty"));
    faultkit::isolated!(|| {
        for options in ["", "--init", "--user 1000:1000", "--userns 100000:100000:65536"] {
            let mut running = start(
                options,
                "tty; until test \"$(stty size)\" = \"33 101\"; do sleep 0.01; done; stty size; stat -c \"%F\" /dev/console; ls -A /dev/pts | sort; cat /proc/self/stat | cut -d\" \" -f7; \
                 trap changed=yes WINCH; echo ready; \
                 while ! read -t 0.1 line; do test -z \"$changed\" || stty size; done; echo got $line; exit 9",
            );
            assert_eq!(running.line(), "/dev/pts/0", "{options}");
            assert_eq!(running.line(), "33 101", "{options}");
            assert_eq!(running.line(), "character special file", "{options}");
            assert_eq!((running.line(), running.line()), ("0".into(), "ptmx".into()), "{options}");
            // Field 7: the controlling terminal, major 136.
            let number: u32 = running.line().parse().expect("a device number");
            assert_eq!(number >> 8, 136, "{options}");
            assert_eq!(running.line(), "ready");

            // The size follows.
            let cellrun = cellrun_below(running.pid()).expect("cellrun");
            let terminal = fs::read_link(format!("/proc/{cellrun}/fd/0")).expect("terminal");
            host(&format!("stty -F {} rows 40 cols 120", terminal.display()));
            // stty sets rows and columns one after the other, and a signal that comes while bash handles the one before is
            // lost: from the first one on, the payload says the size again and again.
            assert_eq!(running.until("120"), "40 120", "{options}");

            // What is typed arrives, and is echoed by the container's terminal, once.
            running.write("hello\n");
            let mut echoed = running.line();
            while echoed == "40 120" {
                echoed = running.line();
            }
            assert_eq!(echoed, "hello", "{options}");
            assert_eq!(running.until("got"), "got hello", "{options}");
            assert_eq!(running.line(), "status 9", "{options}");
            assert_eq!(running.line(), " icanon", "the caller's terminal is as it was");
            running.end();
        }
        nothing_is_left();
    });
}

#[test]
fn the_size_is_there_from_the_beginning() {
    faultkit::require!(root, program("script"), program("stty"));
    faultkit::isolated!(|| {
        for _ in 0..30 {
            let mut running = start("", "stty size");
            assert_eq!(running.line(), "33 101");
            running.end();
        }
        nothing_is_left();
    });
}

#[test]
fn keys_reach_the_payload_as_signals() {
    faultkit::require!(root, program("script"), program("stty"));
    faultkit::isolated!(|| {
        let mut running = start("", "trap \"echo interrupted; exit 6\" INT; echo ready; while :; do sleep 0.05; done");
        running.until("ready");
        running.write("\x03");
        assert_eq!(running.until("interrupted").trim_start_matches("^C"), "interrupted");
        assert_eq!(running.line(), "status 6");
        running.end();
        // A large output arrives whole.
        let mut running = start("", "seq 20000; echo done");
        running.until("19999");
        assert_eq!(running.line(), "20000");
        assert_eq!(running.line(), "done");
        running.end();
        nothing_is_left();
    });
}

#[test]
fn without_a_terminal() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let said = boxed(&["--net", "none", "-t", "--", "true"]);
        assert_eq!(said.status, 125);
        assert!(said.failure().contains("ENOTTY"), "{said:?}");
        // And without -t the payload has none.
        let said = boxed(&["--net", "none", "--", "sh", "-c", "tty; test -e /dev/console || echo no console"]);
        assert_eq!(said.out, "not a tty\nno console\n");
        eventually("the end", || children(i32::try_from(std::process::id()).expect("a pid")).is_empty());
        nothing_is_left();
    });
}

#[test]
fn a_reader_that_goes_away_or_stops_does_not_hold_it() {
    faultkit::require!(root, program("script"), program("timeout"));
    faultkit::isolated!(|| {
        let program = crate::run::program();
        let program = program.to_str().expect("UTF-8");
        // The reader leaves after one line; the payload writes a megabyte more and ends by itself.
        let inner = format!(
            "{program} box --net none -t -- sh -c 'head -c 1000000 /dev/zero | tr \\\\0 x; exit 3' | head -c 10; true"
        );
        let output = std::process::Command::new("timeout")
            .args(["-s", "KILL", "30", "script", "-qec", &inner, "/dev/null"])
            .stdin(std::process::Stdio::null())
            .output()
            .expect("script");
        assert!(output.status.success(), "{output:?}");
        nothing_is_left();
    });
}
