//! A bus and a systemd at the other end of a socket pair, that answer as a test wants.
#![forbid(unsafe_code)]

use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_core::Stream;
use zbus::message::Header;
use zbus::zvariant::{DynamicType, ObjectPath, OwnedValue, Value};
use zbus::{Message, MessageStream};

use super::super::Connection;
use super::super::connection::{MANAGER, PATH};

/// Who systemd is on this bus.
pub const SYSTEMD: &str = ":1.1";
pub const JOB: &str = "/org/freedesktop/systemd1/job/42";
pub const UNIT: &str = "fake.scope";

/// What the fake does when a unit is to be started.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends the answer, with this job.
    Answer,
    /// Sends the end of a job: who says so, which job, which unit, and how it ended.
    End(&'static str, &'static str, &'static str, &'static str),
    /// Sends ends of another job of the unit without end.
    Flood,
    /// Answers with an error.
    Refuse(&'static str, &'static str),
    /// Once the unit is there, says that its group has this number.
    GroupNumber(u64),
    /// Closes the connection.
    Close,
}

/// The end of the job as it should be.
pub const DONE: Act = Act::End(SYSTEMD, JOB, UNIT, "done");

/// What the fake was asked, in order.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// A connection to a fake that does `acts` on StartTransientUnit and on StopUnit. Without `owner` systemd is not there.
/// Each act that is not taken by one call is left to the next; [`Act::Answer`] and [`Act::Refuse`] do not end a call's.
pub async fn connect(owner: Option<&'static str>, acts: Vec<Act>) -> (Connection, Asked) {
    let (ours, theirs) = UnixStream::pair().expect("socketpair");
    theirs.set_nonblocking(true).expect("nonblocking");
    let asked = Asked::default();
    let log = asked.clone();
    tokio::spawn(async move {
        let theirs = tokio::net::UnixStream::from_std(theirs).expect("stream");
        let builder =
            zbus::connection::Builder::unix_stream(theirs).server(zbus::Guid::generate()).expect("guid").p2p();
        let bus = builder.build().await.expect("the server's side");
        serve(bus, owner, acts, log).await;
    });
    (Connection::from_stream(ours).await.expect("connection"), asked)
}

/// The next message; `None` when the client is gone.
pub async fn next(stream: &mut MessageStream) -> Option<Message> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await?.ok()
}

async fn serve(bus: zbus::Connection, owner: Option<&'static str>, acts: Vec<Act>, log: Asked) {
    let mut messages = MessageStream::from(&bus);
    while let Some(message) = next(&mut messages).await {
        let header = message.header();
        let Some(member) = header.member().map(ToString::to_string) else { continue };
        log.lock().expect("log").push(member.clone());
        match member.as_str() {
            "Hello" => answer(&bus, &header, &":1.7").await,
            "GetNameOwner" => match owner {
                Some(owner) => answer(&bus, &header, &owner).await,
                None => refuse(&bus, &header, "org.freedesktop.DBus.Error.NameHasNoOwner", "no owner").await,
            },
            "StartTransientUnit" | "StopUnit" => {
                for act in &acts {
                    match act {
                        Act::Answer => answer(&bus, &header, &ObjectPath::try_from(JOB).expect("path")).await,
                        Act::End(sender, job, unit, result) => {
                            let body = (42u32, ObjectPath::try_from(*job).expect("path"), *unit, *result);
                            let signal = Message::signal(PATH, MANAGER, "JobRemoved").expect("signal");
                            let signal = signal.sender(*sender).expect("sender").build(&body).expect("body");
                            bus.send(&signal).await.expect("send");
                        }
                        Act::Flood => loop {
                            let other = ObjectPath::try_from("/org/freedesktop/systemd1/job/41").expect("path");
                            let signal = Message::signal(PATH, MANAGER, "JobRemoved").expect("signal");
                            let signal = signal.sender(SYSTEMD).expect("sender");
                            let signal = signal.build(&(41u32, other, UNIT, "failed")).expect("body");
                            if bus.send(&signal).await.is_err() {
                                return;
                            }
                        },
                        Act::Refuse(name, text) => refuse(&bus, &header, name, text).await,
                        Act::GroupNumber(_) => {}
                        Act::Close => return bus.close().await.expect("close"),
                    }
                }
            }
            "GetUnit" => {
                answer(&bus, &header, &ObjectPath::try_from("/org/freedesktop/systemd1/unit/x").expect("path")).await
            }
            "Get" => {
                let (_, name): (String, String) = message.body().deserialize().expect("arguments");
                let number = acts.iter().find_map(|act| match act {
                    Act::GroupNumber(number) => Some(*number),
                    _ => None,
                });
                match (name.as_str(), number) {
                    ("ControlGroupId", Some(number)) => {
                        answer(&bus, &header, &OwnedValue::try_from(Value::from(number)).expect("value")).await;
                    }
                    ("ControlGroup", _) => {
                        answer(&bus, &header, &OwnedValue::try_from(Value::from("/")).expect("value")).await
                    }
                    _ => refuse(&bus, &header, "org.freedesktop.DBus.Error.UnknownProperty", &name).await,
                }
            }
            _ => answer(&bus, &header, &()).await,
        }
    }
}

async fn answer<B: serde::Serialize + DynamicType>(bus: &zbus::Connection, call: &Header<'_>, body: &B) {
    let message =
        Message::method_return(call).expect("return").sender(SYSTEMD).expect("sender").build(body).expect("body");
    bus.send(&message).await.expect("send");
}

async fn refuse(bus: &zbus::Connection, call: &Header<'_>, name: &str, text: &str) {
    let message = Message::error(call, name).expect("error").build(&text).expect("body");
    bus.send(&message).await.expect("send");
}
