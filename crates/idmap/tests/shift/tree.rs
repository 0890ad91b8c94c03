//! Trees to be shifted, and what other programs say of them.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Runs a shell script in `dir` and answers what it printed.
#[track_caller]
pub fn sh(dir: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-euc", script]).current_dir(dir).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

pub fn open(dir: &Path) -> File {
    File::open(dir).expect("directory")
}

/// One of everything that has an owner, by ids of a container. `outside` is named by links in it.
pub fn make(tree: &Path, outside: &Path) {
    fs::create_dir(tree).expect("mkdir");
    sh(
        tree,
        &format!(
            "umask 022; mkdir -p etc usr/bin var/mail home/alice tmp
             echo root >etc/passwd; echo secret >etc/shadow; chown 0:42 etc/shadow; chmod 640 etc/shadow
             echo 1 >usr/bin/su; chmod 4755 usr/bin/su
             echo 2 >usr/bin/wall; chown 0:5 usr/bin/wall; chmod 2755 usr/bin/wall
             echo 3 >usr/bin/both; chown 7:8 usr/bin/both; chmod 6711 usr/bin/both
             echo 4 >usr/bin/ping; setcap cap_net_raw=ep usr/bin/ping
             echo 5 >usr/bin/all; chmod 4750 usr/bin/all; chown 0:9 usr/bin/all; chmod 4750 usr/bin/all
             setcap cap_chown,cap_setuid=eip usr/bin/all; setfacl -m u:33:rx,g:44:r usr/bin/all
             ln usr/bin/su usr/bin/su-again; ln usr/bin/all etc/all
             chown 0:8 var/mail; chmod 2775 var/mail; chmod 1777 tmp
             setfacl -m u:1000:rwx,u:7:r,g:50:rx,d:u:1000:rwx,d:g:7:r home/alice
             echo x >home/alice/x; chown -R 1000:1000 home/alice
             ln -s {0} home/alice/link; chown -h 1000:1000 home/alice/link
             ln -s {0} tmp/link-dir; ln -s nowhere etc/dangling
             mkfifo tmp/fifo; chown 33:33 tmp/fifo; setfacl -m u:7:rw tmp/fifo
             mknod tmp/null c 1 3; chown 0:6 tmp/null; chmod 660 tmp/null",
            outside.display()
        ),
    );
}

/// Owner, mode, type, lists and capabilities of everything, a line each.
pub fn look(tree: &Path) -> Vec<String> {
    let text = sh(
        tree,
        r"find . -printf '%P|%U|%G|%m|%y|%l\n' | LC_ALL=C sort
          find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfacl -n -p
          getcap -r -n . | LC_ALL=C sort",
    );
    text.lines().map(str::to_owned).collect()
}

/// What `look` should say after a shift: each id in it becomes what `uid` and `gid` say.
pub fn expected(before: &[String], uid: impl Fn(u32) -> u32, gid: impl Fn(u32) -> u32) -> Vec<String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let mut lines: Vec<String> = before
        .iter()
        .map(|line| {
            let fields: Vec<&str> = line.split('|').collect();
            if let [name, u, g, mode, kind, link] = fields.as_slice() {
                let (u, g) = (uid(u.parse().expect("uid")), gid(g.parse().expect("gid")));
                return format!("{name}|{u}|{g}|{mode}|{kind}|{link}");
            }
            let ids = [("# owner: ", true), ("# group: ", false)];
            for (start, is_user) in ids {
                if let Some(id) = line.strip_prefix(start).and_then(number) {
                    return format!("{start}{}", if is_user { uid(id) } else { gid(id) });
                }
            }
            for (start, is_user) in
                [("user:", true), ("group:", false), ("default:user:", true), ("default:group:", false)]
            {
                let rest = line.strip_prefix(start).and_then(|rest| rest.split_once(':'));
                if let Some((Some(id), rest)) = rest.map(|(id, rest)| (number(id), rest)) {
                    return format!("{start}{}:{rest}", if is_user { uid(id) } else { gid(id) });
                }
            }
            if line.contains(" cap_") {
                let (caps, root) = match line.split_once(" [rootid=") {
                    Some((caps, root)) => (caps, root.trim_end_matches(']').parse().expect("rootid")),
                    None => (line.as_str(), 0),
                };
                return match uid(root) {
                    0 => caps.to_owned(),
                    root => format!("{caps} [rootid={root}]"),
                };
            }
            line.clone()
        })
        .collect();
    sort_lists(&mut lines);
    lines
}

/// Named entries are sorted by their ids, which may change their order.
fn sort_lists(lines: &mut [String]) {
    let key = |line: &str| {
        let start = ["default:user:", "default:group:", "user:", "group:"].iter().find(|s| line.starts_with(**s))?;
        let id = line.strip_prefix(start)?.split(':').next()?.parse::<u32>().ok()?;
        Some((*start, id))
    };
    for end in 1..lines.len() {
        let mut at = end;
        while at > 0 {
            match (key(&lines[at - 1]), key(&lines[at])) {
                (Some((a, low)), Some((b, high))) if a == b && low > high => lines.swap(at - 1, at),
                _ => break,
            }
            at -= 1;
        }
    }
}
