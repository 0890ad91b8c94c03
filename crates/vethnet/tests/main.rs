//! Tests of whole networks, in network namespaces of their own. What is there is asked of `ip` and `nft`, what works of
//! real connections.
#![forbid(unsafe_code)]

mod root;
