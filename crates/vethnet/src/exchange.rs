//! One exchange with the kernel as data: what is sent, and what the answers add up to. No I/O.
//!
//! The kernel runs a request within sendmsg(2) and queues the answers to the socket: for a request its
//! acknowledgement, perhaps after one answer; for a dump many datagrams and NLMSG_DONE. A batch of nf_tables messages
//! is one datagram between NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END: each message that failed is answered with its
//! own error, and the last one, which alone asks for it, with an acknowledgement in any case. An error that concerns
//! the whole batch (no permission, a failed commit) is answered to BATCH_BEGIN, before all others.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use crate::attr;
use crate::hint::HINTS;

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u8 = 10;

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
    /// All requests or none, as one nf_tables transaction.
    Batch,
}

/// Whether more is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

/// The answers so far.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    requests: &'a [Request],
    mode: Mode,
    first: u32,
    answers: Vec<Vec<u8>>,
    interrupted: bool,
    failure: Option<Error>,
}

impl<'a> Exchange<'a> {
    /// The exchange of `requests`, whose sequence numbers begin at `first`.
    pub(crate) fn new(requests: &'a [Request], mode: Mode, first: u32) -> Self {
        Self { requests, mode, first, answers: Vec::new(), interrupted: false, failure: None }
    }

    /// How many sequence numbers the exchange uses.
    pub(crate) fn sequence_numbers(&self) -> u32 {
        let frame = if self.mode == Mode::Batch { 2 } else { 0 };
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
        if self.mode == Mode::Batch {
            push(&mut bytes, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, sequence, &[0, 0, 0, NFNL_SUBSYS_NFTABLES])?;
            sequence = sequence.wrapping_add(1);
        }
        for (index, request) in self.requests.iter().enumerate() {
            let asks = match self.mode {
                Mode::Ack => NLM_F_ACK,
                Mode::Dump => NLM_F_DUMP,
                Mode::Batch if index + 1 == self.requests.len() => NLM_F_ACK,
                Mode::Batch => 0,
            };
            push(&mut bytes, request.kind, request.flags | NLM_F_REQUEST | asks, sequence, &request.body)?;
            sequence = sequence.wrapping_add(1);
        }
        if self.mode == Mode::Batch {
            push(&mut bytes, NFNL_MSG_BATCH_END, NLM_F_REQUEST, sequence, &[0, 0, 0, NFNL_SUBSYS_NFTABLES])?;
        }
        Ok(bytes)
    }

    /// Takes one datagram of the kernel in. Messages of earlier, abandoned exchanges are skipped.
    pub(crate) fn feed(&mut self, datagram: &[u8]) -> Result<Progress> {
        let mut rest = datagram;
        while let Some(message) = Message::first(rest) {
            rest = message.rest;
            let Some(place) = self.place(message.sequence) else { continue };
            match message.kind {
                NLMSG_OVERRUN => return Err(Error::from_errno(self.operation(), libc::ENOBUFS)),
                NLMSG_ERROR | NLMSG_DONE => {
                    self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                    let (errno, text) = verdict(&message)
                        .ok_or_else(|| Error::parse(self.operation(), "the kernel's answer is too short"))?;
                    if errno != 0 && self.failure.is_none() {
                        self.failure = Some(self.error(place, errno, text));
                    }
                    if self.ends(place, errno) {
                        return Ok(Progress::Done);
                    }
                }
                _ => {
                    self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                    self.answers.push(message.body.to_vec());
                }
            }
        }
        if rest.is_empty() { Ok(Progress::More) } else { Err(Error::parse(self.operation(), "a torn netlink message")) }
    }

    /// The sequence number counted from the first of this exchange, if it is one of them.
    fn place(&self, sequence: u32) -> Option<usize> {
        let place = sequence.wrapping_sub(self.first);
        (place < self.sequence_numbers()).then_some(place as usize)
    }

    fn error(&self, place: usize, errno: i32, text: String) -> Error {
        let index = if self.mode == Mode::Batch { place.checked_sub(1) } else { Some(place) };
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
            Mode::Batch => place == self.requests.len() || (place == 0 && errno != 0),
        }
    }

    /// Whether what a dump listed changed while it ran, so that it may lack or repeat something.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.interrupted && self.failure.is_none()
    }

    /// The bodies of the answers, or the first failure.
    pub(crate) fn finish(self) -> Result<Vec<Vec<u8>>> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.answers),
        }
    }
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
    body: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(bytes.first_chunk().copied()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..)?.first_chunk().copied()?);
        let flags = u16::from_ne_bytes(bytes.get(6..)?.first_chunk().copied()?);
        let sequence = u32::from_ne_bytes(bytes.get(8..)?.first_chunk().copied()?);
        let body = bytes.get(HEADER..length)?;
        let rest = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
        Some(Self { kind, flags, sequence, body, rest })
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
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;
    use proptest::prelude::*;

    fn request(operation: &'static str) -> Request {
        let subject = Some(Subject::Interface("eth0".into()));
        Request { operation, subject, kind: 16, flags: 0x600, body: vec![1, 2, 3, 4] }
    }

    fn answer(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        push(&mut bytes, kind, flags, sequence, body).unwrap();
        bytes
    }

    fn acknowledgement(sequence: u32, errno: i32, text: Option<&str>) -> Vec<u8> {
        let mut header = (-errno).to_ne_bytes().to_vec();
        header.extend_from_slice(&[20, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut writer = attr::Writer::new(&header);
        if let Some(text) = text {
            writer.text(NLMSGERR_ATTR_MSG, text).put(NLMSGERR_ATTR_OFFS, &36u32.to_ne_bytes());
        }
        answer(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, sequence, &writer.finish().unwrap())
    }

    #[test]
    fn an_acknowledged_request() {
        let requests = [request("RTM_NEWLINK")];
        let mut exchange = Exchange::new(&requests, Mode::Ack, 7);
        let sent = exchange.datagram().unwrap();
        assert_eq!(sent, [20, 0, 0, 0, 16, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(exchange.feed(&acknowledgement(6, libc::EPERM, None)).unwrap(), Progress::More, "a stale answer");
        assert_eq!(exchange.feed(&acknowledgement(7, 0, None)).unwrap(), Progress::Done);
        assert!(exchange.finish().unwrap().is_empty());
    }

    #[test]
    fn the_kernels_text_is_kept() {
        let requests = [request("RTM_NEWLINK")];
        let mut exchange = Exchange::new(&requests, Mode::Ack, 7);
        let datagram = acknowledgement(7, libc::EEXIST, Some("Name taken"));
        assert_eq!(exchange.feed(&datagram).unwrap(), Progress::Done);
        let error = exchange.finish().unwrap_err();
        assert_eq!(error.to_string(), r#"RTM_NEWLINK interface "eth0": file exists (EEXIST)"#);
        assert_eq!(error.kernel_text(), Some("Name taken (at byte 36 of the message)"));
    }

    #[test]
    fn the_text_of_an_answer_that_repeats_the_request() {
        let mut body = (-libc::EINVAL).to_ne_bytes().to_vec();
        body.extend_from_slice(&answer(16, 0, 7, &[9; 6]));
        let mut writer = attr::Writer::new(&body);
        writer.text(NLMSGERR_ATTR_MSG, "why").put(NLMSGERR_ATTR_MISS_TYPE, &3u32.to_ne_bytes());
        let datagram = answer(NLMSG_ERROR, NLM_F_ACK_TLVS, 7, &writer.finish().unwrap());
        let requests = [request("RTM_NEWLINK")];
        let mut exchange = Exchange::new(&requests, Mode::Ack, 7);
        exchange.feed(&datagram).unwrap();
        assert_eq!(exchange.finish().unwrap_err().kernel_text(), Some("why (attribute 3 is missing)"));
    }

    #[test]
    fn a_dump_that_was_interrupted_says_so() {
        let requests = [request("RTM_GETLINK")];
        let mut exchange = Exchange::new(&requests, Mode::Dump, 1);
        assert_eq!(exchange.feed(&answer(16, NLM_F_DUMP_INTR, 1, &[5])).unwrap(), Progress::More);
        assert_eq!(exchange.feed(&answer(NLMSG_DONE, 0, 1, &[0; 4])).unwrap(), Progress::Done);
        assert!(exchange.was_interrupted());
        assert_eq!(exchange.finish().unwrap(), [vec![5]]);
    }

    #[test]
    fn a_batch_names_the_message_that_failed() {
        let requests = [request("NFT_MSG_NEWTABLE"), request("NFT_MSG_NEWCHAIN"), request("NFT_MSG_NEWRULE")];
        let mut exchange = Exchange::new(&requests, Mode::Batch, 10);
        assert_eq!(exchange.sequence_numbers(), 5);
        assert_eq!(exchange.feed(&acknowledgement(12, libc::ENOENT, None)).unwrap(), Progress::More);
        assert_eq!(exchange.feed(&acknowledgement(13, 0, None)).unwrap(), Progress::Done);
        let error = exchange.finish().unwrap_err();
        assert_eq!((error.operation(), error.kind()), ("NFT_MSG_NEWCHAIN", ErrorKind::NotFound));

        let mut exchange = Exchange::new(&requests, Mode::Batch, 10);
        assert_eq!(exchange.feed(&acknowledgement(10, libc::EPERM, None)).unwrap(), Progress::Done);
        assert_eq!(exchange.finish().unwrap_err().operation(), "NFNL_MSG_BATCH_BEGIN");
    }

    proptest! {
        #[test]
        fn any_datagram_is_taken_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let requests = [request("RTM_GETLINK")];
            for mode in [Mode::Ack, Mode::Dump, Mode::Batch] {
                let _ = Exchange::new(&requests, mode, 0).feed(&bytes);
            }
        }

        #[test]
        fn any_answer_body_is_taken_without_panic(
            kind in 0u16..20, flags: u16, body in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let requests = [request("RTM_GETLINK")];
            for mode in [Mode::Ack, Mode::Dump, Mode::Batch] {
                let _ = Exchange::new(&requests, mode, 3).feed(&answer(kind, flags, 3, &body));
            }
        }
    }
}
