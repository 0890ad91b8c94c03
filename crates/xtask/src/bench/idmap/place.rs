//! Where everybody can run what is measured: the programs, the users, their folders.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::start::Scratch;
use crate::bench::worker::Worker;
use crate::install::output;
use crate::{Result, target_dir};

/// Who starts something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Root,
    /// Without a line in /etc/subuid.
    Single,
    /// With 65536 ids.
    Ranges,
}

impl User {
    pub const ALL: [Self; 3] = [Self::Root, Self::Single, Self::Ranges];

    pub fn uid(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Single => 12346,
            Self::Ranges => 12345,
        }
    }
}

#[derive(Debug)]
pub struct Place {
    scratch: Scratch,
}

impl Place {
    /// # Errors
    /// When the files cannot be copied, or /etc not be covered.
    pub fn new(worker: &Path) -> Result<Self> {
        let place = Self { scratch: Scratch::new()? };
        open(place.path())?;
        fs::copy(worker, place.worker())?;
        fs::copy(target_dir().join("release/cellrun"), place.cellrun())?;
        for user in User::ALL {
            let run = place.runtime_dir(user);
            fs::create_dir(&run)?;
            fs::set_permissions(&run, fs::Permissions::from_mode(0o700))?;
            chown(&run, Some(user.uid()), Some(user.uid()))?;
        }
        let etc = place.path().join("etc");
        fs::create_dir(&etc)?;
        for (file, line) in [
            ("passwd", "ranges:x:12345:12345::/:/bin/sh\nsingle:x:12346:12346::/:/bin/sh\n"),
            ("group", "ranges:x:12345:\nsingle:x:12346:\n"),
            ("subuid", "root:200000:65536\nranges:300000:65536\n"),
            ("subgid", "root:200000:65536\nranges:300000:65536\n"),
        ] {
            let there = Path::new("/etc").join(file);
            let before = if line.starts_with("root") { String::new() } else { fs::read_to_string(&there)? };
            fs::write(etc.join(file), before + line)?;
            if there.exists() {
                output(Command::new("mount").arg("--bind").arg(etc.join(file)).arg(&there))?;
            }
        }
        Ok(place)
    }

    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    fn worker(&self) -> PathBuf {
        self.path().join("worker")
    }

    pub fn cellrun(&self) -> PathBuf {
        self.path().join("cellrun")
    }

    pub fn runtime_dir(&self, user: User) -> PathBuf {
        self.path().join(format!("run-{}", user.uid()))
    }

    /// A program as `user`: root too, so that all are started the same way.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, user: User) -> Command {
        let mut command = Command::new(program);
        command
            .uid(user.uid())
            .gid(user.uid())
            .current_dir("/")
            .env("XDG_RUNTIME_DIR", self.runtime_dir(user))
            .env("HOME", self.runtime_dir(user));
        command
    }

    /// # Errors
    /// When it cannot be started.
    pub fn start_worker(&self, user: User, mebibytes: u32) -> Result<Worker> {
        let mut command = self.command(self.worker(), user);
        Worker::start(format!("the worker of uid {}", user.uid()), command.args(["--mib", &mebibytes.to_string()]))
    }
}

fn open(dir: &Path) -> Result<()> {
    Ok(fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?)
}
