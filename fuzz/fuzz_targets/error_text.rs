//! The kernel's and other programs' words in an error: nothing a terminal would obey is printed.
#![no_main]

use std::path::Path;

use cellkit_core::{Error, Subject};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let path = Path::new(text);
    for subject in [Subject::Path(path.into()), Subject::Value(text.into()), Subject::Interface(text.into())] {
        let error = Error::from_errno("mount", 22).on(subject).with_kernel_text(text);
        let shown = format!("{error:#}");
        assert!(!shown.contains(|letter: char| letter.is_control() && letter != '\n'), "{shown:?}");
        assert!(shown.matches('\n').count() <= 1, "{shown:?}");
    }
});
