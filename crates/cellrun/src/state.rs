//! Records of running containers, written before anything is made that could outlive its owner.
//!
//! A container is one file `ID.json`: what a later [`recover`](StateDir::recover) has to remove. Its cellrun keeps the file
//! locked for as long as it lives (the kernel gives the lock back on every kind of death, SIGKILL too). The lock says who
//! is alive; no pid is trusted for that.
//!
//! Nothing is synced to a disk: what a record speaks of does not survive a crash of the machine either.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellkit_core::{Error, ErrorKind, Result, Subject};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use ns_core::ProcessId;
use serde::{Deserialize, Serialize};

use crate::root_dir::RootRecord;

/// What has to be removed after a container, and how others find it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The container's process, once there is one.
    #[serde(default, with = "process_text")]
    pub process: Option<ProcessId>,
    /// The path of its cgroup, if it has one of its own.
    pub cgroup: Option<PathBuf>,
    /// The bridge it is attached to, if any.
    pub network: Option<BridgeRecord>,
    /// What its start makes in a root directory of the host, if anything.
    #[serde(default)]
    pub root: Option<RootRecord>,
    /// The process that carries for its network, if any.
    #[serde(default, with = "process_text")]
    pub pasta: Option<ProcessId>,
}

/// A process in a record: as the text that finds it again.
mod process_text {
    use ns_core::ProcessId;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(process: &Option<ProcessId>, to: S) -> Result<S::Ok, S::Error> {
        process.map(|process| process.to_string()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ProcessId>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// What names a network that a container may be attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRecord {
    /// Whose place on it: the container's name and a token that no other start has.
    pub owner: String,
    /// The interface.
    pub bridge: String,
    /// The range, as `--subnet` takes it.
    pub subnet: String,
}

/// A container's name: it becomes a file's, a cgroup's and a host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(String);

impl Id {
    /// Letters, digits, `_`, `-` and `.`, not first a `.` or `-`, at most 48 of them.
    ///
    /// # Errors
    /// Invalid for anything else.
    pub fn new(text: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if (1..=48).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with(['.', '-']) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid("--name", "a name has 1 to 48 of a-z A-Z 0-9 _ - . and begins with none of - .")
            .on(Subject::Value(text.to_owned())))
    }

    /// Twelve random hexadecimal digits.
    ///
    /// # Errors
    /// Those of reading `/dev/urandom`.
    pub fn random() -> Result<Self> {
        use std::io::Read;
        let path = Path::new("/dev/urandom");
        let mut bytes = [0; 6];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
        read.map_err(|error| Error::from_io("read", &error).on(path))?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The name with a token that no other start has: for what lives outside of the directory of records, where somebody
    /// else's container may have the same name.
    ///
    /// # Errors
    /// Those of [`random`](Self::random).
    pub fn with_token(&self) -> Result<String> {
        Ok(format!("{}-{}", self.0, Self::random()?.0))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How long to wait for another creation or recovery. Each takes a millisecond, or as long as the removal of the dead.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// The directory that holds all records of one user.
#[derive(Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The one to use: `root` if given, `/run/cellrun` for who is root there, else `$XDG_RUNTIME_DIR/cellrun` or `/tmp/cellrun-UID`.
    #[must_use]
    pub fn at(root: Option<&Path>) -> Self {
        if let Some(root) = root {
            return Self(root.to_owned());
        }
        let uid = nix::unistd::geteuid();
        // The root of a user namespace need not own the machine's /run.
        let owns_run = || nix::unistd::access("/run", nix::unistd::AccessFlags::W_OK).is_ok();
        if uid.is_root() && owns_run() {
            return Self("/run/cellrun".into());
        }
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => Self(Path::new(&dir).join("cellrun")),
            None => Self(format!("/tmp/cellrun-{uid}").into()),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory, for its owner only, and verifies that it is the owner's.
    fn ensure(&self) -> Result<()> {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.0);
        made.map_err(|error| self.fail("mkdir", &error, &self.0))?;
        let metadata = fs::symlink_metadata(&self.0).map_err(|error| self.fail("lstat", &error, &self.0))?;
        if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(Error::invalid("lstat", "this must be a directory of your own that nobody else may write")
                .on(self.0.clone())
                .with_hint("name another with --root DIR"));
        }
        Ok(())
    }

    fn fail(&self, call: &'static str, error: &io::Error, path: &Path) -> Error {
        let error = Error::from_io(call, error).on(path);
        match error.kind() {
            ErrorKind::Permission | ErrorKind::NotFound => error.with_hint("name another directory with --root DIR"),
            _ => error,
        }
    }

    /// One creation or recovery at a time: until this is dropped, no container appears here.
    fn lock_all(&self) -> Result<Flock<File>> {
        let path = self.0.join(".lock");
        let file = open_lock(&path).map_err(|error| self.fail("openat", &error, &path))?;
        let (mut file, begun) = (file, Instant::now());
        loop {
            match lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(locked),
                Err((back, Errno::EWOULDBLOCK)) if begun.elapsed() < LOCK_LIMIT => {
                    file = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(Error::timed_out("flock", LOCK_LIMIT).on(path).with_hint(
                        "another cellrun is stopped, or removes a container that does not die: look with lslocks",
                    ));
                }
                Err((_, errno)) => return Err(flock_error(errno, &path)),
            }
        }
    }

    /// Removes what the dead left, then takes the name `id` and writes `record`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when a living container has the name; what `remove` answered for the dead one of that
    /// name; errors of the file system. Trouble with other dead ones is left for a later time.
    pub fn claim(&self, id: &Id, record: &Record, remove: impl Fn(&str, &Record) -> Result<()>) -> Result<Claim> {
        self.ensure()?;
        let all = self.lock_all()?;
        for (name, outcome) in self.sweep(remove)? {
            if name == id.as_str() {
                outcome?;
            }
        }
        let path = self.path_of(id);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(|error| {
            let error = self.fail("openat", &error, &path);
            if error.kind() == ErrorKind::AlreadyExists { error.with_hint(TAKEN) } else { error }
        })?;
        let claim = match lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Claim { path, file },
            Err((_, errno)) => {
                let _ = fs::remove_file(&path);
                return Err(flock_error(errno, &path));
            }
        };
        drop(all);
        match claim.update(record) {
            Ok(()) => Ok(claim),
            Err(error) => {
                let _ = claim.remove();
                Err(error)
            }
        }
    }

    /// Whether a container could take the name, as far as can be known without taking it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when there is a record of that name.
    pub fn check_free(&self, id: &Id) -> Result<()> {
        let path = self.path_of(id);
        match fs::symlink_metadata(&path) {
            Ok(_) => Err(Error::from_errno("openat", libc::EEXIST).on(path).with_hint(TAKEN)),
            Err(_) => Ok(()),
        }
    }

    /// Where the record of a container is.
    #[must_use]
    pub fn path_of(&self, id: &Id) -> PathBuf {
        self.0.join(format!("{}.json", id.as_str()))
    }

    /// Removes what containers left behind whose owner has died. Answers their names.
    ///
    /// # Errors
    /// All that could not be removed.
    pub fn recover(&self, remove: impl Fn(&str, &Record) -> Result<()>) -> Result<Vec<String>> {
        match fs::symlink_metadata(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.fail("lstat", &error, &self.0)),
            Ok(_) => {}
        }
        self.ensure()?;
        let _all = self.lock_all()?;
        let (mut names, mut errors) = (Vec::new(), Vec::new());
        for (name, outcome) in self.sweep(remove)? {
            match outcome {
                Ok(()) => names.push(name),
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors).map(|()| names)
    }

    /// Under the lock of all: the dead, and how removing each went.
    fn sweep(&self, remove: impl Fn(&str, &Record) -> Result<()>) -> Result<Vec<(String, Result<()>)>> {
        let mut swept = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(|error| self.fail("getdents64", &error, &self.0))? {
            let Ok(entry) = entry else { continue };
            // Only names that `claim` can have made are looked at, and only plain files.
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let Some(id) = name.and_then(|name| Id::new(name).ok()) else { continue };
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let path = entry.path();
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&path);
            let Ok(Ok(dead)) = file.map(|file| lock(file, FlockArg::LockExclusiveNonblock)) else { continue };
            // A record that cannot be read (its writer died with the disk full) still names the container.
            let record = read(&dead).unwrap_or_default();
            let outcome = remove(id.as_str(), &record).and_then(|()| match fs::remove_file(&path) {
                // Its owner was just removing it.
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fail("unlink", &error, &path)),
                _ => Ok(()),
            });
            swept.push((id.as_str().to_owned(), outcome));
        }
        Ok(swept)
    }

    /// The record of a running container.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none of that name.
    pub fn find(&self, id: &Id) -> Result<Record> {
        let path = self.path_of(id);
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::from_errno("openat", libc::ENOENT)
                .on(path.clone())
                .with_hint("no container of this name is running: see the --name it was started with"),
            _ => self.fail("openat", &error, &path),
        })?;
        // Its owner may be writing it this moment.
        let mut tries = 0;
        loop {
            match read(&file) {
                Ok(record) => return Ok(record),
                Err(error) if tries == 20 => return Err(Error::parse("read", error.to_string()).on(path)),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
            tries += 1;
        }
    }
}

const TAKEN: &str = "a container of this name is running: choose another --name";

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

fn lock(mut file: File, how: FlockArg) -> std::result::Result<Flock<File>, (File, Errno)> {
    loop {
        match Flock::lock(file, how) {
            Err((back, Errno::EINTR)) => file = back,
            answer => return answer,
        }
    }
}

fn flock_error(errno: Errno, path: &Path) -> Error {
    Error::from_errno("flock", errno as i32).on(path)
}

fn read(file: &File) -> io::Result<Record> {
    let mut text = vec![0; SIZE];
    let length = file.read_at(&mut text, 0)?;
    text.truncate(length);
    serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Every record is padded to this with spaces, so that one write replaces the whole of an older one.
const SIZE: usize = 4096;

/// A name that is ours. [`remove`](Self::remove) gives it back; if this process dies first, a later recovery does.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: Flock<File>,
}

impl Claim {
    /// Replaces the record, whole.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn update(&self, record: &Record) -> Result<()> {
        let fail = |error: &io::Error| Error::from_io("pwrite64", error).on(self.path.clone());
        let mut text = serde_json::to_vec(record).map_err(|error| fail(&error.into()))?;
        if text.len() > SIZE {
            return Err(fail(&io::Error::from_raw_os_error(libc::ENAMETOOLONG)));
        }
        text.resize(SIZE, b' ');
        self.file.write_all_at(&text, 0).map_err(|error| fail(&error))
    }

    /// Gives the name back, when nothing is left that the record speaks of.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|error| Error::from_io("unlink", &error).on(self.path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faultkit::TempDir;
    use std::cell::RefCell;

    fn nothing(_: &str, _: &Record) -> Result<()> {
        Ok(())
    }

    #[test]
    fn one_owner_a_name() {
        let dir = TempDir::new();
        let state = StateDir::at(Some(&dir.path().join("state")));
        let id = Id::new("web").expect("id");
        let record = Record { cgroup: Some("/x".into()), ..Record::default() };
        let claim = state.claim(&id, &record, nothing).expect("claim");
        assert_eq!(state.find(&id).expect("find"), record);
        let error = state.claim(&id, &record, nothing).expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        claim.remove().expect("remove");
        assert_eq!(state.find(&id).expect_err("removed").kind(), ErrorKind::NotFound);
        state.claim(&id, &record, nothing).expect("free again");
    }

    #[test]
    fn the_dead_are_recovered_with_their_record_and_the_living_left_alone() {
        let dir = TempDir::new();
        let state = StateDir::at(Some(dir.path()));
        let (dead, alive) = (Id::new("dead").expect("id"), Id::new("alive").expect("id"));
        let record = Record { cgroup: Some("/x".into()), ..Record::default() };
        // Dropping a claim without removing it is what death looks like: the lock goes, the record stays.
        drop(state.claim(&dead, &record, nothing).expect("claim"));
        let _alive = state.claim(&alive, &record, |_, _| Err(Error::other("remove", "not yet"))).expect("claim");
        let seen = RefCell::new(Vec::new());
        let names = state.recover(|name, record| {
            seen.borrow_mut().push((name.to_owned(), record.clone()));
            Ok(())
        });
        assert_eq!(names.expect("recover"), ["dead"]);
        assert_eq!(seen.into_inner(), [("dead".to_owned(), record)]);
        assert!(!state.path_of(&dead).exists() && state.path_of(&alive).exists());
    }

    #[test]
    fn a_torn_record_is_recovered_as_an_empty_one() {
        let dir = TempDir::new();
        let state = StateDir::at(Some(dir.path()));
        let id = Id::new("torn").expect("id");
        for torn in ["", "{", "null", "{\"cgroup\":", "[1]", "\u{0}"] {
            drop(state.claim(&id, &Record::default(), nothing).expect("claim"));
            fs::write(state.path_of(&id), torn).expect("write");
            assert_eq!(state.recover(nothing).expect("recover"), ["torn"], "{torn:?}");
        }
    }

    #[test]
    fn names_that_are_none() {
        for text in ["", ".", "..", ".a", "-a", "a/b", "a b", "a\0", "ä", &"x".repeat(49)] {
            assert!(Id::new(text).is_err(), "{text:?}");
        }
        assert!(Id::new(&"x".repeat(48)).is_ok());
        assert_eq!(Id::random().expect("id").as_str().len(), 12);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        let state = StateDir::at(Some(dir.path()));
        let error = state.claim(&Id::new("a").expect("id"), &Record::default(), nothing).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
