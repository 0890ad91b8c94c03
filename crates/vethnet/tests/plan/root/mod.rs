//! What takes namespaces of the test's own.

mod conflict;
mod kill;
mod names;
