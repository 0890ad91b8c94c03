//! An ordinary user with an account and ranges of ids, in the test's own mount namespace.

use std::fs;

use faultkit::{OrdinaryUser, TempDir};

use crate::run::host;

/// Ann, 12345, with uids from 300000 and gids from 400000 if she has ranges. Dropping it unmounts what it mounted.
pub struct Ann {
    pub user: OrdinaryUser,
    _etc: TempDir,
}

/// The files that are hers.
const FILES: [&str; 4] = ["passwd", "group", "subuid", "subgid"];

impl Ann {
    pub fn with_ranges() -> Self {
        Self::new("ann:300000:65536\n", "ann:400000:65536\n")
    }

    pub fn without_ranges() -> Self {
        Self::new("", "")
    }

    fn new(subuid: &str, subgid: &str) -> Self {
        let user = faultkit::ordinary_user();
        let etc = TempDir::new();
        let old = |name: &str| fs::read_to_string(format!("/etc/{name}")).expect("read");
        let passwd = old("passwd") + &format!("ann:x:12345:12345::{}:/bin/sh\n", user.home().display());
        let group = old("group") + "ann:x:12345:\n";
        for (name, text) in FILES.into_iter().zip([&passwd, &group, subuid, subgid]) {
            fs::write(etc.join(name), text).expect("write");
            host(&format!("chmod 644 {0}/{name}; mount --bind {0}/{name} /etc/{name}", etc.display()));
        }
        Self { user, _etc: etc }
    }
}

impl Drop for Ann {
    fn drop(&mut self) {
        for name in FILES {
            host(&format!("umount /etc/{name}"));
        }
    }
}
