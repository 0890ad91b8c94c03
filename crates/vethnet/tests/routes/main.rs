//! Addresses, routes, rules, neighbours and forwarding databases, in network namespaces of the tests' own. What is there is
//! asked of `ip` and `bridge`, what works of real packets.
#![forbid(unsafe_code)]

/// `faultkit::isolated!` of a process that has had a runtime; see the tests of whole networks.
macro_rules! isolated {
    ($($all:tt)+) => {{
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
        faultkit::isolated!($($all)+)
    }};
}

mod root;
mod world;
