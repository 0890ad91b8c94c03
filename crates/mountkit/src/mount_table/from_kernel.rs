//! Records from statmount(2), one call a mount.
#![forbid(unsafe_code)]

use cellkit_core::Errno;

use super::record::{IdMaps, Known, MountIdRange, Record, Span};
use crate::sys::statmount as sys;

/// All that a record holds.
const EVERYTHING: u64 = sys::STATMOUNT_SB_BASIC
    | sys::STATMOUNT_MNT_BASIC
    | sys::STATMOUNT_PROPAGATE_FROM
    | sys::STATMOUNT_MNT_ROOT
    | sys::STATMOUNT_MNT_POINT
    | sys::STATMOUNT_FS_TYPE
    | sys::STATMOUNT_MNT_OPTS
    | sys::STATMOUNT_FS_SUBTYPE
    | sys::STATMOUNT_SB_SOURCE
    | sys::STATMOUNT_SUPPORTED_MASK;
/// Of the only fields of `mnt_propagation` that no other field has.
const MS_UNBINDABLE: u64 = libc::MS_UNBINDABLE;
/// How large the answer about one mount may get: options and two paths, each of which the kernel bounds too.
const LARGEST: usize = 16 << 20;
/// As many ids as one listmount(2) gives at most.
const PAGE: usize = 1_000_000;

/// The unique ids of all mounts below `mount`, ascending.
///
/// The kernel does not say how many there are: a page that came back full is followed by another, from the last id on.
/// What is mounted meanwhile has a greater id and is found too.
pub(super) fn list(namespace: Option<u64>, mount: u64) -> Result<Vec<u64>, Errno> {
    let mut ids: Vec<u64> = Vec::new();
    let mut page = 1024;
    loop {
        let start = ids.len();
        let last = ids.last().copied().unwrap_or(0);
        ids.resize(start + page, 0);
        let room = ids.get_mut(start..).unwrap_or_default();
        let count = sys::listmount(namespace, mount, last, room)?;
        ids.truncate(start + count.min(page));
        if count < page {
            return Ok(ids);
        }
        // Few calls also where there are many mounts.
        page = (page * 8).min(PAGE);
    }
}

/// The unique ids of all mounts of a namespace, ascending: also of those that are not below what the kernel takes for its
/// root. `some` is one of them. EPERM without CAP_SYS_ADMIN over it.
pub(super) fn list_all(asker: &mut Asker, namespace: u64, some: u64) -> Result<Vec<u64>, Errno> {
    let mut top = some;
    while let Some(parent) = asker.ids(top)?.map(|ids| ids.unique_parent).filter(|&parent| parent != top) {
        top = parent;
    }
    let mut ids = list(Some(namespace), top)?;
    // It is none of those below it.
    if let Err(place) = ids.binary_search(&top) {
        ids.insert(place, top);
    }
    Ok(ids)
}

/// Asks about mounts, with one buffer for all answers.
#[derive(Debug)]
pub(super) struct Asker {
    namespace: Option<u64>,
    answer: Vec<u8>,
}

impl Asker {
    pub(super) fn new(namespace: Option<u64>) -> Self {
        Self { namespace, answer: vec![0; 4096] }
    }

    /// `None` for a mount that is not there any more.
    fn ask(&mut self, mount: u64, mask: u64) -> Result<Option<Answer<'_>>, Errno> {
        loop {
            match sys::statmount(self.namespace, mount, mask, &mut self.answer) {
                Ok(()) => return Ok(Some(Answer(&self.answer))),
                Err(Errno(libc::ENOENT)) => return Ok(None),
                Err(Errno(libc::EINTR)) => {}
                Err(Errno(libc::EOVERFLOW)) if self.answer.len() < LARGEST => {
                    let larger = self.answer.len() * 4;
                    self.answer.resize(larger, 0);
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The mount's old id and its parent's unique and old one.
    pub(super) fn ids(&mut self, mount: u64) -> Result<Option<Ids>, Errno> {
        let answer = self.ask(mount, sys::STATMOUNT_MNT_BASIC)?;
        Ok(answer.map(|answer| Ids { id: answer.u32(ID_OLD), unique_parent: answer.u64(PARENT) }))
    }

    /// The unique id of the mount namespace that the mount is in. Linux 6.11.
    pub(super) fn namespace_of(&mut self, mount: u64) -> Result<Option<u64>, Errno> {
        let answer = self.ask(mount, sys::STATMOUNT_MNT_NS_ID)?;
        Ok(answer.filter(|answer| answer.has(sys::STATMOUNT_MNT_NS_ID)).map(|answer| answer.u64(NAMESPACE)))
    }

    /// The id maps of an idmapped mount. Linux 6.15.
    pub(super) fn id_maps(&mut self, mount: u64) -> Result<Option<IdMaps>, Errno> {
        let mask = sys::STATMOUNT_MNT_UIDMAP | sys::STATMOUNT_MNT_GIDMAP;
        let answer = self.ask(mount, mask)?;
        Ok(answer
            .filter(|answer| answer.has(mask))
            .map(|answer| IdMaps { uids: answer.ranges(UIDMAP_NUM, UIDMAP), gids: answer.ranges(GIDMAP_NUM, GIDMAP) }))
    }

    /// All of a mount, its texts put at the end of `text`, and which of them the kernel knows to tell.
    pub(super) fn record(&mut self, mount: u64, text: &mut Vec<u8>) -> Result<Option<(Record, Known)>, Errno> {
        let Some(answer) = self.ask(mount, EVERYTHING)? else { return Ok(None) };
        let mut keep = |mask, field| {
            if !answer.has(mask) {
                return Some(Span::NONE);
            }
            let start = text.len();
            text.extend_from_slice(answer.string(field));
            Span::new(start..text.len())
        };
        let record = Record {
            unique_id: answer.u64(ID),
            unique_parent: answer.u64(PARENT),
            id: answer.u32(ID_OLD),
            parent: answer.u32(PARENT_OLD),
            device: (answer.u32(DEV_MAJOR), answer.u32(DEV_MINOR)),
            attrs: answer.u64(ATTR),
            super_flags: answer.u32(SB_FLAGS),
            peer_group: answer.group(PEER_GROUP),
            master: answer.group(MASTER),
            // As mountinfo has it: only where it is not the master itself.
            propagate_from: match answer.group(PROPAGATE_FROM) {
                group if answer.has(sys::STATMOUNT_PROPAGATE_FROM) && group != answer.group(MASTER) => group,
                _ => 0,
            },
            unbindable: answer.u64(PROPAGATION) & MS_UNBINDABLE != 0,
            root: keep(sys::STATMOUNT_MNT_ROOT, ROOT).ok_or(Errno(libc::EOVERFLOW))?,
            mount_point: keep(sys::STATMOUNT_MNT_POINT, POINT).ok_or(Errno(libc::EOVERFLOW))?,
            fs_type: keep(sys::STATMOUNT_FS_TYPE, FS_TYPE).ok_or(Errno(libc::EOVERFLOW))?,
            subtype: keep(sys::STATMOUNT_FS_SUBTYPE, SUBTYPE).ok_or(Errno(libc::EOVERFLOW))?,
            source: keep(sys::STATMOUNT_SB_SOURCE, SOURCE).ok_or(Errno(libc::EOVERFLOW))?,
            options: keep(sys::STATMOUNT_MNT_OPTS, OPTIONS).ok_or(Errno(libc::EOVERFLOW))?,
        };
        // What is empty is not marked as told. Linux 6.15 says what it could tell; before, what it did tell shows it.
        let supported = if answer.has(sys::STATMOUNT_SUPPORTED_MASK) { answer.u64(SUPPORTED) } else { 0 };
        let knows = |mask| (answer.u64(MASK) | supported) & mask != 0;
        let source = knows(sys::STATMOUNT_SB_SOURCE);
        let known = Known {
            // The same version brought both.
            subtype: source || knows(sys::STATMOUNT_FS_SUBTYPE),
            source,
            options: source || knows(sys::STATMOUNT_MNT_OPTS),
        };
        Ok(Some((record, known)))
    }
}

/// What statmount(2) says of the numbers of a mount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) id: u32,
    pub(super) unique_parent: u64,
}

// Where struct statmount has its fields.
const OPTIONS: usize = 4;
const MASK: usize = 8;
const DEV_MAJOR: usize = 16;
const DEV_MINOR: usize = 20;
const SB_FLAGS: usize = 32;
const FS_TYPE: usize = 36;
const ID: usize = 40;
const PARENT: usize = 48;
const ID_OLD: usize = 56;
const PARENT_OLD: usize = 60;
const ATTR: usize = 64;
const PROPAGATION: usize = 72;
const PEER_GROUP: usize = 80;
const MASTER: usize = 88;
const PROPAGATE_FROM: usize = 96;
const ROOT: usize = 104;
const POINT: usize = 108;
const NAMESPACE: usize = 112;
const SUBTYPE: usize = 120;
const SOURCE: usize = 124;
const SUPPORTED: usize = 144;
const UIDMAP_NUM: usize = 152;
const UIDMAP: usize = 156;
const GIDMAP_NUM: usize = 160;
const GIDMAP: usize = 164;
/// Where the strings begin, which the fields with a string count from.
const STRINGS: usize = 512;

/// struct statmount, as bytes. What was asked for and not answered is 0 or of an answer before: [`has`](Self::has) tells.
#[derive(Clone, Copy, Debug)]
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn u32(self, at: usize) -> u32 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u32::from_ne_bytes)
    }

    fn u64(self, at: usize) -> u64 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().map_or(0, u64::from_ne_bytes)
    }

    fn has(self, mask: u64) -> bool {
        self.u64(MASK) & mask == mask
    }

    /// The number of a peer group: a C int, in a larger field.
    fn group(self, at: usize) -> u32 {
        self.u64(at) as u32
    }

    fn string(self, at: usize) -> &'a [u8] {
        let rest = self.0.get(STRINGS.saturating_add(self.u32(at) as usize)..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// `count` strings "first lower_first count", each with a zero byte after it.
    fn ranges(self, count: usize, at: usize) -> Vec<MountIdRange> {
        let rest = self.0.get(STRINGS.saturating_add(self.u32(at) as usize)..).unwrap_or_default();
        let range = |text: &[u8]| {
            let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
            let mut number = || numbers.next()?.parse().ok();
            Some(MountIdRange { first: number()?, lower_first: number()?, count: number()? })
        };
        rest.split(|&byte| byte == 0).take(self.u32(count) as usize).filter_map(range).collect()
    }
}
