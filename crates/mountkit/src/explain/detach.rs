//! umount2.
#![forbid(unsafe_code)]

use super::here::Here;
use super::place::Failure;
use super::{Causes, Reason, attach, holders, privilege};

pub(super) fn explain(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    if failure.errno == libc::EPERM {
        return privilege::explain(failure, here, causes);
    }
    let Some(place) = failure.place().filter(|place| place.missing.is_none()) else { return };
    let shown = place.shown.display();
    match failure.errno {
        libc::EINVAL if !place.stat.is_mount_root => {
            causes.seen(Reason::NotAMountPoint, format!("nothing is mounted on {shown}"));
        }
        libc::EINVAL if attach::is_foreign(place, here) => causes.seen(
            Reason::OtherMountNamespace,
            format!("the mount on {shown} belongs to another mount namespace: unmount it there"),
        ),
        libc::EINVAL if here.is_first_user_namespace() == Some(false) => causes.seen(
            Reason::LockedMounts,
            format!(
                "the mount on {shown} came with those that this user namespace began with, and is locked to them: unmount \
                 what is above it as a whole, or leave the old root by pivot_root"
            ),
        ),
        libc::EBUSY => {
            let below = here.mount(place.stat.mount_id).map_or(0, |mount| mount.children().len());
            if below > 0 {
                causes.seen(
                    Reason::InUse,
                    format!(
                        "{} below {shown}: unmount the whole tree (umount -R, MNT_DETACH)",
                        if below == 1 { "there is a mount".into() } else { format!("there are {below} mounts") }
                    ),
                );
            }
            let mount = here.mount(place.stat.mount_id);
            if let Some(list) = holders::listed(&holders::of(place, mount, holders::Use::Any)) {
                causes.seen(Reason::InUse, format!("{shown} is in use by {list}; end them, or detach it (MNT_DETACH)"));
            }
        }
        _ => {}
    }
}
