//! What crosses two crates, and the examples, each run and compared with the tool it stands for.
#![forbid(unsafe_code)]

mod examples;
mod start;

/// The program in README.md is the example that is compiled, word for word.
#[test]
fn the_program_of_the_readme_is_the_example() {
    let readme = include_str!("../README.md");
    let program = concat!("```rust\n", include_str!("../examples/readme.rs"), "```\n");
    assert!(readme.contains(program), "README.md differs from examples/readme.rs");
}
