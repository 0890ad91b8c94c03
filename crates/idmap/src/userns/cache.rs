//! User namespaces that were made before.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cellkit_core::{Error, ProcFd, ProcView, Result, sys as core_sys};

use super::{UsernsFd, UsernsId};
use crate::sys::{self, namespace};
use crate::{IdMaps, MapPlan, Setgroups};

/// What makes one namespace as good as another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    maps: IdMaps,
    setgroups: Setgroups,
    /// The one that it is made in: after unshare(2) or setns(2) of the caller, the same numbers are other ids.
    parent: UsernsId,
    /// Who owns it, and so has capabilities in it.
    owner: u32,
}

/// One namespace, or the place for it while somebody makes it.
type Place = Arc<Mutex<Option<Arc<UsernsFd>>>>;

/// User namespaces by their maps, so that a program that mounts a thousand times with one map makes one namespace.
///
/// It is a value like any other: the program decides who shares it, and when it is dropped it forgets everything. What
/// it gave out lives on. The same namespace is given for the same maps and the same setgroups to the same effective uid
/// in the same user namespace, and never to another. Threads that ask for one at the same time get one, and wait for
/// nobody who makes another.
///
/// It holds a descriptor for each namespace, and forgets the one that was not asked for the longest when there would
/// be more than its [capacity](Self::with_capacity). After a fork(2) both processes go on with theirs; the descriptors are
/// close-on-exec.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use idmap::{Caller, MapPlan, SubIds, UsernsCache};
///
/// let cache = UsernsCache::new();
/// let caller = Caller::current()?;
/// let plan = MapPlan::explicit("100000:100000:65536".parse()?, &caller, &SubIds::of(&caller)?)?;
/// let userns = cache.get(&plan)?;
/// assert!(Arc::ptr_eq(&userns, &cache.get(&plan)?));
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[must_use = "a cache that is dropped forgets everything"]
pub struct UsernsCache {
    capacity: usize,
    /// The one that was asked for last comes last.
    places: Mutex<Vec<(Key, Place)>>,
}

impl UsernsCache {
    const CAPACITY: usize = 64;

    /// An empty one, for up to 64 namespaces.
    pub fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// An empty one, for up to `capacity` namespaces; 0 keeps none.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { capacity, places: Mutex::default() }
    }

    /// The namespace with the maps of `plan`: one that was made before, or a new one.
    ///
    /// * C calls: those of [`UsernsFd::new`] for a new one. For one that is there, what finds out the caller's own user
    ///   namespace (pidfd_open(2), ioctl(2) PIDFD_GET_USER_NAMESPACE, Linux 6.11; before that, /proc) and fstat(2).
    ///
    /// # Errors
    /// Those of [`UsernsFd::new`]. Errors are not kept: the next call tries again.
    pub fn get(&self, plan: &MapPlan) -> Result<Arc<UsernsFd>> {
        let key = Key {
            maps: plan.maps().clone(),
            setgroups: plan.setgroups(),
            parent: own_namespace()?,
            owner: sys::ids().uid,
        };
        let place = self.place(&key);
        let made = {
            let mut held = lock(&place);
            if let Some(userns) = &*held {
                return Ok(Arc::clone(userns));
            }
            UsernsFd::new(plan).map(|userns| Arc::clone(held.insert(Arc::new(userns))))
        };
        if made.is_err() {
            // Unless somebody else waits to try too: the list and this thread hold it, and who else does is counted.
            let is_wanted = |there: &Place| !Arc::ptr_eq(there, &place) || Arc::strong_count(there) > 2;
            lock(&self.places).retain(|(_, there)| is_wanted(there) || lock(there).is_some());
        }
        made
    }

    /// The place for `key`, which is the one asked for last from now on.
    fn place(&self, key: &Key) -> Place {
        let mut places = lock(&self.places);
        let place = match places.iter().position(|(other, _)| other == key) {
            Some(index) => places.remove(index).1,
            None => Place::default(),
        };
        places.push((key.clone(), Arc::clone(&place)));
        let surplus = places.len().saturating_sub(self.capacity);
        places.drain(..surplus);
        place
    }

    /// Forgets every namespace. Those that were given out live on.
    pub fn clear(&self) {
        lock(&self.places).clear();
    }

    /// How many namespaces it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.places).len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for UsernsCache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for UsernsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsernsCache").field("capacity", &self.capacity).field("len", &self.len()).finish()
    }
}

/// Nothing is left half done by a panic while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The user namespace of the caller: of the whole process, as the kernel lets no thread have another.
fn own_namespace() -> Result<UsernsId> {
    let pid = std::process::id() as i32;
    let pidfd = core_sys::pidfd_open(pid).map_err(|errno| Error::from_errno("pidfd_open", errno.0))?;
    let fd = match super::of_pidfd(&pidfd)? {
        Some(fd) => fd,
        None => ProcFd::open(ProcView::Processes)?.process(&pidfd)?.namespace("user")?,
    };
    let (dev, inode) = namespace::id(fd.as_fd()).map_err(|errno| Error::from_errno("fstat", errno.0))?;
    Ok(UsernsId { dev, inode })
}
