//! Namespaces that were made before.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Barrier};

use idmap::{IdMaps, MapPlan, UsernsCache, UsernsFd};

use super::plan;
use crate::sys;

/// The links of the descriptors of this process that are user namespaces.
fn held() -> usize {
    let fds = fs::read_dir("/proc/self/fd").expect("fd").filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    fds.filter(|link| link.to_string_lossy().starts_with("user:")).count()
}

fn link(userns: &UsernsFd) -> String {
    let link = fs::read_link(format!("/proc/self/fd/{}", userns.as_fd().as_raw_fd())).expect("link");
    link.to_string_lossy().into_owned()
}

#[test]
fn the_same_maps_and_setgroups_are_the_same_namespace() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let cache = UsernsCache::new();
        let get = |plan: &MapPlan| cache.get(plan).expect("userns");
        let first = get(&plan("100000:100000:10"));
        assert_eq!(link(&first), link(&get(&plan("100000:100000:10"))));
        let others = [plan("100000:100000:11"), plan("100000:100001:10"), plan("100000:100000:10").deny_setgroups()];
        for other in &others {
            assert_ne!(link(&first), link(&get(other)));
        }
        assert_eq!((cache.len(), held()), (4, 4));
        // What was given out lives on.
        cache.clear();
        assert!(cache.is_empty() && held() == 1);
        assert_ne!(link(&first), link(&get(&plan("100000:100000:10"))));
        drop(cache);
        assert_eq!(held(), 1);
    });
}

#[test]
fn it_forgets_what_was_not_asked_for_the_longest() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let cache = UsernsCache::with_capacity(2);
        let userns = |count: u32| cache.get(&plan(&format!("100000:100000:{count}"))).expect("userns");
        let get = |count| link(&userns(count));
        // Kept, so that no other namespace gets its number.
        let (one, two) = (get(1), userns(2));
        assert_eq!((get(1), held()), (one.clone(), 2));
        get(3);
        assert_eq!((get(1), held(), cache.len()), (one, 3, 2));
        assert_ne!(get(2), link(&two));
        let none = UsernsCache::with_capacity(0);
        let userns = none.get(&plan("100000:100000:1")).expect("userns");
        assert_eq!((Arc::strong_count(&userns), none.len()), (1, 0));
    });
}

#[test]
fn threads_that_ask_at_once_get_one() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        for _ in 0..20 {
            let (cache, plan, start) = (UsernsCache::new(), plan("100000:100000:65536"), Barrier::new(8));
            let links: Vec<_> = std::thread::scope(|scope| {
                let ask = || {
                    start.wait();
                    link(&cache.get(&plan).expect("userns"))
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
                threads.into_iter().map(|thread| thread.join().expect("thread")).collect()
            });
            assert!(links.iter().all(|link| *link == links[0]), "{links:?}");
            assert_eq!((cache.len(), held()), (1, 1));
        }
    });
}

#[test]
fn another_user_namespace_of_the_caller_is_another_key() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let cache = UsernsCache::new();
        let maps = IdMaps::contiguous(5, 5, 1).expect("maps");
        let first = link(&cache.get(&plan("5:5:1")).expect("userns"));
        let outer = UsernsFd::with_maps(&IdMaps::contiguous(100_000, 100_000, 65_536).expect("maps")).expect("outer");
        let child = sys::Forked::new(|| {
            // After a fork both go on with theirs.
            assert_eq!(link(&cache.get(&plan("5:5:1")).expect("userns")), first);
            sys::setns(outer.as_fd(), libc::CLONE_NEWUSER);
            sys::become_root();
            let inner = cache.get(&plan("5:5:1")).expect("userns");
            assert_eq!(inner.maps(), Some(&maps));
            assert_ne!(link(&inner), first);
            assert_eq!(link(&cache.get(&plan("5:5:1")).expect("userns")), link(&inner));
        });
        assert_eq!(child.wait(), 0);
        assert_eq!(link(&cache.get(&plan("5:5:1")).expect("userns")), first);
    });
}

#[test]
fn an_error_is_not_kept() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let child = sys::Forked::new(|| {
            let cache = UsernsCache::new();
            sys::refuse(libc::SYS_clone, libc::EPERM);
            cache.get(&plan("100000:100000:10")).expect_err("refused");
            assert!(cache.is_empty(), "{cache:?}");
        });
        assert_eq!(child.wait(), 0);
    });
}
