//! Changing who owns a tree. What came of it is read by find, getfacl and getcap.

mod root;
mod sys;
mod tree;
mod user;
