//! What an ordinary user gets on this machine, whatever its files say.
#![forbid(unsafe_code)]

use cellkit_core::{ProcFd, ProcView};

use super::paused_child::PausedChild;
use crate::{Caller, MapPlan, Setgroups, SubIds};

#[test]
fn the_automatic_maps_are_what_the_kernel_shows() {
    faultkit::require!(user, userns, program("unshare"));
    faultkit::isolated!(|| {
        let caller = Caller::current().expect("caller");
        let plan = MapPlan::auto(&caller, &SubIds::of(&caller).expect("subids")).expect("plan");
        let child = PausedChild::new();
        plan.write(&child, &ProcFd::open(ProcView::Processes).expect("proc"), &mut ()).expect("write");
        assert_eq!(child.map("uid_map"), plan.maps().uid.to_string());
        assert_eq!(child.map("gid_map"), plan.maps().gid.to_string());
        let denied = child.file("setgroups") == "deny\n";
        assert_eq!(denied, plan.setgroups() == Setgroups::Deny);
    });
}
