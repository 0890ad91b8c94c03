//! As an ordinary user.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use idmap::{Caller, IdMaps, UsernsFd};

#[test]
fn the_own_id_is_the_users_to_map() {
    faultkit::require!(user, userns, program("nsenter"));
    let caller = Caller::current().expect("caller");
    let userns =
        UsernsFd::with_maps(&IdMaps::contiguous(caller.uid(), caller.gid(), 1).expect("maps")).expect("userns");
    assert_eq!(userns.owner_uid().expect("owner"), caller.uid());
    let path = format!("--user=/proc/{}/fd/{}", std::process::id(), userns.as_fd().as_raw_fd());
    let output =
        Command::new("nsenter").arg(path).args(["--preserve-credentials", "id", "-u"]).output().expect("nsenter");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{}", String::from_utf8_lossy(&output.stderr));
}
