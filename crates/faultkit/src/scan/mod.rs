//! Where the lines of a ledger come from, one file a source.
#![forbid(unsafe_code)]

pub mod cgroups;
pub mod files;
pub mod mounts;
pub mod network;
pub mod processes;
pub mod state;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::isolated::Scope;
use crate::ledger::Lines;
use crate::sys;

/// All there is in `scope`, and the files below `dirs`.
#[track_caller]
pub fn all(scope: Scope, dirs: &[PathBuf]) -> Lines {
    // The network first: asking about it starts processes, which are gone when processes are counted.
    let mut lines = Lines::default();
    if sys::euid() == 0 {
        network::add(&mut lines);
    }
    add_quick(&mut lines, scope);
    match scope {
        Scope::Namespaces | Scope::NamespacesAndCgroup => files::add(&mut lines, Path::new("/run")),
        Scope::None | Scope::Process => files::add(&mut lines, Path::new("/run/netns")),
    }
    if scope != Scope::None {
        files::add(&mut lines, &std::env::temp_dir());
    }
    for dir in dirs {
        files::add(&mut lines, dir);
    }
    lines
}

/// All that is found out within a millisecond or two: not the network, and no files.
pub fn quick(scope: Scope, _dirs: &[PathBuf]) -> Lines {
    let mut lines = Lines::default();
    add_quick(&mut lines, scope);
    lines
}

fn add_quick(lines: &mut Lines, scope: Scope) {
    mounts::add(lines);
    cgroups::add(lines, scope);
    processes::add(lines, scope);
    state::add(lines);
}

/// Says once a process, on the real standard error, what the ledger cannot see here.
pub fn note_once(text: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let new = SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
    if new {
        let _ = std::io::stderr().write_all(format!("faultkit: {text}\n").as_bytes());
    }
}
