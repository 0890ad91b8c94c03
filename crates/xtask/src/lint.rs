//! The house rules that clippy does not know.
//!
//! A line is excused by a comment on it or above it that begins with the word in brackets below and says why:
//!
//! * `unsafe` stands in `sys.rs` or below `sys/` only, every other file forbids it (no excuse);
//! * published code names no file below `/proc` by path, `ProcFd` opens them \[proc:\];
//! * nothing is joined to the path of a root file system, `RootFd` resolves it \[join:\];
//! * no `todo!`, no `unimplemented!` (no excuse);
//! * what a finished crate offers has an example and a link to its man page (`lint/documented.rs`, with its exceptions).
//!
//! A file longer than 500 lines is only mentioned.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::{Result, workspace};

mod documented;

const LONG: usize = 500;
/// Declares the unsafe trait that the `sys` modules of other crates implement.
const DECLARES_UNSAFE: &str = "crates/cellkit-core/src/child.rs";
/// Test support and these commands: they read /proc as the kernel's own view of what is under test.
const UNPUBLISHED: [&str; 2] = ["crates/faultkit/", "crates/xtask/"];
/// Where a variable called `root` is the root of a file system that is not trusted.
const ABOUT_ROOTS: [&str; 2] = ["crates/mountkit/", "crates/cellrun/"];

/// Prints what is wrong.
///
/// # Errors
/// When the sources cannot be read.
pub fn run() -> Result<ExitCode> {
    let wrong = check()?;
    for line in &wrong {
        println!("{line}");
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that breaks a rule, as `file:line: what`.
///
/// # Errors
/// When the sources cannot be read.
pub fn check() -> Result<Vec<String>> {
    let root = workspace();
    let mut files = Vec::new();
    for dir in ["crates", "examples", "benches", "tests", "fuzz"] {
        find_sources(&root.join(dir), &mut files)?;
    }
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().into_owned();
        let text = fs::read_to_string(&file)?;
        if text.lines().count() > LONG {
            println!("{name}: {} lines: is it still one job?", text.lines().count());
        }
        check_file(&name, &text, &mut wrong);
    }
    Ok(wrong)
}

fn find_sources(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            find_sources(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(name: &str, text: &str, wrong: &mut Vec<String>) {
    let is_sys = name.ends_with("/sys.rs") || name.contains("/sys/");
    let is_source = name.contains("/src/");
    // `src/tests.rs` and what is below `src/tests/` are modules that only test builds have.
    let is_test = !is_source || name.contains("/tests/") || name.ends_with("/tests.rs");
    let is_published = !is_test && !UNPUBLISHED.iter().any(|crate_dir| name.starts_with(crate_dir));
    let is_about_roots = ABOUT_ROOTS.iter().any(|crate_dir| name.starts_with(crate_dir));
    let is_crate_root = ["/lib.rs", "/main.rs"].iter().any(|file| name.ends_with(file)) || name.contains("/bin/");
    let mut complain = |number: usize, what: &str| wrong.push(format!("{name}:{}: {what}", number + 1));

    documented::check(name, text, &mut complain);
    let has_sys_below = is_crate_root || name.ends_with("/tests.rs");
    let forbids = text.contains("#![forbid(unsafe_code)]") || has_sys_below && text.contains("#![deny(unsafe_code)]");
    if is_source && !is_sys && name != DECLARES_UNSAFE && !forbids {
        complain(0, "has no #![forbid(unsafe_code)]");
    }
    let mut in_tests = false;
    let mut above = "";
    for (number, line) in text.lines().enumerate() {
        // Tests are the last thing in a file.
        in_tests |= line.starts_with("#[cfg(test)]");
        let code = code_of(line);
        let excused = |word: &str| [line, above].iter().any(|text| text.contains(&format!("// {word}: ")));
        let bare = without_strings(code);
        if !is_sys && name != DECLARES_UNSAFE && UNSAFE.iter().any(|start| bare.contains(start)) {
            complain(number, "unsafe outside sys.rs");
        }
        if ["todo!(", "unimplemented!("].iter().any(|word| bare.contains(word)) {
            complain(number, "what is not built is absent, not promised");
        }
        if is_published && !in_tests {
            if opens_proc(code) && !excused("proc") {
                complain(number, "a file of /proc by path: use ProcFd, or say why not in a `// proc: ` comment");
            }
            if joins_a_root(code, is_about_roots) && !excused("join") {
                complain(number, "a join on a root file system: use RootFd, or say why not in a `// join: ` comment");
            }
        }
        above = line;
    }
}

/// A line without its comment. A `//` inside a string that follows a space would fool it; none is worth a parser.
fn code_of(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split(" // ").next().unwrap_or_default()
}

/// What begins an operation or a promise that the compiler cannot check.
const UNSAFE: [&str; 5] = ["unsafe {", "unsafe impl ", "unsafe fn ", "unsafe extern ", "allow(unsafe_code"];

/// A line with its strings emptied. Character and raw strings with quotes in them would confuse it.
fn without_strings(code: &str) -> String {
    let mut bare = String::new();
    let mut inside = false;
    let mut escaped = false;
    for c in code.chars() {
        let quote = c == '"' && !escaped;
        escaped = inside && c == '\\' && !escaped;
        if quote {
            inside = !inside;
        } else if !inside {
            bare.push(c);
        }
    }
    bare
}

/// A path below /proc given to a function, but not where it only names what an error is about.
fn opens_proc(code: &str) -> bool {
    let names = ["Subject::", ".on(", "PathBuf::from("].iter().any(|word| code.contains(word));
    let given = ["(\"/proc/", "(c\"/proc/", "format!(\"/proc/"].iter().any(|start| code.contains(start));
    // A pair in a table has a function's parenthesis before it, too; a call has a name before that.
    let called = code.match_indices("\"/proc/").any(|(at, _)| {
        let before = code.get(..at).unwrap_or_default().trim_end_matches('c').trim_end_matches('(');
        before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '!')
    });
    given && called && !names
}

/// `rootfs.join(`, `self.new_root.join(`, `rootfs().join(`, and where roots are the subject `root.join(`.
fn joins_a_root(code: &str, is_about_roots: bool) -> bool {
    code.match_indices(".join(").any(|(at, _)| {
        let before = code.get(..at).unwrap_or_default().trim_end_matches("()");
        let word = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        ["rootfs", "new_root", "rootfs_path", "lowerdir", "upperdir"].contains(&word)
            || is_about_roots && word == "root"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(name: &str, text: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        check_file(name, &format!("#![forbid(unsafe_code)]\n{text}"), &mut wrong);
        wrong
    }

    #[test]
    fn unsafe_only_in_sys() {
        let text = "fn f() { unsafe { g() } }\n";
        assert_eq!(wrong("crates/a/src/b.rs", text), ["crates/a/src/b.rs:2: unsafe outside sys.rs"]);
        assert!(wrong("crates/a/src/sys.rs", text).is_empty());
        assert!(wrong("crates/a/src/sys/clone.rs", text).is_empty());
        assert!(wrong("crates/a/src/b.rs", "// nothing unsafe {} here\n").is_empty());
        assert!(wrong("crates/a/src/b.rs", "let text = \"a \\\" unsafe { \";\n").is_empty());
        let mut missing = Vec::new();
        check_file("crates/a/src/b.rs", "fn f() {}\n", &mut missing);
        assert_eq!(missing.len(), 1);
    }

    #[test]
    fn proc_by_path_needs_a_reason() {
        let text = "let f = open(\"/proc/self/maps\");\n";
        assert_eq!(wrong("crates/a/src/b.rs", text).len(), 1);
        assert!(wrong("crates/faultkit/src/b.rs", text).is_empty());
        assert!(wrong("crates/a/tests/b.rs", text).is_empty());
        assert!(wrong("crates/a/src/b.rs", &format!("// proc: before any namespace\n{text}")).is_empty());
        assert!(wrong("crates/a/src/b.rs", &format!("#[cfg(test)]\nmod tests {{\n{text}}}\n")).is_empty());
        assert!(wrong("crates/a/src/b.rs", &format!("/// {text}")).is_empty());
        for data in ["    \"/proc/kcore\",", "(c\"fd\", c\"/proc/self/fd\"),", "e.on(Path::new(\"/proc/sys\"))"] {
            assert!(wrong("crates/a/src/b.rs", data).is_empty(), "{data}");
        }
        for read in ["fs::read(format!(\"/proc/{pid}\"))", "Path::new(\"/proc/self/x\")", "open(c\"/proc/self/x\")"] {
            assert_eq!(wrong("crates/a/src/b.rs", read).len(), 1, "{read}");
        }
    }

    #[test]
    fn joins_on_a_root() {
        for line in ["rootfs.join(x)", "self.new_root.join(x)", "spec.rootfs().join(x)"] {
            assert_eq!(wrong("crates/a/src/b.rs", line).len(), 1, "{line}");
        }
        assert_eq!(wrong("crates/mountkit/src/b.rs", "root.join(x)").len(), 1);
        for line in ["dir.join(x)", "root.join(x)", "chroot_list.join(x)", "rootfs.join(x) // join: ours"] {
            assert!(wrong("crates/a/src/b.rs", line).is_empty(), "{line}");
        }
    }

    #[test]
    fn promises() {
        assert_eq!(wrong("tests/main.rs", "fn f() { todo!() }").len(), 1);
        assert!(wrong("tests/main.rs", "let text = \"todo!()\";").is_empty());
    }
}
