//! Tests against a kernel that says what it is told to, on a socket pair in the place of the netlink socket.
//!
//! Whatever it says, the answer is the complete list or a typed error, in bounded time.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use cellkit_core::{Error, ErrorKind, Result};
use proptest::prelude::*;

use crate::exchange::{Mode, Request};
use crate::net::Net;
use crate::socket::Socket;

const NOOP: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;
const LINK: u16 = 16;
const MULTI: u16 = 2;
const DUMP_INTR: u16 = 0x10;
const PORT: u32 = 4711;
/// For an answer that comes, on however busy a machine.
const LIMIT: Duration = Duration::from_secs(60);
/// For one that does not come: then it makes no difference that a busy machine takes longer.
const SHORT: Duration = Duration::from_millis(50);

/// What is said to one request, whose sequence number it is given: datagrams.
type Reply = Box<dyn Fn(u32) -> Vec<Vec<u8>> + Send>;

fn reply(what: impl Fn(u32) -> Vec<Vec<u8>> + Send + 'static) -> Reply {
    Box::new(what)
}

fn message_of(port: u32, kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&port.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    message_of(PORT, kind, flags, sequence, body)
}

fn part(sequence: u32, number: u8) -> Vec<u8> {
    message(LINK, MULTI, sequence, &[number; 20])
}

fn done(sequence: u32) -> Vec<u8> {
    message(DONE, MULTI, sequence, &0i32.to_ne_bytes())
}

fn error(sequence: u32, errno: i32) -> Vec<u8> {
    let mut body = (-errno).to_ne_bytes().to_vec();
    body.extend_from_slice(&message(LINK, 0, sequence, &[]));
    message(ERROR, 0x100, sequence, &body)
}

/// The whole list, as a kernel in good health sends it.
fn whole(sequence: u32) -> Vec<Vec<u8>> {
    vec![[part(sequence, 1), part(sequence, 2)].concat(), part(sequence, 3), done(sequence)]
}

fn is_whole(answers: &[Vec<u8>]) -> bool {
    answers == [vec![1; 20], vec![2; 20], vec![3; 20]]
}

/// A kernel with an answer for each request that will come, and the socket to it.
fn kernel(replies: Vec<Reply>) -> (Socket, thread::JoinHandle<usize>) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(LIMIT)).unwrap();
    let thread = thread::spawn(move || {
        let mut asked = 0;
        let mut request = vec![0; 64 << 10];
        for reply in replies {
            let Ok(length) = theirs.recv(&mut request) else { break };
            if length == 0 {
                break;
            }
            asked += 1;
            let sequence = u32::from_ne_bytes(request[8..12].try_into().unwrap());
            for datagram in reply(sequence) {
                // Nobody listens any more after an error.
                let _ = theirs.send(&datagram);
            }
        }
        asked
    });
    (Socket::new(OwnedFd::from(ours), PORT), thread)
}

fn get() -> Request {
    Request { operation: "RTM_GETLINK", subject: None, kind: 18, flags: 0, body: vec![0; 16] }
}

fn set() -> Request {
    Request { operation: "RTM_SETLINK", subject: None, kind: 19, flags: 0, body: vec![0; 16] }
}

type Asked = (Result<Vec<Vec<u8>>>, usize);

/// Asks the kernel, waiting in the async way and in the blocking one, which have to agree. Says how often it was asked.
fn ask(request: &Request, mode: Mode, replies: impl Fn() -> Vec<Reply>) -> Asked {
    ask_within(LIMIT, request, mode, replies)
}

fn ask_within(limit: Duration, request: &Request, mode: Mode, replies: impl Fn() -> Vec<Reply>) -> Asked {
    let requests = std::slice::from_ref(request);
    let (socket, thread) = kernel(replies());
    let blocking = socket.talk_within(requests, mode, limit);
    end(&socket);
    let asked = thread.join().unwrap();

    let (socket, thread) = kernel(replies());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(async {
        let net = Net::new(socket).unwrap().time_limit(limit);
        let result = net.talk(requests, mode).await;
        end(net.socket());
        result
    });
    assert_eq!(thread.join().unwrap(), asked);
    match (&blocking, &result) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
        _ => panic!("{blocking:?} and {result:?}"),
    }
    (result, asked)
}

/// Ends the kernel's thread, where it waits for more requests.
fn end(socket: &Socket) {
    let _ = nix::sys::socket::send(std::os::fd::AsRawFd::as_raw_fd(socket), &[], nix::sys::socket::MsgFlags::empty());
}

fn list(replies: impl Fn() -> Vec<Reply>) -> Asked {
    ask(&get(), Mode::Dump, replies)
}

fn failed(result: Asked) -> Error {
    result.0.expect_err("an error")
}

#[test]
fn a_list_in_good_health() {
    let (result, asked) = list(|| vec![reply(whole)]);
    assert!(is_whole(&result.unwrap()));
    assert_eq!(asked, 1);
}

#[test]
fn noops_and_messages_of_others_are_skipped() {
    let (result, asked) = list(|| {
        vec![reply(|sequence| {
            vec![
                message(NOOP, 0, sequence, &[]),
                // An answer to an earlier request, one to a later, and one to another socket.
                [part(sequence - 1, 9), done(sequence - 1)].concat(),
                part(sequence + 1, 9),
                message_of(PORT + 1, LINK, MULTI, sequence, &[9; 20]),
                message_of(PORT + 1, DONE, MULTI, sequence, &[0; 4]),
                [message(NOOP, 0, 0, &[7; 3]), part(sequence, 1), message(NOOP, 0, 0, &[]), part(sequence, 2)].concat(),
                // Some answers of the kernel have no port in them.
                message_of(0, LINK, MULTI, sequence, &[3; 20]),
                done(sequence),
            ]
        })]
    });
    assert!(is_whole(&result.unwrap()));
    assert_eq!(asked, 1);
}

#[test]
fn an_overrun_begins_the_list_again() {
    for at in 0..4 {
        let (result, asked) = list(|| {
            let overrun = move |sequence| {
                let mut datagrams = whole(sequence);
                datagrams.insert(at.min(2), message(OVERRUN, 0, 0, &[]));
                datagrams
            };
            vec![reply(overrun), reply(overrun), reply(whole)]
        });
        assert!(is_whole(&result.unwrap()));
        assert_eq!(asked, 3);
    }
}

#[test]
fn an_interrupted_list_is_begun_again_and_not_for_ever() {
    // Wherever the flag is: in a part or in the end.
    for at in 0..3 {
        let interrupted = move |sequence| {
            let mut datagrams = whole(sequence);
            datagrams[at][6] |= DUMP_INTR as u8;
            datagrams
        };
        let (result, asked) = list(|| vec![reply(interrupted), reply(whole)]);
        assert!(is_whole(&result.unwrap()));
        assert_eq!(asked, 2);
        let (result, asked) = list(|| (0..20).map(|_| reply(interrupted)).collect());
        let error = result.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        assert!(error.can_retry() && error.hint().unwrap().contains("kept changing"));
        assert_eq!(asked, 16);
    }
}

#[test]
fn an_error_after_parts_is_an_error() {
    for errno in [libc::EPERM, libc::ENOMEM, libc::ENODEV] {
        let after = move |sequence| vec![part(sequence, 1), error(sequence, errno)];
        assert_eq!(failed(list(|| vec![reply(after)])).raw_os_error(), Some(errno));
        // The end of a list has a verdict too.
        let end = move |sequence| vec![part(sequence, 1), message(DONE, MULTI, sequence, &(-errno).to_ne_bytes())];
        assert_eq!(failed(list(|| vec![reply(end)])).raw_os_error(), Some(errno));
    }
    // Neither is an acknowledgement the end, nor an end without a verdict.
    let end = |sequence| vec![part(sequence, 1), error(sequence, 0)];
    assert_eq!(failed(list(|| vec![reply(end)])).kind(), ErrorKind::Parse);
    let end = |sequence| vec![part(sequence, 1), message(DONE, MULTI, sequence, &[])];
    assert_eq!(failed(list(|| vec![reply(end)])).kind(), ErrorKind::Parse);
}

#[test]
fn a_list_cut_in_two_at_every_byte() {
    let length = whole(1).concat().len();
    let boundaries = [36, 72, 108, length];
    for cut in 1..=length {
        let result = list(|| {
            vec![reply(move |sequence| {
                let stream = whole(sequence).concat();
                let (one, other) = stream.split_at(cut);
                vec![one.to_vec(), other.to_vec()]
            })]
        });
        match result.0 {
            Ok(answers) => assert!(boundaries.contains(&cut) && is_whole(&answers), "cut at {cut}"),
            Err(error) => {
                assert!(!boundaries.contains(&cut), "cut at {cut}");
                assert_eq!(error.kind(), ErrorKind::Parse, "cut at {cut}: {error:?}");
            }
        }
    }
}

#[test]
fn a_list_without_its_end_at_every_byte() {
    let length = whole(1).concat().len();
    for cut in 0..length {
        let cut_off = || vec![reply(move |sequence| vec![whole(sequence).concat()[..cut].to_vec()])];
        let (want, limit) = if cut % 36 == 0 { (ErrorKind::TimedOut, SHORT) } else { (ErrorKind::Parse, LIMIT) };
        let error = failed(ask_within(limit, &get(), Mode::Dump, cut_off));
        assert_eq!(error.kind(), want, "cut at {cut}: {error:?}");
    }
}

#[test]
fn a_datagram_that_does_not_fit_is_asked_for_again() {
    let long = |sequence| vec![message(LINK, MULTI, sequence, &vec![5; 150_000]), done(sequence)];
    let (result, asked) = list(|| vec![reply(long), reply(long)]);
    assert_eq!(result.unwrap(), [vec![5; 150_000]]);
    assert_eq!(asked, 2);
    // Nobody knows what was in the answer to a change.
    let error = failed(ask(&set(), Mode::Ack, || vec![reply(long)]));
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
}

#[test]
fn silence_ends_with_the_time_limit() {
    let error = failed(ask_within(SHORT, &get(), Mode::Dump, || vec![reply(|_| vec![])]));
    assert_eq!((error.kind(), error.hint()), (ErrorKind::TimedOut, None));
    let another = || vec![reply(|sequence| vec![part(sequence - 1, 1)])];
    let error = failed(ask_within(SHORT, &set(), Mode::Ack, another));
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.hint().unwrap().contains("may have been made or not"));
    let error = failed(ask(&set(), Mode::Each, || vec![reply(|_| vec![message(OVERRUN, 0, 0, &[])])]));
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
}

#[test]
fn answers_that_come_too_late_are_nobodys() {
    let (socket, thread) = kernel(vec![
        reply(|_| vec![]),
        // To the first request as well, and long.
        reply(|sequence| [vec![part(sequence - 1, 8); 4], whole(sequence - 1), whole(sequence)].concat()),
    ]);
    let requests = [get()];
    assert_eq!(socket.talk_within(&requests, Mode::Dump, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(is_whole(&socket.talk_within(&requests, Mode::Dump, LIMIT).unwrap()));
    thread.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_kernel_says_there_is_an_end(
        datagrams in prop::collection::vec(prop::collection::vec((0u16..20, any::<u16>(), -1i32..3, prop::collection::vec(any::<u8>(), 0..40)), 0..4), 0..4),
    ) {
        let (socket, thread) = kernel(vec![reply(move |sequence| {
            let message = |(kind, flags, offset, body): &(u16, u16, i32, Vec<u8>)| {
                message(*kind, *flags, sequence.wrapping_add_signed(*offset), body)
            };
            datagrams.iter().map(|datagram| datagram.iter().map(message).collect::<Vec<_>>().concat()).collect()
        })]);
        let _ = socket.talk_within(&[get()], Mode::Dump, Duration::from_millis(30));
        end(&socket);
        thread.join().unwrap();
    }
}
