//! Whatever the kernel tells in whatever order: the events put together are what there is.
#![forbid(unsafe_code)]

use std::fmt::Debug;

use super::state::State;
use super::{Change, Event, Wanted, message};
use crate::ip_address::Address;
use crate::link::Link;
use crate::neighbour::Neighbour;
use crate::route::Route;

/// What a reader of the events knows.
#[derive(Default)]
struct Reader {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
}

impl Reader {
    fn read(&mut self, state: &mut State) {
        for event in state.events.drain(..) {
            match event {
                Event::Link(change) => follow(&mut self.links, change),
                Event::Address(change) => follow(&mut self.addresses, change),
                Event::Route(change) => follow(&mut self.routes, change),
                Event::Neighbour(change) => follow(&mut self.neighbours, change),
                Event::Listed | Event::Overrun => panic!("no message means that"),
            }
        }
    }
}

/// What changes or goes was told of before.
fn follow<T: PartialEq + Debug>(known: &mut Vec<T>, change: Change<T>) {
    if let Some(before) = change.before() {
        let place = known.iter().position(|known| known == before);
        known.swap_remove(place.unwrap_or_else(|| panic!("{change:?} was not told of before")));
    }
    if let Change::New(now) | Change::Changed { now, .. } = change {
        known.push(now);
    }
}

/// Messages and lists of one thing, each after a byte that says which and one that says how long it is. The lists without
/// anything at the end take away all that was told of.
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut state = State::new(Wanted { links: true, addresses: true, routes: true, neighbours: true });
    let mut reader = Reader::default();
    let mut rest = bytes;
    while let [sort, length, more @ ..] = rest {
        let (body, others) = more.split_at(usize::from(*length).min(more.len()));
        rest = others;
        match sort % 20 {
            16 => state.links_are(message::link(body).ok().flatten().into_iter().collect()),
            17 => state.addresses_are(message::address(body).ok().flatten().into_iter().collect()),
            18 => state.routes_are(message::route(body).ok().flatten().into_iter().collect()),
            19 => state.neighbours_are(message::neighbour(body).ok().flatten().into_iter().collect()),
            kind => {
                if let Ok(Some(told)) = message::told(16 + u16::from(kind), body) {
                    state.take_in(told);
                }
            }
        }
        reader.read(&mut state);
    }
    state.links_are(Vec::new());
    state.addresses_are(Vec::new());
    state.routes_are(Vec::new());
    state.neighbours_are(Vec::new());
    reader.read(&mut state);
    assert!(reader.links.is_empty() && reader.addresses.is_empty());
    assert!(reader.routes.is_empty() && reader.neighbours.is_empty());
}
