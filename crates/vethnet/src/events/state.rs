//! What there is, as far as has been told, and what a message or a list changes about it. No I/O.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};

use super::message::{AddressKey, NeighbourKey, RouteKey, Told};
use super::{Change, Event};
use crate::ip_address::Address;
use crate::link::Link;
use crate::neighbour::Neighbour;
use crate::route::Route;

/// Things of one sort by what tells them apart.
#[derive(Debug)]
struct Known<K, T>(BTreeMap<K, T>);

impl<K, T> Default for Known<K, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone, T: PartialEq + Clone> Known<K, T> {
    fn put(&mut self, key: K, now: T) -> Option<Change<T>> {
        match self.0.insert(key, now.clone()) {
            None => Some(Change::New(now)),
            Some(before) if before == now => None,
            Some(before) => Some(Change::Changed { before, now }),
        }
    }

    fn take(&mut self, key: &K) -> Option<Change<T>> {
        self.0.remove(key).map(Change::Gone)
    }

    /// What goes comes first: it may have had the name or the address of what is new.
    fn become_list(&mut self, list: Vec<(K, T)>) -> Vec<Change<T>> {
        let list: BTreeMap<K, T> = list.into_iter().collect();
        let gone: Vec<_> = self.0.keys().filter(|key| !list.contains_key(key)).cloned().collect();
        let mut changes: Vec<_> = gone.iter().filter_map(|key| self.take(key)).collect();
        changes.extend(list.into_iter().filter_map(|(key, value)| self.put(key, value)));
        changes
    }
}

/// Everything that was told.
#[derive(Debug, Default)]
pub(super) struct State {
    links: Known<u32, Link>,
    addresses: Known<AddressKey, Address>,
    /// Several routes may have what tells routes apart: alternatives of IPv4.
    routes: Known<RouteKey, Vec<Route>>,
    neighbours: Known<NeighbourKey, Neighbour>,
    /// Something happened of which the kernel does not tell what became of the routes.
    pub(super) routes_unknown: bool,
    /// What the caller wants to be told of.
    pub(super) wanted: super::Wanted,
    pub(super) events: VecDeque<Event>,
}

impl State {
    pub(super) fn new(wanted: super::Wanted) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Takes one message in.
    pub(super) fn take_in(&mut self, told: Told) {
        match told {
            Told::Link(link) => {
                // IPv4 routes through an interface that goes down vanish without a word.
                self.routes_unknown |= !link.is_up;
                let change = self.links.put(link.index, link);
                self.tell(self.wanted.links, change.map(Event::Link));
            }
            Told::LinkGone(index) => {
                self.routes_unknown = true;
                let change = self.links.take(&index);
                self.tell(self.wanted.links, change.map(Event::Link));
            }
            Told::Address(key, address) => {
                let change = self.addresses.put(key, address);
                self.tell(self.wanted.addresses, change.map(Event::Address));
            }
            Told::AddressGone(key) => {
                // And so do those from an address that is removed.
                self.routes_unknown = true;
                let change = self.addresses.take(&key);
                self.tell(self.wanted.addresses, change.map(Event::Address));
            }
            Told::Route(key, route) => match self.routes.0.get(&key).map(Vec::as_slice) {
                None => {
                    self.routes.0.insert(key, vec![route.clone()]);
                    self.tell(self.wanted.routes, Some(Event::Route(Change::New(route))));
                }
                Some([known]) if *known == route => {}
                // An alternative, another hop, or another route in its place: the message does not say which.
                Some(_) => self.routes_unknown = true,
            },
            Told::RouteGone(key, route) => match self.routes.0.get(&key).map(Vec::as_slice) {
                None => {}
                Some([known]) if *known == route => {
                    self.routes.0.remove(&key);
                    self.tell(self.wanted.routes, Some(Event::Route(Change::Gone(route))));
                }
                Some(_) => self.routes_unknown = true,
            },
            Told::Neighbour(key, neighbour) => {
                let change = self.neighbours.put(key, neighbour);
                self.tell(self.wanted.neighbours, change.map(Event::Neighbour));
            }
            Told::NeighbourGone(key) => {
                let change = self.neighbours.take(&key);
                self.tell(self.wanted.neighbours, change.map(Event::Neighbour));
            }
        }
    }

    fn tell(&mut self, wanted: bool, event: Option<Event>) {
        self.events.extend(event.filter(|_| wanted));
    }

    pub(super) fn links_are(&mut self, list: Vec<Link>) {
        let changes = self.links.become_list(list.into_iter().map(|link| (link.index, link)).collect());
        self.events.extend(changes.into_iter().map(Event::Link));
    }

    pub(super) fn addresses_are(&mut self, list: Vec<(AddressKey, Address)>) {
        let changes = self.addresses.become_list(list);
        self.events.extend(changes.into_iter().map(Event::Address));
    }

    pub(super) fn neighbours_are(&mut self, list: Vec<(NeighbourKey, Neighbour)>) {
        let changes = self.neighbours.become_list(list);
        self.events.extend(changes.into_iter().map(Event::Neighbour));
    }

    pub(super) fn routes_are(&mut self, list: Vec<(RouteKey, Route)>) {
        self.routes_unknown = false;
        let mut all: BTreeMap<RouteKey, Vec<Route>> = BTreeMap::new();
        for (key, route) in list {
            all.entry(key).or_default().push(route);
        }
        for change in self.routes.become_list(all.into_iter().collect()) {
            let (before, now) = match change {
                Change::New(now) => (Vec::new(), now),
                Change::Gone(before) => (before, Vec::new()),
                Change::Changed { before, now } => (before, now),
            };
            // One for one is a change; otherwise each goes or comes for itself.
            if let ([before], [now]) = (before.as_slice(), now.as_slice()) {
                self.events.push_back(Event::Route(Change::Changed { before: before.clone(), now: now.clone() }));
                continue;
            }
            let gone = before.iter().filter(|route| !now.contains(route)).cloned().map(Change::Gone);
            let new = now.iter().filter(|route| !before.contains(route)).cloned().map(Change::New);
            self.events.extend(gone.chain(new).map(Event::Route));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Puts events together, as their reader would. Each has to fit what was told before.
    fn follow(seen: &mut BTreeMap<u8, u8>, changes: Vec<Change<(u8, u8)>>) {
        for change in changes {
            match change {
                Change::New((key, value)) => assert_eq!(seen.insert(key, value), None),
                Change::Gone((key, value)) => assert_eq!(seen.remove(&key), Some(value)),
                Change::Changed { before, now } => {
                    assert_eq!(before.0, now.0);
                    assert_eq!(seen.insert(now.0, now.1), Some(before.1));
                    assert_ne!(before, now);
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// The kernel makes, changes or removes something and tells of it.
        Set(u8, Option<u8>),
        /// What was told is read.
        Read(usize),
        /// The kernel drops what was not read, which is noticed.
        Overrun,
    }

    proptest! {
        /// Whatever is read when, and lost: in the end the reader has what the kernel has.
        #[test]
        fn no_change_is_lost(steps in prop::collection::vec(
            prop_oneof![
                6 => (0u8..6, prop::option::weighted(0.7, 0u8..4)).prop_map(|(key, value)| Step::Set(key, value)),
                3 => (0usize..6).prop_map(Step::Read),
                1 => Just(Step::Overrun),
            ],
            0..60,
        )) {
            let mut kernel = BTreeMap::new();
            let mut told = VecDeque::new();
            let mut known = Known::default();
            let mut seen = BTreeMap::new();
            let list = |kernel: &BTreeMap<u8, u8>| kernel.iter().map(|(&key, &value)| (key, (key, value))).collect();
            let read = |known: &mut Known<u8, (u8, u8)>, (key, value): (u8, Option<u8>)| match value {
                Some(value) => known.put(key, (key, value)),
                None => known.take(&key),
            };
            for step in steps {
                match step {
                    Step::Set(key, value) => {
                        match value {
                            Some(value) => kernel.insert(key, value),
                            None => kernel.remove(&key),
                        };
                        told.push_back((key, value));
                    }
                    Step::Read(count) => {
                        for _ in 0..count {
                            let Some(message) = told.pop_front() else { break };
                            follow(&mut seen, read(&mut known, message).into_iter().collect());
                        }
                    }
                    Step::Overrun => {
                        told.clear();
                        // What is told from here on may be in the list as well.
                        follow(&mut seen, known.become_list(list(&kernel)));
                    }
                }
            }
            for message in told {
                follow(&mut seen, read(&mut known, message).into_iter().collect());
            }
            prop_assert_eq!(seen, kernel);
        }
    }
}
