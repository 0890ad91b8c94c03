//! What answers add up to.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use super::*;
use crate::plan::{End, Known, Step};
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
    assert_eq!(exchange.feed(&answer(NLMSG_DONE, 0, 1, &[0; 4])).unwrap(), Progress::Again);
}

#[test]
fn each_request_of_a_datagram_has_its_own_verdict() {
    let requests = [request("RTM_NEWLINK"), request("RTM_SETLINK"), request("RTM_NEWADDR")];
    let mut exchange = Exchange::new(&requests, Mode::Each, 10);
    let sent = exchange.datagram().unwrap();
    let asks: Vec<_> = sent.chunks(20).map(|message| message[6] & 4).collect();
    assert_eq!(asks, [0, 0, 4], "only the last one's success is told");
    assert_eq!(exchange.feed(&acknowledgement(10, libc::EEXIST, Some("Name taken"))).unwrap(), Progress::More);
    assert_eq!(exchange.feed(&acknowledgement(11, libc::ENODEV, None)).unwrap(), Progress::More);
    assert_eq!(exchange.feed(&acknowledgement(12, 0, None)).unwrap(), Progress::Done);
    let error = exchange.finish().unwrap_err();
    assert_eq!((error.operation(), error.raw_os_error()), ("RTM_NEWLINK", Some(libc::EEXIST)));
    assert!(error.kernel_text().unwrap().starts_with("Name taken"));
    assert_eq!(error.also().iter().map(Error::operation).collect::<Vec<_>>(), ["RTM_SETLINK"]);
}

#[test]
fn attributes_that_do_not_fit_their_length_are_refused() {
    let name = crate::IfName::new("eth0").unwrap();
    for length in [65_400, 65_531, 65_532, 65_535, 65_536, 66_000, 70_000] {
        let step = Step::NoLinkLocal { end: End::Bridge, name: name.clone(), alias: Some("x".repeat(length)) };
        let known = Known { bridge: Some(7), ..Known::default() };
        let requests = step.requests(&known, std::io::stdin().as_fd(), crate::nft::Settings::default()).unwrap();
        match Exchange::new(&requests, Mode::Ack, 1).datagram() {
            Ok(datagram) => {
                assert!(length < 65_531);
                let alias = attr::find(&datagram[HEADER + 16..], 20).map(<[u8]>::len);
                assert_eq!(alias, Some(length + 1), "the alias and its NUL");
            }
            Err(error) => {
                assert!(length >= 65_531 && error.kind() == ErrorKind::Invalid);
                assert!(error.to_string().starts_with(r#"RTM_SETLINK interface "eth0": the message would take"#));
            }
        }
    }
}

#[test]
fn many_requests_take_several_datagrams() {
    let mut requests = vec![request("RTM_NEWLINK"); 2 * MOST_REQUESTS + 1];
    let lengths =
        |requests: &[Request]| -> Vec<_> { datagrams(requests, Mode::Each).iter().map(|some| some.len()).collect() };
    assert_eq!(lengths(&requests), [MOST_REQUESTS, MOST_REQUESTS, 1]);
    requests[1].body = vec![0; MOST_BYTES + 1];
    assert_eq!(lengths(&requests[..3]), [1, 1, 1], "one that is too long goes alone");
    assert_eq!(lengths(&[]), [0; 0]);
    assert_eq!(datagrams(&requests, Mode::Batch).len(), 1, "a transaction is not divided");
}

#[test]
fn what_was_lost_is_asked_again_and_not_done_again() {
    for (operation, kind, again) in [
        ("RTM_GETLINK", 18, true),
        ("RTM_GETADDR", 22, true),
        ("RTM_NEWLINK", 16, false),
        ("RTM_DELLINK", 17, false),
        ("RTM_SETLINK", 19, false),
        ("NFT_MSG_GETTABLE", 10 << 8 | 1, true),
        ("NFT_MSG_NEWTABLE", 10 << 8, false),
        ("IPCTNL_MSG_CT_GET", 1 << 8 | 1, true),
        ("IPCTNL_MSG_CT_DELETE", 1 << 8 | 2, false),
    ] {
        let requests = [Request { kind, ..request(operation) }];
        let mut exchange = Exchange::new(&requests, Mode::Ack, 1);
        match exchange.feed(&answer(NLMSG_OVERRUN, 0, 77, &[])) {
            Ok(Progress::Again) => assert!(again, "{operation}"),
            Err(error) => {
                assert!(!again, "{operation}");
                assert_eq!((error.raw_os_error(), error.can_retry()), (Some(libc::ENOBUFS), true));
                assert!(error.hint().unwrap().contains("look before") && error.subject().is_some());
            }
            other => panic!("{operation}: {other:?}"),
        }
    }
}

#[test]
fn what_is_not_an_answer_is_skipped() {
    let requests = [request("RTM_GETLINK")];
    let mut exchange = Exchange::new(&requests, Mode::Dump, 1).of_port(40);
    let mut of_another = answer(16, 0, 1, &[6]);
    of_another[12] = 41;
    for datagram in [answer(NLMSG_NOOP, 0, 1, &[]), answer(16, 0, 0, &[5]), answer(16, 0, 2, &[5]), of_another] {
        assert_eq!(exchange.feed(&datagram).unwrap(), Progress::More);
    }
    assert_eq!(exchange.feed(&answer(NLMSG_DONE, 0, 1, &[0; 4])).unwrap(), Progress::Done);
    assert!(exchange.finish().unwrap().is_empty());
    // An acknowledgement is not the end of a list.
    let mut exchange = Exchange::new(&requests, Mode::Dump, 1);
    assert_eq!(exchange.feed(&acknowledgement(1, 0, None)).unwrap_err().kind(), ErrorKind::Parse);
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
        for mode in [Mode::Ack, Mode::Dump, Mode::Each, Mode::Batch] {
            let _ = Exchange::new(&requests, mode, 0).feed(&bytes);
        }
    }

    #[test]
    fn any_answer_body_is_taken_without_panic(
        kind in 0u16..20, flags: u16, body in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let requests = [request("RTM_GETLINK")];
        for mode in [Mode::Ack, Mode::Dump, Mode::Each, Mode::Batch] {
            let _ = Exchange::new(&requests, mode, 3).feed(&answer(kind, flags, 3, &body));
        }
    }
}
