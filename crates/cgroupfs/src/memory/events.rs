//! How often limits on memory and swap were felt: `memory.events`, `memory.events.local` and `memory.swap.events`.
#![forbid(unsafe_code)]

use crate::keyed::flat_keyed;

flat_keyed! {
    /// `memory.events`: how often memory limits were felt in the group and below it; `memory.events.local`: in the group
    /// itself.
    ///
    /// ```
    /// use cgroupfs::MemoryEvents;
    ///
    /// let events: MemoryEvents = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n".parse()?;
    /// assert_eq!((events.max, events.oom_kill), (7, 1));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
    MemoryEvents of "memory.events" {
        /// The group was reclaimed from although below `memory.low`.
        low: u64 = "low",
        /// Its processes were throttled for being above `memory.high`.
        high: u64 = "high",
        /// It was about to go over `memory.max`.
        max: u64 = "max",
        /// It reached the limit and an allocation was about to fail.
        oom: u64 = "oom",
        /// Processes killed by the out-of-memory killer.
        oom_kill: u64 = "oom_kill",
        /// Times the whole group was killed. Linux 5.17.
        oom_group_kill: Option<u64> = "oom_group_kill",
        /// Times its sockets were held back. Kernels newer than 6.12.
        sock_throttled: Option<u64> = "sock_throttled",
    }
}

flat_keyed! {
    /// `memory.swap.events`: how often limits on swap were felt in the group and below it.
    ///
    /// ```
    /// use cgroupfs::SwapEvents;
    ///
    /// let events: SwapEvents = "high 0\nmax 3\nfail 3\n".parse()?;
    /// assert_eq!((events.max, events.fail), (3, 3));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
    SwapEvents of "memory.swap.events" {
        /// It was above `memory.swap.high`.
        high: u64 = "high",
        /// It was about to go over `memory.swap.max`, so a page was not swapped out.
        max: u64 = "max",
        /// A page was not swapped out for want of swap, whether of the group's or of the machine's.
        fail: u64 = "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn kernels_with_fewer_and_with_more_keys() {
        let old: MemoryEvents = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n".parse().expect("5.15");
        assert_eq!((old.max, old.oom_kill, old.oom_group_kill), (7, 1, None));
        let new = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\nsock_throttled 3\nnew_one 4\n";
        let new: MemoryEvents = new.parse().expect("newer");
        assert_eq!((new.oom_group_kill, new.sock_throttled, new.other["new_one"]), (Some(0), Some(3), 4));
        assert_eq!("".parse::<MemoryEvents>().expect_err("empty").kind(), ErrorKind::Parse);
        assert_eq!("max 1\nfail 1\n".parse::<SwapEvents>().expect_err("no high").kind(), ErrorKind::Parse);
    }
}
