//! Calls that answer with a job, waited for until the job has ended. The theory is at the head of `systemd.rs`.
#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use cellkit_core::Subject;
use futures_core::Stream;
use zbus::names::OwnedUniqueName;
use zbus::zvariant::{DynamicType, OwnedObjectPath};
use zbus::{MatchRule, Message, MessageStream, message};

use super::connection::{self, MANAGER, PATH};
use super::{Connection, UnitName, fault};
use crate::{Error, Result};

/// How many signals may wait to be read. They are for one unit's name, and read while the call is under way.
const QUEUE: usize = 64;
/// For taking back a job that took too long: the caller has waited enough.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// Calls `method`, which is about `unit` and answers with a job, and waits until that job is done.
///
/// When that takes longer than `limit`, the job is cancelled, as far as systemd still can.
pub(super) async fn run<B>(
    connection: &Connection,
    unit: &UnitName,
    method: &'static str,
    arguments: &B,
    limit: Duration,
) -> Result<()>
where
    B: serde::Serialize + DynamicType,
{
    let mut started = None;
    let waited = wait(connection, unit, method, arguments, &mut started);
    let outcome = connection::limited(method, limit, waited).await;
    if let (Err(_), Some((owner, job))) = (&outcome, started) {
        let cancel = connection.call_on(&owner, job.as_str(), "org.freedesktop.systemd1.Job", "Cancel", &());
        // It may have ended by itself meanwhile; the error that is returned is the one that counts.
        let _ = connection::limited("Cancel", CANCEL_LIMIT, cancel).await;
    }
    outcome.map_err(|error| error.on(Subject::Value(unit.to_string())))
}

/// `started` is set while the job is under way.
async fn wait<B>(
    connection: &Connection,
    unit: &UnitName,
    method: &'static str,
    arguments: &B,
    started: &mut Option<(OwnedUniqueName, OwnedObjectPath)>,
) -> Result<()>
where
    B: serde::Serialize + DynamicType,
{
    let owner = connection.manager().await?;
    let mut removed = subscribe(connection, &owner, unit).await?;
    let mut call = pin!(connection.call(&owner, method, arguments));
    let mut early = Vec::new();
    // Signals are taken while the answer is waited for: a full queue would hold the answer up too.
    let answer = poll_fn(|context| {
        if let Poll::Ready(answer) = call.as_mut().poll(context) {
            return Poll::Ready(answer);
        }
        for _ in 0..QUEUE {
            match Pin::new(&mut removed).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(signal) => match read(signal) {
                    Ok(end) => early.push(end),
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
        // There may be more without end, which must not keep the time limit from being looked at.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await?;
    let job: OwnedObjectPath = connection::body(method, &answer)?;
    let mut early = early.into_iter();
    let result = match early.find_map(|(ended, result)| (ended == job).then_some(result)) {
        Some(result) => result,
        None => {
            *started = Some((owner.clone(), job.clone()));
            let result = loop {
                let signal = poll_fn(|context| Pin::new(&mut removed).poll_next(context)).await;
                let (ended, result) = match read(signal) {
                    Ok(end) => end,
                    Err(error) => {
                        // Nobody is there to cancel it.
                        *started = None;
                        return Err(error);
                    }
                };
                if ended == job {
                    break result;
                }
                // Signals without end must not keep the time limit from being looked at.
                tokio::task::yield_now().await;
            };
            *started = None;
            result
        }
    };
    match result.as_str() {
        "done" => Ok(()),
        other => Err(unsuccessful(method, other)),
    }
}

/// Has the bus pass on the ends of jobs for `unit`, and systemd send them.
async fn subscribe(connection: &Connection, owner: &OwnedUniqueName, unit: &UnitName) -> Result<MessageStream> {
    const OPERATION: &str = "AddMatch";
    let failed = |error| fault::failed(OPERATION, &error);
    let rule = MatchRule::builder()
        .msg_type(message::Type::Signal)
        .sender(owner)
        .and_then(|rule| rule.path(PATH))
        .and_then(|rule| rule.interface(MANAGER))
        .and_then(|rule| rule.member("JobRemoved"))
        .and_then(|rule| rule.arg(2, unit.as_str()))
        .map_err(failed)?
        .build();
    let stream = MessageStream::for_match_rule(rule, connection.bus(), Some(QUEUE)).await.map_err(failed)?;
    match connection.bus().call_method(Some(owner), PATH, Some(MANAGER), "Subscribe", &()).await {
        Ok(_) => Ok(stream),
        Err(zbus::Error::MethodError(name, ..)) if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" => {
            Ok(stream)
        }
        Err(error) => Err(fault::failed("Subscribe", &error)),
    }
}

/// Which job ended, and how.
fn read(signal: Option<zbus::Result<Message>>) -> Result<(OwnedObjectPath, String)> {
    const OPERATION: &str = "JobRemoved";
    let signal = signal.ok_or_else(|| fault::lost(OPERATION))?;
    let signal = signal.map_err(|error| fault::failed(OPERATION, &error))?;
    let (_id, job, _unit, result): (u32, OwnedObjectPath, String, String) = connection::body(OPERATION, &signal)?;
    Ok((job, result))
}

/// systemd has one word for how a job ended.
fn unsuccessful(method: &'static str, result: &str) -> Error {
    let why = match result {
        "canceled" => "another job took the place of this one",
        "timeout" => "it took longer than the unit allows",
        "failed" => "the journal says why: a process that is gone, or limits that cannot be had",
        "dependency" => "a unit that it needs did not start: its slice, perhaps",
        "skipped" => "there was nothing to do",
        "frozen" | "collected" => "the unit went away meanwhile",
        _ => "systemctl status says more",
    };
    Error::other(method, format!("the job ended as {result:?}")).with_hint(why)
}
