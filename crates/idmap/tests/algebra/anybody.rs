//! What needs no privilege.
#![forbid(unsafe_code)]

use cellkit_core::{ProcFd, ProcView};
use idmap::IdMaps;

#[test]
fn the_maps_of_a_process_that_one_may_not_signal_can_be_read() {
    let pidfd = cellkit_core::sys::pidfd_open(1).expect("there is an init");
    let maps = IdMaps::of_process(&pidfd, &ProcFd::open(ProcView::Processes).expect("proc")).expect("maps");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for (file, map) in [("uid_map", &maps.uid), ("gid_map", &maps.gid)] {
        let text = std::fs::read_to_string(format!("/proc/1/{file}")).expect(file);
        assert_eq!(words(&map.to_string()), words(&text));
    }
}
