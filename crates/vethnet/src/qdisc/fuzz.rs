//! Options of qdiscs as the kernel may say them: what could be asked for, asked for again, is the same.
#![forbid(unsafe_code)]

use super::message::{Header, TCA_KIND, TCA_OPTIONS};
use super::{Class, Discipline, Parent, Qdisc, set};
use crate::attr::Writer;
use crate::link::LinkRef;
use crate::name::IfName;

pub(crate) fn fuzz(bytes: &[u8]) {
    let name = LinkRef::from(IfName::new("eth0").expect("a name"));
    for kind in ["tbf", "htb", "netem", "ingress", "fq"] {
        let mut writer = Writer::new(&Header { index: 1, handle: 0x1_0000, ..Header::default() }.bytes());
        writer.text(TCA_KIND, kind).put(TCA_OPTIONS, bytes);
        let Ok(body) = writer.finish() else { return };
        let _ = Class::parse(&body);
        let read = Qdisc::parse(&body).expect("it has a kind").discipline;
        assert_eq!(read.kind(), kind);
        if matches!(read, Discipline::Other(_)) || read.check(Parent::Root).is_err() {
            continue;
        }
        let request = set(&name, 1, Parent::Root, &read).expect("it is short");
        let again = Qdisc::parse(&request.body).expect("it has a kind").discipline;
        match (&read, &again) {
            // A burst is told in time, which is rounded up.
            (Discipline::Tbf(read), Discipline::Tbf(again)) => {
                assert_eq!((read.rate(), read.limit_bytes()), (again.rate(), again.limit_bytes()));
                assert!(again.burst_bytes() >= read.burst_bytes(), "{read:?} {again:?}");
            }
            _ => assert_eq!(read, again),
        }
    }
}
