//! What crosses two crates.
