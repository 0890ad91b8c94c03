//! Unpacking on one thread, making files on another.
//!
//! ```text
//!   caller's thread: read, unpack, digest ──► full blocks ──► thread: entries, files
//!                                        ◄── empty blocks ◄──
//! ```
//!
//! The reader stays on the caller's thread, so that it need not be one that may be sent. The thread lives no longer than
//! the call, and has the caller's namespaces, ids and working directory.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use cellkit_core::{Error, Result};

/// How large a block is, and how many there are: a megabyte altogether.
const BLOCK: usize = 128 << 10;
const BLOCKS: usize = 8;

/// Runs `work` on what `source` gives, both at once where a thread can be had.
///
/// # Errors
/// What `work` answers.
pub(super) fn through<T: Send>(
    source: &mut impl Read,
    work: impl FnOnce(&mut dyn Read) -> Result<T> + Send,
) -> Result<T> {
    let (full_in, full_out) = sync_channel(BLOCKS);
    let (empty_in, empty_out) = sync_channel(BLOCKS);
    for _ in 0..BLOCKS {
        let _ = empty_in.send(vec![0; BLOCK].into_boxed_slice());
    }
    thread::scope(|scope| {
        let mut pipe = Pipe { full: full_out, empty: empty_in, block: None, at: 0, length: 0, ended: false };
        let worker = thread::Builder::new().name("layer".into()).spawn_scoped(scope, move || work(&mut pipe));
        let worker = worker.map_err(|error| Error::from_io("clone", &error))?;
        pump(source, &full_in, &empty_out);
        drop(full_in);
        match worker.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A block, and how much of it is filled: not at all at the end.
type Filled = io::Result<(Box<[u8]>, usize)>;

/// Fills blocks until the end, an error, or nobody wants more.
fn pump(source: &mut impl Read, full: &SyncSender<Filled>, empty: &Receiver<Box<[u8]>>) {
    while let Ok(mut block) = empty.recv() {
        let filled = fill(source, &mut block);
        let ends = !matches!(filled, Ok(1..));
        if full.send(filled.map(|length| (block, length))).is_err() || ends {
            return;
        }
    }
}

/// Reads until the block is full or there is no more: a source may give a few bytes at a time.
fn fill(source: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = block.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match source.read(rest)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

/// The end that is read from.
struct Pipe {
    full: Receiver<Filled>,
    empty: SyncSender<Box<[u8]>>,
    block: Option<Box<[u8]>>,
    at: usize,
    length: usize,
    ended: bool,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.length && !self.ended {
            if let Some(used) = self.block.take() {
                // The other end may have what it needs.
                let _ = self.empty.send(used);
            }
            (self.at, self.length) = (0, 0);
            match self.full.recv() {
                Ok(filled) => {
                    let (block, length) = filled?;
                    (self.block, self.length) = (Some(block), length);
                    self.ended = length == 0;
                }
                // The other end is gone after its last block: an end, or an error that was told.
                Err(_) => self.ended = true,
            }
        }
        let block = self.block.as_deref().unwrap_or_default();
        let rest = block.get(self.at..self.length).unwrap_or_default();
        let read = { rest }.read(buffer)?;
        self.at += read;
        Ok(read)
    }
}
