//! Test support of the cellkit crates.
//!
//! * [`require!`]: what a test needs of the machine. Unmet, the test is skipped aloud and counted; unmet although it was
//!   promised, the test fails.
//! * [`isolated!`]: runs the body of a test alone, in a fresh process with its own mount, network, pid and cgroup view,
//!   and compares the [`Ledger`] before and after.
//! * [`Ledger`]: mounts, links, addresses, routes, rules, nft rules, cgroups, namespaces, file descriptors, threads,
//!   processes, files and the process's own state, as the kernel and other programs show them.
//! * [`Sweep`]: runs a body once for each of its system calls, with that call failing or a process killed at it.
//! * [`TempDir`] and [`OrdinaryUser`]: a folder that goes away, and programs run as somebody without privileges.
//!
//! ```no_run
//! # // A test function in an example is not run by the test harness: this shows the form.
//! mod root {
//!     #[test]
//!     fn a_mount_goes_away_again() {
//!         faultkit::require!(root, program("findmnt"));
//!         faultkit::isolated!(|| {
//!             // mount something, look at it with findmnt, unmount it
//!         });
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # Environment
//! * `CELLKIT_EXPECT=root,cgroup2,...`: what the machine promises. The words are those of [`require!`]; `kernel=6.12`,
//!   `cgroup2=memory` and `program=ip` promise one, `kernel`, `cgroup2` and `program` all.
//! * `CELLKIT_SKIPS=FILE`: each skip appends a line to this file.
//! * `CELLKIT_VM=1`: the processor is emulated, ten times slower: time limits are longer.
//! * `CELLKIT_ISOLATED`: set by [`isolated!`] for the process it starts.
#![deny(unsafe_code)]

mod cgroup_view;
mod inject;
mod isolated;
mod ledger;
mod needs;
mod ordinary_user;
mod scan;
mod sys;
mod temp_dir;

pub use inject::{Call, Counted, End, Failure, Fault, Run, Sweep, Swept};
pub use isolated::Isolated;
pub use ledger::Ledger;
pub use needs::Need;
pub use ordinary_user::{OrdinaryUser, ordinary_user};
pub use temp_dir::TempDir;

/// Says what the test needs of the machine and returns from the test, aloud, where that is missing.
///
/// ```no_run
/// faultkit::require!(root, kernel(6.8), cgroup2("memory"), program("ip"));
/// ```
///
/// | word | met when |
/// |---|---|
/// | `root` | the effective user id is 0 |
/// | `user` | it is not |
/// | `userns` | this process may make a user namespace (it is tried) |
/// | `kernel(6.8)` | the running kernel is that or newer |
/// | `cgroup2` | a cgroup2 file system is mounted |
/// | `cgroup2("memory")` | and its root offers this controller |
/// | `systemd` | systemd is init, and for an ordinary user there is a user manager |
/// | `vm` | this is a virtual machine of `cargo xtask vm`, whose settings the test may change |
/// | `program("ip")` | the program is found in `PATH` |
///
/// An unmet need prints `skipped: needs ...` to the real standard error, whatever the test harness captures, and appends
/// a line to the file `CELLKIT_SKIPS` names. When `CELLKIT_EXPECT` promises it, it panics instead.
#[macro_export]
macro_rules! require {
    ($($word:ident $(($($arg:tt)*))?),+ $(,)?) => {
        if !$crate::Need::all_met(&$crate::test_path!(), &[$($crate::need!($word $(($($arg)*))?)),+]) {
            return;
        }
    };
}

/// One word of [`require!`] as a [`Need`].
#[doc(hidden)]
#[macro_export]
macro_rules! need {
    (root) => {
        $crate::Need::Root
    };
    (user) => {
        $crate::Need::User
    };
    (userns) => {
        $crate::Need::UserNamespace
    };
    (cgroup2) => {
        $crate::Need::Cgroup2(None)
    };
    (cgroup2($controller:expr)) => {
        $crate::Need::Cgroup2(Some($controller))
    };
    (kernel($version:literal)) => {
        $crate::Need::Kernel(stringify!($version))
    };
    (systemd) => {
        $crate::Need::Systemd
    };
    (vm) => {
        $crate::Need::Vm
    };
    (program($name:expr)) => {
        $crate::Need::Program($name)
    };
}

/// Runs the body of the enclosing `#[test]` alone in a fresh process of this test binary, in its own namespaces, and
/// compares the [`Ledger`] before and after it.
///
/// ```no_run
/// faultkit::isolated!(|| assert_eq!(std::fs::read_dir("/sys/class/net").into_iter().count(), 1));
/// faultkit::isolated!(limit_secs = 30, watch = "/var/lib/cell", || { /* ... */ });
/// ```
///
/// It must stand in the test function itself, whose name it finds out, and the body returns `()` and panics to fail. For
/// what the process gets, as root and as an ordinary user, see [`Isolated`].
#[macro_export]
macro_rules! isolated {
    (@build $isolated:expr, limit_secs = $secs:expr, $($rest:tt)+) => {
        $crate::isolated!(@build $isolated.limit(::std::time::Duration::from_secs($secs)), $($rest)+)
    };
    (@build $isolated:expr, watch = $dir:expr, $($rest:tt)+) => {
        $crate::isolated!(@build $isolated.watch($dir), $($rest)+)
    };
    (@build $isolated:expr, $body:expr $(,)?) => {
        $isolated.run($body)
    };
    ($($all:tt)+) => {
        $crate::isolated!(@build $crate::Isolated::new($crate::test_path!()), $($all)+)
    };
}

/// The enclosing test as the test harness names it: `module::path::function`.
#[doc(hidden)]
#[macro_export]
macro_rules! test_path {
    () => {{
        fn here() {}
        $crate::test_path_of(&here)
    }};
}

/// Waits for every child that has ended and whom nobody waits for, and answers how many there were.
///
/// The process of an [`isolated!`] body is a subreaper: orphans become its children, and zombies when they end. A body
/// that makes orphans on purpose calls this. It must not run while a `std::process::Child` is still to be waited for.
pub fn reap_orphans() -> usize {
    sys::reap_ended()
}

/// A program of this workspace that cargo built beside the running test: `built_program("cellrun")`.
///
/// It is found one folder above the test binary, where cargo puts it, so that both can be copied elsewhere together: to
/// where an ordinary user may read them, or into a virtual machine. A path fixed at build time cannot.
///
/// Cargo builds the programs of a package for that package's own integration tests, and for all in a workspace build; for
/// other tests run `cargo build` first, or they see the program as it was built last.
///
/// # Panics
/// When it is not there.
#[must_use]
#[track_caller]
pub fn built_program(name: &str) -> std::path::PathBuf {
    let exe = std::env::current_exe().unwrap_or_else(|e| panic!("where is this program? {e}"));
    let path = exe.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    path.unwrap_or_else(|| panic!("{name} is not beside {}: build it with cargo build", exe.display()))
}

/// An example of this workspace that cargo built beside the running test: `built_example("unshare")`.
///
/// It is found in the folder `examples` one above the test binary, where cargo puts it, so that both can be copied
/// elsewhere together, as [`built_program`] says.
///
/// Cargo builds examples for `cargo test` of the package that owns them, but not for `cargo test --test main`.
///
/// # Panics
/// When it is not there.
#[must_use]
#[track_caller]
pub fn built_example(name: &str) -> std::path::PathBuf {
    let exe = std::env::current_exe().unwrap_or_else(|e| panic!("where is this program? {e}"));
    let path = exe.ancestors().skip(1).take(2).map(|dir| dir.join("examples").join(name)).find(|path| path.is_file());
    path.unwrap_or_else(|| panic!("examples/{name} is not beside {}: cargo build --examples", exe.display()))
}

/// How much longer than on hardware things may take here.
fn slowness() -> u32 {
    if std::env::var_os("CELLKIT_VM").is_some() { 5 } else { 1 }
}

/// Turns the type name of a function declared inside a test into the name of the test.
#[doc(hidden)]
#[must_use]
pub fn test_path_of<T>(_declared_inside: &T) -> String {
    test_path_from(std::any::type_name::<T>())
}

fn test_path_from(type_name: &str) -> String {
    let parts: Vec<&str> = type_name.split("::").filter(|part| *part != "{{closure}}").collect();
    // The first part is the crate, the last the declared function.
    parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default().join("::")
}

#[cfg(test)]
mod tests {
    use super::test_path_from;

    #[test]
    fn the_path_of_a_test_is_what_the_harness_calls_it() {
        assert_eq!(test_path!(), "tests::the_path_of_a_test_is_what_the_harness_calls_it");
        let in_closure = || test_path!();
        assert_eq!(in_closure(), "tests::the_path_of_a_test_is_what_the_harness_calls_it");
        assert_eq!(test_path_from("main::root::mounts::{{closure}}::here"), "root::mounts");
        assert_eq!(test_path_from("main::here"), "");
    }

    #[test]
    fn a_program_beside_the_test() {
        let exe = std::env::current_exe().unwrap();
        assert_eq!(crate::built_program(exe.file_name().unwrap().to_str().unwrap()), exe);
        assert!(std::panic::catch_unwind(|| crate::built_program("no-such-program")).is_err());
        assert!(std::panic::catch_unwind(|| crate::built_example("no-such-example")).is_err());
    }
}
