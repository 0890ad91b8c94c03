//! Every item of the finished crates says what a reader needs, before anything else: an example and the man page.
//!
//! This is about the text of the source, where an item begins its line, or where a macro of the file makes it. Whether
//! the words are true no program can tell; that the examples compile and hold is what the documentation tests are for.
#![forbid(unsafe_code)]

/// The crates that are held to it.
const CRATES: [&str; 5] =
    ["crates/cgroupfs/src/", "crates/idmap/src/", "crates/mountkit/src/", "crates/ns-core/src/", "crates/vethnet/src/"];
/// Not for users: what has no page in the documentation.
const UNSEEN: [&str; 10] = [
    "crates/cgroupfs/src/fuzzing.rs",
    "crates/cgroupfs/src/sys",
    "crates/idmap/src/fuzzing.rs",
    "crates/idmap/src/sys",
    "crates/mountkit/src/fuzzing.rs",
    "crates/mountkit/src/sys",
    "crates/ns-core/src/fuzzing.rs",
    "crates/ns-core/src/sys",
    "crates/vethnet/src/fuzzing.rs",
    "crates/vethnet/src/sys",
];
/// Where interfaces are documented: of control groups the kernel's own pages say more, and OCI's words are OCI's.
const PAGES: [&str; 3] = ["https://man7.org/", "https://docs.kernel.org/", "https://github.com/opencontainers/"];
/// Items that no man page tells of.
const OUR_OWN: [&str; 3] = [
    // The rows of the table that `Probe` is, which has the link.
    "Finding", "State", "Area",
];
/// Traits and types that are public only because a signature names them, in modules that are not.
const UNNAMED: [&str; 2] = ["Unreadable", "Plan"];

/// What is missing, with the number of the item's line counted from 0.
pub fn check(name: &str, text: &str, mut complain: impl FnMut(usize, &str)) {
    if !CRATES.iter().any(|dir| name.starts_with(dir)) || UNSEEN.iter().any(|file| name.starts_with(file)) {
        return;
    }
    let mut doc = String::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if let Some(words) = code.strip_prefix("///") {
            doc.push_str(words);
            doc.push('\n');
        } else if let Some(item) = item_of(line).filter(|item| !UNNAMED.contains(item)) {
            let has_example = has_example(&doc);
            // `<https://…>`, or `[open_tree(2)](https://…)`.
            let is_link = |page: &&str| ["<", "]("].iter().any(|before| doc.contains(&format!("{before}{page}")));
            let has_link = PAGES.iter().any(is_link) || OUR_OWN.contains(&item);
            for (missing, there) in [("example", has_example), ("link to a man page", has_link)] {
                if !there {
                    complain(number, &format!("`{item}` has no {missing} in its documentation"));
                }
            }
            doc.clear();
        } else if !code.starts_with("#[") && !code.starts_with("//") {
            doc.clear();
        }
    }
}

/// Whether there is code in it that is compiled: not only a drawing or what a shell shows.
fn has_example(doc: &str) -> bool {
    let fences = doc.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
    // Every second one ends a block.
    fences.step_by(2).any(|kind| matches!(kind, "" | "rust" | "no_run" | "should_panic"))
}

/// The name of the public item that this line declares: one at the beginning of the line, or a type that `bitflags!` or
/// a table of names makes. Where a macro is given the name too, it is given the documentation with it.
fn item_of(line: &str) -> Option<&str> {
    let public = line.trim_start().strip_prefix("pub ")?;
    let indented = line.starts_with(' ');
    let rest = ["struct ", "enum ", "trait ", "fn ", "async fn ", "const fn "]
        .iter()
        .filter(|word| !indented || matches!(**word, "struct " | "enum "))
        .find_map(|word| public.strip_prefix(word))?;
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "/// A thing.\n///\n/// ```\n/// f();\n/// ```\n///\n/// See <https://man7.org/x>.\n";

    fn wrong(name: &str, text: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        check(name, text, |number, what| wrong.push(format!("{number}: {what}")));
        wrong
    }

    fn in_ns_core(text: &str) -> Vec<String> {
        wrong("crates/ns-core/src/a.rs", text)
    }

    #[test]
    fn an_item_has_an_example_and_a_man_page() {
        for item in ["pub struct Thing {", "pub enum Thing {", "pub trait Thing {", "pub fn thing() {"] {
            assert!(in_ns_core(&format!("{GOOD}#[derive(Debug)]\n// why\n{item}\n")).is_empty(), "{item}");
            assert_eq!(in_ns_core(item).len(), 2, "{item}");
            assert_eq!(in_ns_core(&format!("{GOOD}\n{item}")).len(), 2, "what is apart is another's: {item}");
            assert_eq!(in_ns_core(&format!("/// A thing.\n{item}")).len(), 2, "{item}");
        }
        for block in ["```text", "```ignore", "```sh"] {
            let drawn = GOOD.replacen("```", block, 1);
            assert_eq!(in_ns_core(&format!("{drawn}pub fn f() {{}}")).len(), 1, "{block}");
        }
        let without_example = GOOD.replace("```", "");
        assert_eq!(
            in_ns_core(&format!("{without_example}pub fn f() {{}}")),
            ["7: `f` has no example in its documentation"]
        );
        assert_eq!(in_ns_core(&format!("{}pub fn f() {{}}", GOOD.replace("man7", "man"))).len(), 1);
        assert!(in_ns_core(&format!("{}pub fn f() {{}}", GOOD.replace("<https", "[x(2)](https"))).is_empty());
        // Documentation is used once.
        assert_eq!(in_ns_core(&format!("{GOOD}pub struct A;\npub struct B;\n")).len(), 2);
    }

    #[test]
    fn what_a_macro_makes() {
        assert_eq!(in_ns_core("bitflags! {\n    /// Flags.\n    pub struct Flags: u32 {\n").len(), 2);
        assert!(in_ns_core("        $(#[$doc])*\n        pub enum $kind {}\n").is_empty());
    }

    #[test]
    fn what_need_not() {
        assert_eq!(in_ns_core("/// ```\n/// ```\npub enum State {"), [""; 0]);
        for line in ["pub(crate) fn f() {}", "    pub fn method(&self) {}", "pub mod a;", "pub use a::B;", "fn f() {}"]
        {
            assert!(in_ns_core(line).is_empty(), "{line}");
        }
        assert!(wrong("crates/cellrun/src/a.rs", "pub fn f() {}").is_empty());
        assert!(wrong("crates/ns-core/src/sys/clone.rs", "pub fn f() {}").is_empty());
    }
}
