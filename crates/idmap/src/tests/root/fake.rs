//! Programs in place of newuidmap and newgidmap, found by a search that only tests can change.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellkit_core::{ProcFd, ProcView};
use faultkit::TempDir;

use crate::newidmap::Search;
use crate::tests::paused_child::PausedChild;
use crate::{Caller, Error, MapPlan, SubIds};

/// Shell that makes the arguments a map in `$text`, the process `$dir` and the file's name `$file`, and ends when what is
/// around it is not as promised.
pub(super) const WRITE: &str = r#"case "$0" in *newuidmap) file=uid_map;; *) file=gid_map;; esac
[ -z "$HOME$PATH_WAS$LANG" ] || exit 9
[ "$(/bin/pwd)" = / ] || exit 8
dir=$1; shift; text=; while [ $# -gt 0 ]; do text="$text$1 $2 $3
"; shift 3; done
"#;

/// The rest of an honest program that knows numbers only.
pub(super) const BY_NUMBER: &str = "printf '%s' \"$text\" > /proc/$dir/$file\n";

pub(super) struct Fake {
    dir: TempDir,
    pub(super) search: Search,
}

impl Fake {
    /// Both programs are this script.
    pub(super) fn new(script: &str) -> Self {
        Self::pair(script, script)
    }

    /// An honest newuidmap, and this newgidmap.
    pub(super) fn newgidmap(script: &str) -> Self {
        Self::pair(&format!("{WRITE}{BY_NUMBER}"), script)
    }

    fn pair(newuidmap: &str, newgidmap: &str) -> Self {
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let dirs: Vec<PathBuf> = vec!["/nonexistent".into(), dir.path().to_owned()];
        let this = Self { dir, search: Search { dirs, limit: Duration::from_secs(5), privileged: false } };
        for (name, script) in [("newuidmap", newuidmap), ("newgidmap", newgidmap)] {
            this.replace(name, format!("#!/bin/sh\n{script}\n").as_bytes());
        }
        this
    }

    pub(super) fn limit(mut self, limit: Duration) -> Self {
        self.search.limit = limit;
        self
    }

    /// A file in the folder of the programs, which they can reach.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts another file in the place of a program, as an update does.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> PathBuf {
        let (new, path) = (self.path("new"), self.path(name));
        fs::write(&new, content).expect("write");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::rename(&new, &path).expect("rename");
        path
    }

    /// For a caller who has no privilege by the plan, whatever this process has.
    pub(super) fn plan(&self) -> MapPlan {
        let ann = Caller::ordinary("ann", 12345);
        let rows = SubIds::parse(&ann, b"ann:100000:65536\n", b"ann:200000:65536\n");
        MapPlan::auto_with(&ann, &rows, &self.search).expect("plan")
    }

    /// Has a plan written; the child, and what came of it.
    pub(super) fn write(&self) -> (PausedChild, Result<(), Error>) {
        let child = PausedChild::new();
        let result = self.plan().write(&child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ());
        (child, result)
    }

    pub(super) fn fails(&self) -> Error {
        let (child, result) = self.write();
        let error = result.expect_err("a bad program");
        assert_eq!(child.map("gid_map"), "", "nothing goes on after an error");
        error
    }
}

/// A number that a script has left in a file.
pub(super) fn number_in(path: &Path) -> u32 {
    let text = fs::read_to_string(path).expect("the script did not get there");
    text.trim().parse().expect("a number")
}

/// Ends a process that a script left running, and waits until it is gone.
pub(super) fn end(pid: u32) {
    let words = [pid.to_string()];
    assert!(std::process::Command::new("kill").arg("-9").args(&words).status().expect("kill").success());
    while fs::metadata(format!("/proc/{pid}")).is_ok() {
        faultkit::reap_orphans();
        std::thread::sleep(Duration::from_millis(1));
    }
}
