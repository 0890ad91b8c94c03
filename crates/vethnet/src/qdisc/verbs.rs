//! Traffic control: what is asked of a connection.
#![forbid(unsafe_code)]

use cellkit_core::{Error, ErrorKind, Result, Subject};

use super::message::{self, Header, NLM_F_CREATE};
use super::{Class, Discipline, Filter, Handle, HtbClass, Parent, Qdisc, explain, set, subject};
use crate::exchange::Mode;
use crate::link::LinkRef;
use crate::net::Net;

/// Traffic control.
impl Net {
    /// Makes the queueing discipline, instead of whatever is there: `tc qdisc replace`.
    ///
    /// A [`Tbf`](crate::Tbf) or [`Netem`](crate::Netem) where there is one is changed in place and loses no packet; an
    /// [`Htb`](crate::Htb) is made anew, without classes.
    ///
    /// * C call: RTM_NEWQDISC with NLM_F_CREATE and NLM_F_REPLACE. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) before anything is done, for options that would let nothing pass;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the kernel lacks the kind, naming its module;
    /// [`NotFound`](crate::ErrorKind::NotFound) where the interface or the class is missing.
    ///
    /// ```no_run
    /// use vethnet::{IfName, Net, Parent, Rate, Tbf};
    ///
    /// # async fn example(net: &Net) -> vethnet::Result<()> {
    /// net.set_qdisc(IfName::new("eth0")?, Parent::Root, Tbf::new(Rate::mbit(8))).await
    /// # }
    /// ```
    #[doc(alias = "RTM_NEWQDISC")]
    pub async fn set_qdisc(
        &self,
        link: impl Into<LinkRef>,
        parent: Parent,
        discipline: impl Into<Discipline>,
    ) -> Result<()> {
        let link = link.into();
        let discipline = discipline.into();
        discipline.check(parent)?;
        let index = self.index_of(&link).await?;
        match self.request(set(&link, index, parent, &discipline)?).await {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) && discipline == Discipline::Ingress => Ok(()),
            result => result.map(drop).map_err(|error| explain(error, discipline.kind())),
        }
    }

    /// As [`set_qdisc`](Net::set_qdisc), but not instead of a qdisc of another kind that somebody made there.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) where there is one of another kind, or an
    /// [`Htb`](crate::Htb) with another handle or default class; and those of `set_qdisc`.
    pub async fn ensure_qdisc(
        &self,
        link: impl Into<LinkRef>,
        parent: Parent,
        discipline: impl Into<Discipline>,
    ) -> Result<()> {
        let link = link.into();
        let discipline = discipline.into();
        discipline.check(parent)?;
        let there = self.qdiscs(&link).await?.into_iter();
        // What has no handle came with the interface.
        let there = there.filter(|qdisc| qdisc.handle.is_some()).find(|qdisc| qdisc.parent == Some(parent));
        match there.map(|qdisc| qdisc.discipline) {
            Some(found) if found.kind() != discipline.kind() => Err(Error::from_errno("RTM_NEWQDISC", libc::EEXIST)
                .on(Subject::Thing(subject(&link, discipline.kind(), parent)))
                .with_hint(format!(
                    "there is one of kind {} already: look with tc qdisc show dev {link}",
                    found.kind()
                ))),
            Some(found @ Discipline::Htb(_)) if found != discipline => {
                Err(Error::from_errno("RTM_NEWQDISC", libc::EEXIST)
                    .on(Subject::Thing(subject(&link, discipline.kind(), parent)))
                    .with_hint(
                        "there is an htb with another handle or default class, which cannot be changed: remove it",
                    ))
            }
            Some(Discipline::Htb(_) | Discipline::Ingress) => Ok(()),
            _ => self.set_qdisc(link, parent, discipline).await,
        }
    }

    /// Removes the queueing discipline with all that is in it; the interface gets the kernel's default one:
    /// `tc qdisc delete`. `false` where there is none but the default one, or no such interface.
    ///
    /// * C call: RTM_DELQDISC. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN.
    #[doc(alias = "RTM_DELQDISC")]
    pub async fn remove_qdisc(&self, link: impl Into<LinkRef>, parent: Parent) -> Result<bool> {
        let link = link.into();
        let Some(index) = self.index_if_there(&link).await? else { return Ok(false) };
        let subject = format!("qdisc of {:?}, {parent}", link.to_string());
        was_there(self.request(message::delete_qdisc(index, subject, parent)?).await)
    }

    /// The queueing disciplines of an interface, with what they have counted.
    ///
    /// C call: RTM_GETQDISC, a list of those of all interfaces: the kernel cannot sort them out.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) without such an interface.
    #[doc(alias = "RTM_GETQDISC")]
    pub async fn qdiscs(&self, link: impl Into<LinkRef>) -> Result<Vec<Qdisc>> {
        let link = link.into();
        let index = self.index_of(&link).await?;
        let answers =
            self.talk(&[message::list_qdiscs(format!("qdiscs of {:?}", link.to_string()))?], Mode::Dump).await?;
        Ok(answers.iter().filter_map(|body| Qdisc::parse(body)).filter(|qdisc| qdisc.index == index).collect())
    }

    /// Makes the class of an [`Htb`](crate::Htb), or changes the one of this name: `tc class replace`.
    ///
    /// * C call: RTM_NEWTCLASS with NLM_F_CREATE. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) before anything is done, for options that would let nothing pass;
    /// [`NotFound`](crate::ErrorKind::NotFound) where the interface, the qdisc or the parent is missing.
    #[doc(alias = "RTM_NEWTCLASS")]
    pub async fn set_class(
        &self,
        link: impl Into<LinkRef>,
        parent: Handle,
        class: Handle,
        options: &HtbClass,
    ) -> Result<()> {
        let link = link.into();
        options.check()?;
        let text = format!("class {class} of {:?}", link.to_string());
        if class.minor() == 0 || class.qdisc() != parent.qdisc() {
            return Err(Error::invalid("htb class", "it needs a second number, and the first one of its parent")
                .on(Subject::Value(format!("{class} in {parent}"))));
        }
        let index = self.index_of(&link).await?;
        if parent.minor() != 0 {
            // The kernel takes a class whose parent is missing for one beside its parents.
            let text = format!("class {parent} of {:?}", link.to_string());
            self.request(message::get_class(index, text, parent.raw())?).await?;
        }
        let header = Header { index, handle: class.raw(), parent: parent.raw(), info: 0 };
        self.request(message::new_class(NLM_F_CREATE, text, header, "htb", |writer| options.write(writer))?)
            .await
            .map(drop)
    }

    /// Removes a class: `tc class delete`. `false` where there is none such.
    ///
    /// # Errors
    /// [`Busy`](crate::ErrorKind::Busy) while it has classes or filters lead to it.
    #[doc(alias = "RTM_DELTCLASS")]
    pub async fn remove_class(&self, link: impl Into<LinkRef>, class: Handle) -> Result<bool> {
        let link = link.into();
        let Some(index) = self.index_if_there(&link).await? else { return Ok(false) };
        let text = format!("class {class} of {:?}", link.to_string());
        was_there(self.request(message::delete_class(index, text, class.raw())?).await)
    }

    /// The classes of an interface, with what they have counted.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) without such an interface.
    #[doc(alias = "RTM_GETTCLASS")]
    pub async fn classes(&self, link: impl Into<LinkRef>) -> Result<Vec<Class>> {
        let link = link.into();
        let index = self.index_of(&link).await?;
        let text = format!("classes of {:?}", link.to_string());
        let answers = self.talk(&[message::list_classes(index, text)?], Mode::Dump).await?;
        Ok(answers.iter().filter_map(|body| Class::parse(body)).collect())
    }

    /// Adds a filter: `tc filter add`.
    ///
    /// * C call: RTM_NEWTFILTER with NLM_F_CREATE and NLM_F_EXCL. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a filter that does nothing;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the kernel lacks the classifier or the action, naming the
    /// modules; [`NotFound`](crate::ErrorKind::NotFound) where an interface or the qdisc is missing.
    #[doc(alias = "RTM_NEWTFILTER")]
    pub async fn add_filter(&self, link: impl Into<LinkRef>, filter: &Filter) -> Result<()> {
        let link = link.into();
        filter.check()?;
        let index = self.index_of(&link).await?;
        let target = match filter.target() {
            Some(target) => self.index_of(target).await?,
            None => 0,
        };
        let mut result = Ok(());
        for request in filter.requests(&link, index, target)? {
            result = self.request(request).await.map(drop).map_err(|error| explain(error, "u32"));
            if !matches!(&result, Err(error) if error.kind() == ErrorKind::Unsupported) {
                break;
            }
        }
        result
    }

    /// Removes all filters of a qdisc: `tc filter delete dev NAME PARENT`. The kernel does not say whether there were any.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) without such an interface, [`Invalid`](crate::ErrorKind::Invalid) (by the
    /// kernel) without such a qdisc.
    #[doc(alias = "RTM_DELTFILTER")]
    pub async fn remove_filters(&self, link: impl Into<LinkRef>, parent: Parent) -> Result<()> {
        let link = link.into();
        let index = self.index_of(&link).await?;
        let text = format!("filters of {:?}, {parent}", link.to_string());
        self.request(message::delete_filters(index, text, message::filter_parent(parent))?).await.map(drop)
    }
}

/// Whether what was to be removed was there.
fn was_there<T>(result: Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
        Err(error) => Err(error),
    }
}
