//! What programs that watch links hear: `ip monitor link`.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::world::Ns;

/// A running `ip monitor link` in the test's namespace.
pub struct Watch {
    child: Child,
    lines: BufReader<ChildStdout>,
    marks: usize,
}

impl Watch {
    /// When this returns it is listening. It makes a veth pair `mark0`, whose alias it changes to tell before from after.
    pub fn start() -> Self {
        Ns::host().output("ip", "link add mark0 type veth peer name mark1");
        // The kernel tells of a new alias only while the link is up.
        Ns::host().output("ip", "link set mark0 up");
        let mut child = Command::new("ip")
            .args(["-o", "-d", "monitor", "link"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip monitor");
        let stdout = child.stdout.take().expect("stdout");
        // It prints nothing on its own: marked until the first is seen.
        nix::fcntl::fcntl(&stdout, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).expect("nonblocking");
        let mut watch = Self { child, lines: BufReader::new(stdout), marks: 0 };
        watch.since();
        watch
    }

    /// What was heard since the last time, but for the marks.
    pub fn since(&mut self) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(60);
        let mut heard = Vec::new();
        let mut line = String::new();
        self.mark();
        let mut next = Instant::now() + Duration::from_millis(500);
        loop {
            match self.lines.read_line(&mut line) {
                Ok(0) => panic!("ip monitor ended"),
                Ok(_) if line.contains(&format!("alias mark-{}-end", self.marks)) => return heard,
                Ok(_) => {
                    if !line.contains("mark0") && !line.contains("mark1") {
                        heard.push(line.trim_end().to_owned());
                    }
                    line.clear();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < until, "ip monitor says nothing");
                    if Instant::now() > next {
                        self.mark();
                        next += Duration::from_millis(500);
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Nobody hears of anything when this is done. What the kernel tells of a carrier comes late, up to a second after its
    /// cause, so it is done again where something was heard.
    pub async fn quiet(&mut self, what: &str, mut act: impl AsyncFnMut()) {
        let mut heard = Vec::new();
        for _ in 0..8 {
            self.since();
            act().await;
            heard = self.since();
            if heard.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("{what}: {heard:?}");
    }

    fn mark(&mut self) {
        self.marks += 1;
        Ns::host().output("ip", &format!("link set mark0 alias mark-{}-end", self.marks));
    }

    pub fn stop(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        Ns::host().output("ip", "link delete mark0");
    }
}
