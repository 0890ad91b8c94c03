//! Waiting until packets pass the links that were brought up.
//!
//! Theory of operation. The host's end of a veth pair gets its carrier when the container's end comes up. What follows from
//! a carrier is put off by the kernel, to a work item (`linkwatch_event` in net/core/link_watch.c): a queue in place of the
//! one that drops everything, the port of the bridge that forwards, the carrier of the bridge and the same again for it.
//! On a machine that is busy that may take many milliseconds, and a packet that comes before is dropped without an error.
//! The first of a connection is sent again only after a second.
//!
//! Since Linux 6.8, RTM_GETLINK does what is put off for the link that is asked for. So each is asked for at the end, the
//! bridge behind its port. On older kernels they are asked for again, until the kernel says that they are up.
#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use cellkit_core::{Result, Subject};

use crate::exchange::{Mode, Request};
use crate::link::{self, Link, LinkRef, OperState};
use crate::name::IfName;
use crate::socket::Socket;

/// How long it may take. A link that is not up by then is none of ours to wait for: somebody has it in hand.
const LIMIT: Duration = Duration::from_secs(1);
/// The first pause between two looks, and the longest.
const PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// The question for a link.
pub(crate) fn ask(name: &IfName, index: u32) -> Result<Request> {
    let subject = Some(Subject::Interface(name.to_string()));
    link::get(&LinkRef::Index(index)).map(|request| Request { subject, ..request })
}

/// Looks at the answers to the questions among `requests`, and asks until packets pass.
pub(crate) fn wait(route: &Socket, requests: &[Request], answers: Vec<Vec<u8>>) -> Result<()> {
    if all_settled(&answers)? {
        return Ok(());
    }
    let questions: Vec<_> = requests.iter().filter(|request| request.only_asks()).cloned().collect();
    let (until, mut pause) = (Instant::now() + LIMIT, PAUSE);
    while Instant::now() < until {
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        if all_settled(&route.talk(&questions, Mode::Each)?)? {
            break;
        }
    }
    Ok(())
}

/// Whether the kernel has put off nothing. A link that somebody brought down, or whose other end somebody brought down, is
/// settled as well.
fn all_settled(answers: &[Vec<u8>]) -> Result<bool> {
    for body in answers {
        let link = Link::parse(body)?;
        if link.is_up && link.has_carrier && link.oper_state != OperState::Up {
            return Ok(false);
        }
    }
    Ok(true)
}
