#![forbid(unsafe_code)]

mod lookups;
mod planted;
mod refused;
mod survival;
mod volatile;
