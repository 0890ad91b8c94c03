//! What needs root.

mod addresses;
mod bad_input;
mod fdb;
mod neighbours;
mod routes;
mod rules;
