//! One exchange with the kernel as data: what is sent, and what the answers add up to. No I/O.
//!
//! Theory of operation. The kernel runs a request within sendmsg(2) and queues the answers to the socket: for a request its
//! acknowledgement, perhaps after one answer; for a dump many datagrams and NLMSG_DONE.
//!
//! Many requests fit one datagram, and the kernel runs them in turn. One that fails is answered with its own error whether
//! it asked for an acknowledgement or not, so only the last one asks: when its verdict is there, those of all others
//! are. rtnetlink knows no transactions: it runs the requests behind one that failed all the same ([`Mode::Each`]).
//! nf_tables does: its messages are framed by NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END, and nothing is done when one
//! of them failed ([`Mode::Batch`]). An error that concerns a whole transaction (no permission, a failed commit) is answered
//! to BATCH_BEGIN, before all others.
//!
//! Answers can be lost: when memory is short or the receive buffer full, the kernel drops them and says ENOBUFS once. A list
//! can be torn: what it shows changed between two of its datagrams (NLM_F_DUMP_INTR). What only asks is then asked
//! again, from the start; a change whose answer was lost is an error that says so, for nobody knows whether it was made.
//! So a list is complete or an error, never a part of it.
#![forbid(unsafe_code)]

use std::time::Duration;

use cellkit_core::{Error, Result, Subject};

use crate::attr::{self, Writer};
use crate::hint::HINTS;

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFNL_BATCH_GENID: u16 = 1;

/// The first message of rtnetlink (RTM_BASE). Messages below are of netlink itself, in every family.
const RTM_BASE: u16 = 16;
/// The last that can be rtnetlink's. Those of nfnetlink's subsystems have the subsystem in the upper byte.
const RTM_MAX: u16 = 0xff;
/// How many requests go into one datagram: so few that their errors, should all fail, fit the receive buffer.
const MOST_REQUESTS: usize = 64;
/// And how many bytes of them, unless one alone is longer.
const MOST_BYTES: usize = 32 << 10;

/// One message to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The kernel's name of the message, for errors.
    pub(crate) operation: &'static str,
    pub(crate) subject: Option<Subject>,
    pub(crate) kind: u16,
    /// NLM_F_REQUEST and what the mode asks for are added.
    pub(crate) flags: u16,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Whether nothing is changed by it, so that it may be made again. Of rtnetlink's messages every fourth asks, and
    /// those of nfnetlink are known by their names.
    pub(crate) fn only_asks(&self) -> bool {
        match self.kind {
            RTM_BASE..=RTM_MAX => self.kind % 4 == 2,
            _ => self.operation.contains("_GET"),
        }
    }

    /// Refuses a message of rtnetlink that is so long that the length of an attribute may not fit its 16 bits: the kernel
    /// would read the tail of the value as attributes of their own. See [`bytes`](crate::link::bytes).
    fn check_length(&self) -> Result<()> {
        let is_rtnetlink = (RTM_BASE..=RTM_MAX).contains(&self.kind);
        if !is_rtnetlink || u16::try_from(self.body.len()).is_ok() {
            return Ok(());
        }
        let why = format!("the message would take {} bytes, and attributes have at most {}", self.body.len(), u16::MAX);
        let error = Error::invalid(self.operation, why);
        Err(match &self.subject {
            Some(subject) => error.on(subject.clone()),
            None => error,
        })
    }

    fn error(&self, errno: i32, text: String) -> Error {
        let mut error = Error::from_errno(self.operation, errno).with_kernel_text(text);
        if let Some(subject) = &self.subject {
            error = error.on(subject.clone());
        }
        error.with_hints(&HINTS)
    }
}

/// What kind of answer ends the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One request, ended by its acknowledgement.
    Ack,
    /// One request, ended by NLMSG_DONE.
    Dump,
    /// Requests of rtnetlink, each for itself: one that fails keeps none of the others from being run. The error is that
    /// of the first that failed, with those of the others along.
    Each,
    /// All requests or none, as one nf_tables transaction.
    Batch,
    /// The same, and none when anybody changed the ruleset since it had this number: then it is ERESTART. For what was
    /// decided by what was read.
    BatchOf { generation: u32 },
}

impl Mode {
    fn is_transaction(self) -> bool {
        matches!(self, Self::Batch | Self::BatchOf { .. })
    }
}

/// Whether more is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
    /// What came is not the whole answer, and nothing was changed: ask again, with a new exchange.
    Again,
}

/// The requests by the datagrams they are sent in.
pub(crate) fn datagrams(requests: &[Request], mode: Mode) -> Vec<&[Request]> {
    if mode != Mode::Each {
        return vec![requests];
    }
    let mut list = Vec::new();
    let mut rest = requests;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fit = rest.iter().take(MOST_REQUESTS).take_while(|request| {
            bytes += HEADER + request.body.len();
            bytes <= MOST_BYTES
        });
        let (some, others) = rest.split_at(fit.count().max(1));
        list.push(some);
        rest = others;
    }
    list
}

/// The error for requests that were not answered within their time.
pub(crate) fn timed_out(requests: &[Request], limit: Duration) -> Error {
    let mut error = Error::timed_out(requests.first().map_or("netlink", |request| request.operation), limit);
    if let Some(subject) = requests.first().and_then(|request| request.subject.clone()) {
        error = error.on(subject);
    }
    if !requests.iter().all(Request::only_asks) {
        error = error.with_hint("the change may have been made or not: look before making it again");
    }
    error
}

/// The answers so far.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    requests: &'a [Request],
    mode: Mode,
    first: u32,
    port: u32,
    answers: Vec<Vec<u8>>,
    interrupted: bool,
    failures: Vec<Error>,
}

impl<'a> Exchange<'a> {
    /// The exchange of `requests`, whose sequence numbers begin at `first`.
    pub(crate) fn new(requests: &'a [Request], mode: Mode, first: u32) -> Self {
        Self { requests, mode, first, port: 0, answers: Vec::new(), interrupted: false, failures: Vec::new() }
    }

    /// Of a socket with this port: what says that it answers another's is none of the answers.
    pub(crate) fn of_port(mut self, port: u32) -> Self {
        self.port = port;
        self
    }

    /// How many sequence numbers the exchange uses.
    pub(crate) fn sequence_numbers(&self) -> u32 {
        let frame = if self.mode.is_transaction() { 2 } else { 0 };
        u32::try_from(self.requests.len()).unwrap_or(u32::MAX).saturating_add(frame)
    }

    /// What errors of the exchange as a whole are about.
    pub(crate) fn operation(&self) -> &'static str {
        self.requests.first().map_or("netlink", |request| request.operation)
    }

    /// The datagram to send.
    pub(crate) fn datagram(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(512);
        let mut sequence = self.first;
        if self.mode.is_transaction() {
            let mut begin = Writer::new(&[0, 0, 0, NFNL_SUBSYS_NFTABLES]);
            if let Mode::BatchOf { generation } = self.mode {
                begin.be32(NFNL_BATCH_GENID, generation);
            }
            push(&mut bytes, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, sequence, &begin.finish()?)?;
            sequence = sequence.wrapping_add(1);
        }
        for (index, request) in self.requests.iter().enumerate() {
            let asks = match self.mode {
                Mode::Ack => NLM_F_ACK,
                Mode::Dump => NLM_F_DUMP,
                _ if index + 1 == self.requests.len() => NLM_F_ACK,
                Mode::Each | Mode::Batch | Mode::BatchOf { .. } => 0,
            };
            request.check_length()?;
            push(&mut bytes, request.kind, request.flags | NLM_F_REQUEST | asks, sequence, &request.body)?;
            sequence = sequence.wrapping_add(1);
        }
        if self.mode.is_transaction() {
            push(&mut bytes, NFNL_MSG_BATCH_END, NLM_F_REQUEST, sequence, &[0, 0, 0, NFNL_SUBSYS_NFTABLES])?;
        }
        Ok(bytes)
    }

    /// Takes one datagram of the kernel in. Messages of earlier, abandoned exchanges are skipped.
    pub(crate) fn feed(&mut self, datagram: &[u8]) -> Result<Progress> {
        let mut rest = datagram;
        while let Some(message) = Message::first(rest) {
            rest = message.rest;
            match message.kind {
                NLMSG_NOOP => continue,
                // No sequence number to look at: what was lost may have been anything.
                NLMSG_OVERRUN => return self.lost(),
                _ => {}
            }
            if message.port != 0 && self.port != 0 && message.port != self.port {
                continue;
            }
            let Some(place) = self.place(message.sequence) else { continue };
            self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                NLMSG_ERROR | NLMSG_DONE => {
                    let (errno, text) = verdict(&message)
                        .ok_or_else(|| Error::parse(self.operation(), "the kernel's answer is too short"))?;
                    if errno != 0 {
                        self.failures.push(self.error(place, errno, text));
                    }
                    if self.mode == Mode::Dump && message.kind == NLMSG_ERROR && errno == 0 {
                        return Err(Error::parse(self.operation(), "the kernel's list has no end"));
                    }
                    if self.ends(place, errno) {
                        let torn = self.interrupted && self.failures.is_empty();
                        return Ok(if torn { Progress::Again } else { Progress::Done });
                    }
                }
                _ => self.answers.push(message.body.to_vec()),
            }
        }
        if rest.is_empty() { Ok(Progress::More) } else { Err(Error::parse(self.operation(), "a torn netlink message")) }
    }

    /// Some of the answers were lost (ENOBUFS, a datagram that did not fit).
    ///
    /// # Errors
    /// ENOBUFS, where something may have been changed.
    pub(crate) fn lost(&self) -> Result<Progress> {
        if self.requests.iter().all(Request::only_asks) {
            return Ok(Progress::Again);
        }
        let mut error = Error::from_errno(self.operation(), libc::ENOBUFS).with_hint(
            "the kernel's answer was lost, for want of memory or room: the change may have been made or not, so look before \
             making it again",
        );
        if let Some(subject) = self.requests.first().and_then(|request| request.subject.clone()) {
            error = error.on(subject);
        }
        Err(error)
    }

    /// The sequence number counted from the first of this exchange, if it is one of them.
    fn place(&self, sequence: u32) -> Option<usize> {
        let place = sequence.wrapping_sub(self.first);
        (place < self.sequence_numbers()).then_some(place as usize)
    }

    fn error(&self, place: usize, errno: i32, text: String) -> Error {
        let index = if self.mode.is_transaction() { place.checked_sub(1) } else { Some(place) };
        match index.and_then(|index| self.requests.get(index)) {
            Some(request) => request.error(errno, text),
            None => {
                let mut error = Error::from_errno("NFNL_MSG_BATCH_BEGIN", errno).with_kernel_text(text);
                if let Some(subject) = self.requests.first().and_then(|request| request.subject.clone()) {
                    error = error.on(subject);
                }
                error.with_hints(&HINTS)
            }
        }
    }

    fn ends(&self, place: usize, errno: i32) -> bool {
        match self.mode {
            Mode::Ack | Mode::Dump => true,
            Mode::Each => place + 1 == self.requests.len(),
            Mode::Batch | Mode::BatchOf { .. } => place == self.requests.len() || (place == 0 && errno != 0),
        }
    }

    /// The bodies of the answers, or the failures, first the first.
    pub(crate) fn finish(self) -> Result<Vec<Vec<u8>>> {
        Error::all(self.failures).map(|()| self.answers)
    }
}

/// The messages of a datagram that nobody asked for, by kind and body. `None` where some are missing or torn.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    let mut rest = Some(datagram);
    std::iter::from_fn(move || {
        loop {
            let bytes = rest.filter(|bytes| !bytes.is_empty())?;
            let message = Message::first(bytes);
            rest = message.as_ref().map(|message| message.rest);
            match message {
                Some(Message { kind: NLMSG_NOOP, .. }) => {}
                Some(Message { kind: NLMSG_OVERRUN, .. }) | None => return Some(None),
                Some(Message { kind, body, .. }) => return Some(Some((kind, body))),
            }
        }
    })
}

fn push(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Result<()> {
    let length = u32::try_from(HEADER + body.len())
        .map_err(|_| Error::invalid("netlink", format!("a message of {} bytes is too long", body.len())))?;
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    // The port: the kernel fills in the sender's own.
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(())
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    body: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(bytes.first_chunk().copied()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..)?.first_chunk().copied()?);
        let flags = u16::from_ne_bytes(bytes.get(6..)?.first_chunk().copied()?);
        let sequence = u32::from_ne_bytes(bytes.get(8..)?.first_chunk().copied()?);
        let port = u32::from_ne_bytes(bytes.get(12..)?.first_chunk().copied()?);
        let body = bytes.get(HEADER..length)?;
        let rest = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
        Some(Self { kind, flags, sequence, port, body, rest })
    }
}

/// The errno of an acknowledgement or of the end of a dump, with the kernel's own text where it said something.
fn verdict(message: &Message<'_>) -> Option<(i32, String)> {
    let errno = i32::from_ne_bytes(message.body.first_chunk().copied()?).checked_neg()?;
    let mut texts = message.body.get(4..)?;
    if message.kind == NLMSG_ERROR {
        // The header of the request, and without NLM_F_CAPPED all of it, comes before the attributes.
        let request = u32::from_ne_bytes(texts.first_chunk().copied()?) as usize;
        let skip = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { request.checked_next_multiple_of(4)? };
        texts = texts.get(skip..).unwrap_or_default();
    }
    let text = if message.flags & NLM_F_ACK_TLVS != 0 { kernel_text(texts) } else { String::new() };
    Some((errno, text))
}

fn kernel_text(attributes: &[u8]) -> String {
    let number = |kind| attr::find(attributes, kind).and_then(|value| value.first_chunk().copied());
    let mut text = attr::find(attributes, NLMSGERR_ATTR_MSG).map(attr::as_text).unwrap_or_default();
    let mut add = |more: String| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&more);
    };
    if let Some(offset) = number(NLMSGERR_ATTR_OFFS) {
        add(format!("(at byte {} of the message)", u32::from_ne_bytes(offset)));
    }
    if let Some(missing) = number(NLMSGERR_ATTR_MISS_TYPE) {
        add(format!("(attribute {} is missing)", u32::from_ne_bytes(missing)));
    }
    text
}

#[cfg(test)]
mod tests;
