//! newuidmap(1) and newgidmap(1) as those of shadow 4.14 and newer are to their callers: by its name it is one or the
//! other. Debian 12 has 4.13, which does not know `fd:N`. Installed set-user-ID root, by tests only.
//!
//! What it does in the order in which they do it: the process is looked up, and it is one's own; the arguments are
//! extents, and the files of /etc allow each; setgroups is denied where no gid is from a range; the map is one write.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::exit;

fn main() {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let (uids, file, subids) = match name.as_str() {
        "newuidmap" => (true, "uid_map", "/etc/subuid"),
        _ => (false, "gid_map", "/etc/subgid"),
    };
    let id = if uids { "uid" } else { "gid" };
    let usage = || -> ! {
        eprintln!("usage: {name} [<pid>|fd:<pidfd>] <{id}> <lower{id}> <count> [ <{id}> <lower{id}> <count> ] ... ");
        exit(1)
    };
    let refuse = |why: String| -> ! {
        eprintln!("{name}: {why}");
        exit(1)
    };
    let Some(process) = args.next().and_then(|process| directory(&process)) else { usage() };

    let (uid, gid) = own_ids();
    let account = account(uid).unwrap_or_else(|| refuse("Cannot determine your user name.".into()));
    let owner = fs::metadata(&process).unwrap_or_else(|e| refuse(format!("Could not stat directory for process: {e}")));
    if (owner.uid(), owner.gid(), account.1) != (uid, gid, gid) {
        refuse(format!("Target process is owned by a different user: uid:{uid} st_uid:{}, gid:{gid}", owner.uid()));
    }
    let rows = fs::read_to_string(subids).unwrap_or_else(|e| refuse(format!("cannot open {subids}: {e}")));
    let numbers: Vec<u32> = args.map(|number| number.parse().unwrap_or_else(|_| usage())).collect();
    if numbers.is_empty() || numbers.len() % 3 != 0 {
        usage();
    }

    let mut from_range = false;
    for extent in numbers.chunks(3) {
        let (inside, outside, count) = (u64::from(extent[0]), u64::from(extent[1]), u64::from(extent[2]));
        let holds = |row: &str| {
            let mut fields = row.split(':');
            let owner = fields.next().is_some_and(|owner| owner == account.0 || owner == uid.to_string());
            let mut number = || fields.next()?.parse::<u64>().ok();
            let (Some(first), Some(many)) = (number(), number()) else { return false };
            owner && count > 0 && first <= outside && outside + count <= first + many
        };
        let own = if uids { uid } else { gid };
        if rows.lines().any(holds) {
            from_range = true;
        } else if (outside, count) != (u64::from(own), 1) {
            let (end, last) = (inside + count, outside + count);
            refuse(format!("{id} range [{inside}-{end}) -> [{outside}-{last}) not allowed"));
        }
    }
    let write = |file: &str, text: &str| {
        fs::write(process.join(file), text).unwrap_or_else(|e| refuse(format!("write to {file} failed: {e}")));
    };
    if !uids && !from_range {
        write("setgroups", "deny");
    }
    let lines = numbers.chunks(3).map(|extent| format!("{} {} {}\n", extent[0], extent[1], extent[2]));
    write(file, &lines.collect::<String>());
}

/// The directory of the process in /proc: a descriptor has to be one of this very procfs.
fn directory(process: &str) -> Option<PathBuf> {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.to_owned());
    let Some(fd) = process.strip_prefix("fd:") else {
        let dir = PathBuf::from(format!("/proc/{}", number(process)?));
        return dir.is_dir().then_some(dir);
    };
    let dir = PathBuf::from(format!("/proc/self/fd/{}", number(fd)?));
    let theirs = fs::metadata(dir.join("uid_map")).ok()?;
    let own = fs::metadata("/proc/self/uid_map").ok()?;
    (theirs.dev() == own.dev()).then_some(dir)
}

/// The real uid and gid.
fn own_ids() -> (u32, u32) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let real = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    (real("Uid:").unwrap_or(u32::MAX), real("Gid:").unwrap_or(u32::MAX))
}

/// The name and the primary gid.
fn account(uid: u32) -> Option<(String, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (*fields.get(2)? == uid.to_string()).then_some(((*fields.first()?).to_owned(), fields.get(3)?.parse().ok()?))
    })
}
