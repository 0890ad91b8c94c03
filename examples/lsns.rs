//! `lsns [-t TYPE] [-p PID]`, and with `-a` also what no process is in, and what keeps it
use std::collections::HashMap;

use ns_core::{FirstProcess, ListOptions, NamespaceInfo, Namespaces, Result};

const TYPES: [(&str, Namespaces); 8] = [
    ("mnt", Namespaces::MOUNT),
    ("net", Namespaces::NET),
    ("ipc", Namespaces::IPC),
    ("user", Namespaces::USER),
    ("pid", Namespaces::PID),
    ("uts", Namespaces::UTS),
    ("cgroup", Namespaces::CGROUP),
    ("time", Namespaces::TIME),
];

fn main() -> Result<()> {
    let (mut kinds, mut pid, mut all) = (None, None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        if option == "-a" {
            all = true;
            continue;
        }
        let value = arguments.next().unwrap_or_default();
        match (&*option, TYPES.iter().find(|(name, _)| *name == value), value.parse::<i32>()) {
            ("-t", Some((_, kind)), _) => kinds = Some(kinds.unwrap_or(Namespaces::empty()) | *kind),
            ("-p", _, Ok(number)) => pid = Some(number),
            _ => {
                eprintln!("usage: lsns [-a] [-t TYPE]... [-p PID]");
                std::process::exit(2);
            }
        }
    }
    let options = ListOptions::new().kinds(kinds.unwrap_or(Namespaces::all()));
    let list = if all { options.threads().fds().pins().list()? } else { options.list()? };
    let users = users();
    let mut rows = vec![["NS", "TYPE", "NPROCS", "PID", "USER", "COMMAND"].map(String::from)];
    for namespace in &list {
        if namespace.processes.is_empty() && !all || pid.is_some_and(|pid| !namespace.processes.contains(&pid)) {
            continue;
        }
        let (pid, user, command) = match &namespace.first {
            Some(FirstProcess { pid, uid, command, .. }) => {
                let user = users.get(uid).cloned().unwrap_or(uid.to_string());
                (pid.to_string(), user, visible(&command.to_string_lossy()))
            }
            None => ("-".into(), "-".into(), visible(&kept_by(namespace))),
        };
        let (number, count) = (namespace.id.to_string(), namespace.processes.len().to_string());
        rows.push([number, namespace.kind.to_string(), count, pid, user, command]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut table = String::new();
    for [number, kind, count, pid, user, command] in &rows {
        let [a, b, c, d, e] = widths;
        table += &format!("{number:>a$} {kind:<b$} {count:>c$} {pid:>d$} {user:<e$} {command}\n");
    }
    print!("{table}");
    if !list.unreadable.is_empty() {
        eprintln!("{} processes may not be looked into", list.unreadable.len());
    }
    Ok(())
}

/// Processes name themselves as they like: what would move the cursor of a terminal is shown, not done.
fn visible(text: &str) -> String {
    let shown = |letter: char| match letter.is_control() {
        true => format!("\\x{:02x}", u32::from(letter)),
        false => letter.to_string(),
    };
    text.chars().map(shown).collect()
}

/// What keeps a namespace that no process is in.
fn kept_by(namespace: &NamespaceInfo) -> String {
    let threads = namespace.threads.iter().map(ToString::to_string);
    let pins = namespace.pins.iter().map(ToString::to_string);
    let fds = namespace.fds.iter().map(ToString::to_string);
    threads.chain(pins).chain(fds).next().unwrap_or("namespaces below it".into())
}

/// Names of users, by number.
fn users() -> HashMap<u32, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.filter_map(|user| Some((user.get(2)?.parse().ok()?, (*user.first()?).to_owned()))).collect()
}
