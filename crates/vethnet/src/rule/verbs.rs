//! What a [`Net`] does with rules.
#![forbid(unsafe_code)]

use cellkit_core::Result;
use netlink_packet_route::AddressFamily;

use super::{Rule, message};
use crate::batch::Batch;
use crate::exchange::Mode;
use crate::net::Net;

impl Net {
    /// Makes a rule: `ip rule add`.
    ///
    /// C call: RTM_NEWRULE with NLM_F_CREATE and NLM_F_EXCL. The kernel takes a rule without addresses for the same as one
    /// that has some; when it says that there is one, the list is looked at, and a rule that differs is made. Without a
    /// priority there is always a free one: a second rule is made before the first.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is this rule with this priority;
    /// * [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN;
    /// * [`Unsupported`](crate::ErrorKind::Unsupported) when the kernel has no rules (CONFIG_IP_MULTIPLE_TABLES).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{RouteTable, Rule};
    ///
    /// net.add_rule(Rule::ipv4().mark(5).lookup(RouteTable::new(100)?).priority(1000)).await
    /// # }
    /// ```
    pub async fn add_rule(&self, rule: impl Into<Rule>) -> Result<()> {
        let rule = rule.into();
        rule.check()?;
        let Err(error) = self.request(message::new(&rule, message::CREATE)).await else { return Ok(()) };
        if error.raw_os_error() != Some(libc::EEXIST) || self.has_rule(&rule).await? {
            return Err(error);
        }
        self.request(message::new(&rule, message::CREATE_BESIDE)).await.map(drop)
    }

    /// Makes sure that there is this rule; one that is there is left alone, without an event. Without a priority, one with
    /// any will do, and the list is looked at first: two that do so at the same time may make two.
    ///
    /// # Errors
    /// Those of [`add_rule`](Net::add_rule), but for AlreadyExists: rules have no names that others could have taken.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{RouteTable, Rule};
    ///
    /// net.ensure_rule(Rule::ipv6().from("fd00:1::/64".parse()?).lookup(RouteTable::new(100)?)).await
    /// # }
    /// ```
    pub async fn ensure_rule(&self, rule: impl Into<Rule>) -> Result<()> {
        let rule = rule.into();
        rule.check()?;
        if rule.priority.is_none() && self.has_rule(&rule).await? {
            return Ok(());
        }
        match self.add_rule(rule).await {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Removes the first rule that has all that was said: a rule without a word may be one that says more. `false` when
    /// there is none such.
    ///
    /// C call: RTM_DELRULE.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN, and for the kernel's own first rule.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{RouteTable, Rule};
    ///
    /// let was_there = net.remove_rule(Rule::ipv4().mark(5).lookup(RouteTable::new(100)?)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_rule(&self, rule: impl Into<Rule>) -> Result<bool> {
        let rule = rule.into();
        match self.request(message::delete(&rule)).await {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All rules, of IPv4 and then of IPv6, in the order they are asked in (RTM_GETRULE).
    ///
    /// # Errors
    /// Limit (EAGAIN) when the list kept changing while it was read.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// for rule in net.rules().await? {
    ///     println!("{rule}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn rules(&self) -> Result<Vec<Rule>> {
        let mut list = self.rules_of(AddressFamily::Inet).await?;
        list.extend(self.rules_of(AddressFamily::Inet6).await?);
        Ok(list)
    }

    async fn rules_of(&self, family: AddressFamily) -> Result<Vec<Rule>> {
        match self.talk(&[message::list(family)], Mode::Dump).await {
            Ok(answers) => answers.iter().filter_map(|body| message::parse(body).transpose()).collect(),
            // A kernel without rules, or without IPv6, has none.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn has_rule(&self, rule: &Rule) -> Result<bool> {
        let family = if rule.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        Ok(self.rules_of(family).await?.iter().any(|found| rule.is_met_by(found)))
    }
}

impl Batch {
    /// Makes a rule (RTM_NEWRULE). One that the kernel takes for the same as one that is there, which it does also where only
    /// that has addresses, is an error here: [`Net::add_rule`] looks closer.
    #[doc(alias = "RTM_NEWRULE")]
    pub fn add_rule(self, rule: impl Into<Rule>) -> Self {
        let rule = rule.into();
        self.push(rule.check().map(|()| message::new(&rule, message::CREATE)))
    }

    /// Removes the first rule that has all that was said (RTM_DELRULE). That there is none is an error here.
    #[doc(alias = "RTM_DELRULE")]
    pub fn remove_rule(self, rule: impl Into<Rule>) -> Self {
        self.push(Ok(message::delete(&rule.into())))
    }
}
