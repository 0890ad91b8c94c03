//! A network's tables in the kernel: the blocking verbs that attaching, detaching and [`Nat`](crate::Nat) share.
#![forbid(unsafe_code)]

use cellkit_core::{Error, ErrorKind, Result, Subject};

use crate::exchange::{Mode, Request};
use crate::name::{IfName, Owner};
use crate::nft::{self, Links, Owned, Pack, Settings, TableSpec};
use crate::socket::Socket;

/// The tables of this name, by this socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables<'a> {
    pub(crate) netfilter: &'a Socket,
    pub(crate) name: &'a IfName,
}

/// What is in the tables, as it was when the ruleset had this number.
#[derive(Debug)]
pub(crate) struct Contents {
    generation: u32,
    owned: Vec<Owned>,
}

impl Contents {
    /// Whose elements there are.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.owned.iter().flat_map(Owned::owners)
    }
}

impl Tables<'_> {
    /// Whether the network's table is there, as the kernel tells of it. An error when it is somebody else's.
    pub(crate) fn find(&self) -> Result<Option<Vec<u8>>> {
        self.found(nft::get_table(self.name)?)
    }

    fn found(&self, question: Request) -> Result<Option<Vec<u8>>> {
        let subject = question.subject.clone();
        match self.netfilter.talk(&[question], Mode::Ack) {
            Ok(answers) => match answers.into_iter().find(|answer| nft::is_ours(answer)) {
                None => Err(not_ours(subject)),
                ours => Ok(ours),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which of the tables are there: that of the network, and that of a guard where there is to be one. An error when one is
    /// somebody else's, or was made with other settings.
    pub(crate) fn there(&self, settings: Settings, guards: bool) -> Result<(bool, bool)> {
        let inet = self.find()?;
        if let Some(answer) = &inet {
            nft::check_settings(answer, self.name, settings)?;
        }
        let guard = if guards { self.found(nft::get_guard(self.name)?)? } else { None };
        Ok((inet.is_some(), guard.is_some()))
    }

    /// Makes the tables, if one is missing; says whether one was. What is left of them is made anew as well, empty: it is as
    /// if all had been flushed.
    pub(crate) fn ensure(&self, spec: &TableSpec<'_>) -> Result<bool> {
        let guards = spec.settings.guard && matches!(spec.links, Links::Bridge(_));
        let (inet, guard) = self.there(spec.settings, guards)?;
        if inet && guard == guards {
            return Ok(false);
        }
        let mut requests = nft::delete_table(self.name, inet, guard)?;
        requests.extend(nft::new_table(spec)?);
        match self.netfilter.talk(&requests, Mode::Batch) {
            // Another was faster.
            Err(error)
                if error.kind() == ErrorKind::AlreadyExists && self.there(spec.settings, guards)? == (true, guards) =>
            {
                Ok(false)
            }
            result => result.map(|_| true),
        }
    }

    /// Removes the tables. Somebody else's of the name are none of ours to remove, and no failure here.
    pub(crate) fn remove(&self) -> Result<()> {
        let is_there = |found: Result<Option<Vec<u8>>>| match found {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        };
        let inet = is_there(self.find())?;
        let guard = match is_there(self.found(nft::get_guard(self.name)?)) {
            // A kernel without the family has no such table. Anything else is an error: the table may be there.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => false,
            found => found?,
        };
        let requests = nft::delete_table(self.name, inet, guard)?;
        if requests.is_empty() {
            return Ok(());
        }
        match self.netfilter.talk(&requests, Mode::Batch) {
            // Another was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map(drop),
        }
    }

    /// Makes the requests, as one transaction.
    pub(crate) fn make(&self, requests: &[Request]) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        self.netfilter.talk(requests, Mode::Batch).map(drop)
    }

    /// Removes what the requests name: together if all is there, else each that is.
    pub(crate) fn unmake(&self, requests: impl Fn(Pack) -> Result<Vec<Request>>) -> Result<()> {
        match self.make(&requests(Pack::Together)?) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result,
        }
        Error::all(requests(Pack::Singly)?.into_iter().filter_map(|request| match self.make(&[request]) {
            Err(error) if error.kind() != ErrorKind::NotFound => Some(error),
            _ => None,
        }))
    }

    /// Removes all elements of the owner, by the comments they have. It reads all elements of the tables.
    pub(crate) fn remove_owner(&self, owner: &Owner) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if self.delete(&self.contents()?, |other| other == owner)? {
                return Ok(());
            }
        }
        Err(unsteady())
    }

    /// All elements that have owners.
    pub(crate) fn contents(&self) -> Result<Contents> {
        let answers = self.netfilter.talk(&[nft::get_generation()?], Mode::Ack)?;
        let generation = nft::generation(&answers)
            .ok_or_else(|| Error::parse("NFT_MSG_GETGEN", "the kernel's answer has no generation"))?;
        let mut owned = Vec::new();
        for (request, place) in nft::list_elements(self.name)? {
            match self.netfilter.talk(&[request], Mode::Dump) {
                Ok(answers) => owned.push(place.owned(&answers)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Contents { generation, owned })
    }

    /// Removes the elements of the owners that are `dead`, if nobody changed the ruleset since it was read. Says whether
    /// that was so.
    pub(crate) fn delete(&self, contents: &Contents, dead: impl Fn(&Owner) -> bool) -> Result<bool> {
        let mut requests = Vec::new();
        for owned in &contents.owned {
            requests.extend(owned.delete(self.name, &dead)?);
        }
        if requests.is_empty() {
            return Ok(true);
        }
        match self.netfilter.talk(&requests, Mode::BatchOf { generation: contents.generation }) {
            Err(error) if error.raw_os_error() == Some(libc::ERESTART) => Ok(false),
            result => result.map(|_| true),
        }
    }
}

/// How often the ruleset may change while it is read.
pub(crate) const ATTEMPTS: u32 = 64;

/// The error for a ruleset that changed each time.
pub(crate) fn unsteady() -> Error {
    Error::from_errno("NFNL_MSG_BATCH_BEGIN", libc::EAGAIN)
        .on(Subject::Thing("the ruleset".into()))
        .with_hint("somebody kept changing nf_tables while it was read: try again when the machine is quieter")
}

fn not_ours(subject: Option<Subject>) -> Error {
    let error = Error::from_errno("NFT_MSG_NEWTABLE", libc::EEXIST)
        .with_hint("it exists and was not made by this library: choose another name for the network");
    match subject {
        Some(subject) => error.on(subject),
        None => error,
    }
}
