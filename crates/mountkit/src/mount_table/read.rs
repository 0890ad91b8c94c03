//! Where a table comes from.
//!
//! Two things of the kernel tell of mounts, and neither has all of it at a good price (10,000 mounts, Linux 6.18):
//!
//! * `/proc/PID/mountinfo`: one text with all of it but the unique ids and the id maps; 12 ms.
//! * listmount(2) and statmount(2): unique ids, 1 ms; then a call for each mount: 12 ms for its numbers alone, 29 ms with
//!   its texts. No /proc is needed, and other mount namespaces can be asked about.
//!
//! So a table is the text, and the ids are joined to it. Both are made from the same tree of the namespace, in the order of
//! the unique ids: the first line is the first id. That holds while nothing changes, and the kernel says if something did:
//! polling the open file answers POLLPRI. Then it is all done again, some times. Whether the order is what it is said to
//! be is asked of statmount(2) at sixteen places. Where that does not hold, or the table does not come to rest, each id is
//! asked for its line. Where there is no /proc, each is asked for everything.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use cellkit_core::{Errno, Error, ProcFd, ProcView, Result, Subject};

use super::from_kernel::{Asker, list, list_all};
use super::from_text::{IDMAP, parse};
use super::record::{IdMaps, Known, Record};
use super::{MountTable, TableSource};
use crate::hint::HINTS;
use crate::sys::statmount::{self as sys, LSMT_ROOT, MountId};

/// How often a table that changes while it is read is read again.
const ATTEMPTS: u32 = 16;
/// How many ids are asked whether they are where they should be.
const SAMPLES: usize = 16;
/// The largest mountinfo that is read: a hundred thousand mounts, which is all that a namespace may have unless somebody
/// allowed it more, with ten thousand bytes each.
const LARGEST: u64 = 1 << 30;

/// `mountinfo` of the calling thread.
pub(super) fn own_mountinfo() -> Result<File> {
    let name = Path::new("mountinfo");
    // The machine's costs less than one of our own, and its lookups are verified as well.
    let machine = ProcFd::of_the_machine().and_then(|proc| proc.this_thread()?.open_file(name, libc::O_RDONLY));
    machine.or_else(|_| ProcFd::open(ProcView::Processes)?.this_thread()?.open_file(name, libc::O_RDONLY))
}

fn failed(call: &'static str, errno: Errno) -> Error {
    Error::from_errno(call, errno.0).on(Subject::Thing("the mount table".into())).with_hints(&HINTS)
}

/// Whether the call is there and may be made: a kernel before 6.8 has not got it, and filters that do not know it yet
/// answer as if they forbade it.
fn is_missing(errno: Errno) -> bool {
    matches!(errno.0, libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EINVAL | libc::ENOENT)
}

/// Whose unique ids belong to a text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ids {
    /// The caller's own mount namespace, from the caller's root on.
    Own,
    /// The mount namespace of this number.
    Of(u64),
    /// Nobody knows.
    Unknown,
}

/// The table that `mountinfo` shows, with the unique ids where they are told.
pub(super) fn from_mountinfo(mut mountinfo: File, whose: Ids) -> Result<MountTable> {
    let namespace = match whose {
        Ids::Of(namespace) => Some(namespace),
        Ids::Own | Ids::Unknown => None,
    };
    let mut text = Vec::new();
    let mut attempt = 1;
    loop {
        mountinfo.rewind().map_err(|error| Error::from_io("lseek", &error).on(Path::new("mountinfo")))?;
        text.clear();
        let ids = match whose {
            Ids::Unknown => Err(Errno(libc::ENOSYS)),
            Ids::Own | Ids::Of(_) => list(namespace, LSMT_ROOT),
        };
        (&mountinfo)
            .take(LARGEST)
            .read_to_end(&mut text)
            .map_err(|error| Error::from_io("read", &error).on(Path::new("mountinfo")).or_gone())?;
        let changed = sys::await_change(mountinfo.as_fd(), 0).map_err(|errno| failed("poll", errno))?;
        let settled = !changed;
        if settled || attempt == ATTEMPTS {
            let (records, whole) = parse(&mut text);
            let mut table = MountTable {
                text,
                records,
                known: Known::ALL,
                source: TableSource::Mountinfo,
                settled: settled && whole,
                namespace,
                ..MountTable::new()
            };
            match ids {
                Ok(ids) => join(&mut table, namespace, &ids)?,
                Err(errno) if is_missing(errno) => {}
                Err(errno) => return Err(failed("listmount", errno)),
            }
            return Ok(table);
        }
        attempt += 1;
    }
}

/// Gives the records of a text their unique ids.
fn join(table: &mut MountTable, namespace: Option<u64>, ids: &[u64]) -> Result<()> {
    let mut asker = Asker::new(namespace);
    let joined = in_order(table, &mut asker, ids).and_then(|joined| match joined {
        true => Ok(()),
        false => match (namespace, ids.first()) {
            // What the kernel takes for the root of another namespace may be another than that of the text.
            (Some(namespace), Some(&some)) => {
                let all = list_all(&mut asker, namespace, some);
                one_by_one(table, &mut asker, all.as_deref().unwrap_or(ids))
            }
            _ => one_by_one(table, &mut asker, ids),
        },
    });
    match joined.and_then(|()| the_rest(table, &mut asker)) {
        Ok(()) => {
            if table.records.is_empty() || table.records.iter().any(|record| record.unique_id != 0) {
                table.source = TableSource::Both;
            }
            Ok(())
        }
        Err(errno) if is_missing(errno) => {
            table.records.iter_mut().for_each(|record| (record.unique_id, record.unique_parent) = (0, 0));
            table.id_maps.clear();
            Ok(())
        }
        Err(errno) => Err(failed("statmount", errno)),
    }
}

/// By their place, if that can be.
fn in_order(table: &mut MountTable, asker: &mut Asker, ids: &[u64]) -> Result<bool, Errno> {
    if !table.settled || ids.len() != table.records.len() {
        return Ok(false);
    }
    let last = ids.len().saturating_sub(1);
    let samples = SAMPLES.min(ids.len());
    for sample in 0..samples {
        let at = last * sample / (samples - 1).max(1);
        let (Some(&id), Some(record)) = (ids.get(at), table.records.get(at)) else { return Ok(false) };
        if asker.ids(id)?.is_none_or(|ids| ids.id != record.id) {
            return Ok(false);
        }
    }
    for (record, &id) in table.records.iter_mut().zip(ids) {
        record.unique_id = id;
    }
    Ok(true)
}

/// By asking each for its old id. What has gone meanwhile keeps none.
fn one_by_one(table: &mut MountTable, asker: &mut Asker, ids: &[u64]) -> Result<(), Errno> {
    let places = by_old_id(table.records.iter().enumerate().map(|(place, record)| (record.id, place)));
    for &id in ids {
        let Some(found) = asker.ids(id)? else { continue };
        if let Some(record) = look_up(&places, found.id).and_then(|place| table.records.get_mut(place)) {
            record.unique_id = id;
        }
    }
    Ok(())
}

/// Sorted, and not hashed: hashing would ask the kernel for random numbers.
fn by_old_id<T: Ord>(pairs: impl Iterator<Item = (u32, T)>) -> Vec<(u32, T)> {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable();
    pairs
}

fn look_up<T: Copy>(pairs: &[(u32, T)], id: u32) -> Option<T> {
    let at = pairs.partition_point(|(other, _)| *other < id);
    pairs.get(at).filter(|(other, _)| *other == id).map(|(_, value)| *value)
}

/// The unique ids of the parents, the id maps, and the namespace.
fn the_rest(table: &mut MountTable, asker: &mut Asker) -> Result<(), Errno> {
    let unique = by_old_id(table.records.iter().map(|record| (record.id, record.unique_id)));
    let mut id_maps = Vec::new();
    for (place, record) in table.records.iter_mut().enumerate() {
        record.unique_parent = match look_up(&unique, record.parent) {
            Some(parent) => parent,
            // The root's own parent, which is not to be seen from here.
            None if record.unique_id != 0 => asker.ids(record.unique_id)?.map_or(0, |ids| ids.unique_parent),
            None => 0,
        };
        if record.attrs & IDMAP != 0 && record.unique_id != 0 {
            if let Some(maps) = asker.id_maps(record.unique_id)? {
                id_maps.push((place, maps));
            }
        }
    }
    table.id_maps = id_maps;
    if let Some(first) = table.records.iter().find(|record| record.unique_id != 0) {
        table.namespace = asker.namespace_of(first.unique_id)?;
    }
    Ok(())
}

/// The table that listmount(2) and statmount(2) tell of.
pub(super) fn from_kernel(namespace: Option<u64>, below: u64) -> Result<MountTable> {
    let unsupported = |call, errno: Errno| {
        let error = failed(call, errno);
        if errno.0 == libc::ENOSYS { error.or_unsupported("listmount and statmount", "6.8") } else { error }
    };
    let listed = |below| list(namespace, below).map_err(|errno| unsupported("listmount", errno));
    let mut ids = listed(below)?;
    let mut attempt = 1;
    loop {
        let mut table = ask_all(namespace, below, &ids).map_err(|errno| unsupported("statmount", errno))?;
        let after = listed(below)?;
        table.settled = after == ids && table.hangs_together();
        if table.settled || attempt == ATTEMPTS {
            return Ok(table);
        }
        ids = after;
        attempt += 1;
    }
}

/// The table that listmount(2) and statmount(2) tell of another mount namespace, if it is all of it.
///
/// On the own root of a namespace, which nobody sees, lies as a rule one mount, which is what processes there have for their
/// root. So the kernel takes the first that is mounted on the own root for the root. On an initramfs, or where one has left
/// mounts behind, that may be `/proc`, and the paths of all others are not told. (Where a namespace that is seen from its
/// own root has one mount there, the two cannot be told apart.)
pub(super) fn of_namespace(namespace: u64) -> Result<MountTable> {
    let table = from_kernel(Some(namespace), LSMT_ROOT)?;
    match is_whole(&table, namespace) {
        Ok(true) => Ok(table),
        // The caller's own, from the caller's root on: only of that may anything be told to those without privileges.
        Err(Errno(libc::EPERM)) => Ok(table),
        Ok(false) => {
            Err(Error::unsupported("listmount", "a mount namespace with several mounts on its own root", None)
                .with_hint("with a descriptor of the namespace it can be entered and read: MountTable::of_namespace"))
        }
        Err(errno) => Err(failed("listmount", errno)),
    }
}

/// Whether the kernel lists, from what it takes for the root, all but the namespace's own root.
fn is_whole(table: &MountTable, namespace: u64) -> Result<bool, Errno> {
    let Some(some) = table.records.first() else { return Ok(false) };
    let mut asker = Asker::new(Some(namespace));
    let all = list_all(&mut asker, namespace, some.unique_id)?;
    // Afterwards, so that what is new is no difference; what has gone since is asked for.
    let listed = list(Some(namespace), LSMT_ROOT)?;
    for id in all.into_iter().filter(|id| listed.binary_search(id).is_err()) {
        if asker.ids(id)?.is_some_and(|ids| ids.unique_parent != id) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One after the other.
fn ask_all(namespace: Option<u64>, below: u64, ids: &[u64]) -> Result<MountTable, Errno> {
    let mut asker = Asker::new(namespace);
    let mut table = MountTable { source: TableSource::Statmount, ..MountTable::new() };
    table.known = Known { subtype: false, source: false, options: false };
    table.records.reserve(ids.len() + 1);
    // Its own mount is none of those below it.
    let own = (below != LSMT_ROOT).then_some(below);
    for id in own.iter().chain(ids) {
        let Some((record, known)) = asker.record(*id, &mut table.text)? else { continue };
        table.known.subtype |= known.subtype;
        table.known.source |= known.source;
        table.known.options |= known.options;
        if record.attrs & IDMAP != 0 {
            if let Some(maps) = asker.id_maps(*id)? {
                table.id_maps.push((table.records.len(), maps));
            }
        }
        table.records.push(record);
    }
    if let Some(first) = table.records.first() {
        table.namespace = asker.namespace_of(first.unique_id)?;
    }
    Ok(table)
}

/// The table of one mount.
pub(super) fn only(namespace: Option<u64>, id: u64) -> Result<MountTable> {
    ask_all(namespace, id, &[]).map_err(|errno| failed("statmount", errno))
}

/// The table of a mount namespace that the calling thread may enter: read by a thread that does.
pub(super) fn by_entering(namespace: BorrowedFd<'_>) -> Result<MountTable> {
    // Opened here: there may be no /proc there.
    let proc = ProcFd::of_the_machine().or_else(|_| ProcFd::open(ProcView::Processes))?;
    let work = || {
        sys::enter_mount_namespace(namespace).map_err(|(call, errno)| {
            let subject = Subject::Namespace("a mount namespace".into());
            Error::from_errno(call, errno.0).on(subject).with_hints(&HINTS)
        })?;
        from_mountinfo(proc.this_thread()?.open_file(Path::new("mountinfo"), libc::O_RDONLY)?, Ids::Own)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("in a mount namespace".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::from_io("clone", &error))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What of `table` is the mount `id` and mounted below it.
pub(super) fn only_tree(mut table: MountTable, id: MountId) -> MountTable {
    let wanted = table.find(id).map(|entry| entry.place());
    let mut keep = vec![false; table.records.len()];
    if let Some(wanted) = wanted {
        let mut left = vec![wanted];
        while let Some(place) = left.pop() {
            if let Some(kept) = keep.get_mut(place).filter(|kept| !**kept) {
                *kept = true;
                left.extend(table.index().children_of(place).iter().map(|&child| child as usize));
            }
        }
    }
    let id_maps = std::mem::take(&mut table.id_maps);
    let mut kept = Vec::new();
    let mut records: Vec<Record> = Vec::new();
    for (place, record) in table.records.iter().enumerate().filter(|(place, _)| keep.get(*place) == Some(&true)) {
        let maps: Option<&IdMaps> = id_maps.iter().find(|(at, _)| *at == place).map(|(_, maps)| maps);
        kept.extend(maps.map(|maps| (records.len(), maps.clone())));
        records.push(*record);
    }
    MountTable { records, id_maps: kept, index: std::sync::OnceLock::new(), ..table }
}
