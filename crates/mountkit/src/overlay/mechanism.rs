//! In which of four ways this kernel is told the layers, and how they are called there.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::sync::OnceLock;

use cellkit_core::{Error, Result, Subject};

use super::options::{Setting, an_overlay};
use crate::MountAttr;
use crate::filesystem::{Context, Superblock};

/// How many layers the kernel takes in all: OVL_MAX_STACK.
pub(crate) const MOST_LAYERS: usize = 500;
/// What fsconfig(2) takes as one string, without its NUL.
pub(crate) const LONGEST_STRING: usize = 255;
/// What mount(2) reads of its options: a page, without its NUL. The rest is cut off in silence.
const LONGEST_PAGE: usize = 4095;

/// What a kernel understands, found out by asking it and not by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Understands {
    /// `lowerdir=` in one string, when the mount is made (before 6.5).
    OnePage,
    /// The same, at once, and data-only layers after `::` (6.5).
    DataOnly,
    /// `lowerdir+`: one layer at a time, by a name (6.8).
    Appending,
    /// `lowerdir+` by an O_PATH descriptor (6.15).
    Descriptors,
}

/// How the layers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// `lowerdir+` by descriptors: no name is involved.
    Descriptors,
    /// `lowerdir+` as `.`, from a thread that goes to each layer in turn.
    Appending,
    /// Each layer gets a name of one or two letters in a mount namespace of a thread's own; all in one string for fsconfig.
    OneString,
    /// The same, in the page of text of mount(2).
    OnePage,
}

/// The best way to tell so many layers.
pub(crate) fn choose(understands: Understands, lowers: usize, data: usize) -> Result<Mechanism> {
    if data > 0 && understands < Understands::DataOnly {
        return Err(Error::unsupported("fsconfig", "a data-only layer", Some("6.5")).on(an_overlay()));
    }
    Ok(match understands {
        Understands::Descriptors => Mechanism::Descriptors,
        Understands::Appending => Mechanism::Appending,
        _ if lowerdir(lowers, data).len() <= LONGEST_STRING => Mechanism::OneString,
        _ => Mechanism::OnePage,
    })
}

/// Asks the kernel, once in the life of the process.
pub(crate) fn understands() -> Result<Understands> {
    static ANSWER: OnceLock<Understands> = OnceLock::new();
    if let Some(answer) = ANSWER.get() {
        return Ok(*answer);
    }
    let answer = ask()?;
    Ok(*ANSWER.get_or_init(|| answer))
}

fn ask() -> Result<Understands> {
    let overlay = || Context::open(c"overlay", Subject::Thing("overlay".into()));
    let context = overlay()?;
    // An option that wants a value. Kernels that collect the options in a page take everything.
    if takes(context.flag(c"lowerdir+"))? {
        return Ok(Understands::OnePage);
    }
    let scratch = Context::open(c"tmpfs", Subject::Thing("tmpfs".into()))?;
    scratch.create(Superblock::NewOrShared)?;
    let layer = scratch.mount(MountAttr::empty(), None)?;
    if takes(context.set_fd(c"lowerdir+", layer.as_fd()))? {
        return Ok(Understands::Descriptors);
    }
    match takes(overlay()?.set(c"lowerdir+", c"/"))? {
        true => Ok(Understands::Appending),
        false => Ok(Understands::DataOnly),
    }
}

/// Whether the kernel took it. An error that is none about the option (ENOMEM, EMFILE) is no answer, and must not be one
/// for the rest of the process's life.
fn takes(told: Result<()>) -> Result<bool> {
    match told {
        Ok(()) => Ok(true),
        // EBADF: Linux 6.13 and 6.14 take descriptors, but none of O_PATH.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The letters of [`name`]: no capital ones, which have a meaning of their own in `short_names.rs`.
const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The short name of a layer: one letter, or two.
pub(crate) fn name(number: usize) -> String {
    let letter = |digit: usize| char::from(LETTERS.get(digit % LETTERS.len()).copied().unwrap_or(b'_'));
    match number.checked_sub(LETTERS.len()) {
        None => letter(number).to_string(),
        Some(rest) => [letter(rest / LETTERS.len()), letter(rest)].iter().collect(),
    }
}

/// The value of `lowerdir=` for layers called by their short names, the data-only ones last.
pub(crate) fn lowerdir(lowers: usize, data: usize) -> String {
    let mut value = (0..lowers).map(name).collect::<Vec<_>>().join(":");
    for number in lowers..lowers + data {
        value.push_str("::");
        value.push_str(&name(number));
    }
    value
}

/// The options as one text for mount(2), which must never be longer than what the kernel reads of it.
pub(crate) fn page(lowers: usize, data: usize, upper: Option<(&str, &str)>, settings: &[Setting]) -> Result<String> {
    let mut text = format!("lowerdir={}", lowerdir(lowers, data));
    if let Some((upper, work)) = upper {
        text.push_str(&format!(",upperdir={upper},workdir={work}"));
    }
    for setting in settings {
        text.push(',');
        text.push_str(&setting.key.to_string_lossy());
        if let Some(value) = setting.value {
            text.push('=');
            text.push_str(&value.to_string_lossy());
        }
    }
    if text.len() > LONGEST_PAGE {
        let why = format!("the options have {} bytes, of which mount(2) reads {LONGEST_PAGE}", text.len());
        return Err(Error::invalid("mount", why).on(an_overlay()).with_hint("Linux 6.8 takes one layer at a time"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_short_plain_and_different() {
        let names: HashSet<String> = (0..MOST_LAYERS).map(name).collect();
        assert_eq!(names.len(), MOST_LAYERS);
        assert!(
            names
                .iter()
                .all(|name| (1..=2).contains(&name.len()) && name.bytes().all(|letter| LETTERS.contains(&letter)))
        );
        assert_eq!((name(0), name(35), name(36), name(37)), ("0".into(), "z".into(), "00".into(), "01".into()));
    }

    #[test]
    fn as_many_layers_as_the_kernel_takes_fit_into_a_page() {
        let options = super::super::options::Options { volatile: true, ..Default::default() };
        let settings = options.settings(super::super::OverlayXattrs::Trusted);
        let text = page(MOST_LAYERS, 0, Some(("U", "W")), &settings).expect("fits");
        assert!(text.len() < 2500, "{}", text.len());
        let text = page(1, MOST_LAYERS - 1, Some(("U", "W")), &settings).expect("fits");
        assert!(text.len() < 2500, "{}", text.len());
    }

    #[test]
    fn a_page_is_never_cut() {
        let error = page(1, 0, Some((&"x".repeat(4096), "W")), &[]).expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("4095"), "{error}");
        let rest = "lowerdir=0,upperdir=,workdir=W".len();
        assert_eq!(page(1, 0, Some((&"x".repeat(4095 - rest), "W")), &[]).expect("fits").len(), 4095);
        assert!(page(1, 0, Some((&"x".repeat(4096 - rest), "W")), &[]).is_err());
    }

    #[test]
    fn what_fails_for_another_reason_is_no_answer() {
        let refused = |errno| takes(Err(Error::from_errno("fsconfig", errno)));
        assert_eq!(takes(Ok(())).ok(), Some(true));
        assert_eq!(refused(libc::EINVAL).ok(), Some(false));
        assert_eq!(refused(libc::EBADF).ok(), Some(false));
        for errno in [libc::EMFILE, libc::ENOMEM, libc::EPERM, libc::EINTR] {
            assert_eq!(refused(errno).expect_err("no answer").raw_os_error(), Some(errno));
        }
    }

    #[test]
    fn the_best_way_for_each_kernel() {
        use Understands::{Appending, DataOnly, Descriptors, OnePage};
        for (kernel, lowers, data, way) in [
            (Descriptors, 1, 0, Mechanism::Descriptors),
            (Descriptors, 500, 0, Mechanism::Descriptors),
            (Appending, 499, 1, Mechanism::Appending),
            (DataOnly, 1, 1, Mechanism::OneString),
            (OnePage, 8, 0, Mechanism::OneString),
            (OnePage, 97, 0, Mechanism::OneString),
            (OnePage, 98, 0, Mechanism::OnePage),
            (DataOnly, 400, 100, Mechanism::OnePage),
        ] {
            assert_eq!(choose(kernel, lowers, data).expect("possible"), way, "{kernel:?} {lowers} {data}");
        }
        let error = choose(OnePage, 1, 1).expect_err("not before 6.5");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("6.5"), "{error}");
    }

    proptest! {
        #[test]
        fn one_string_is_taken_whole(lowers in 1_usize..500, data in 0_usize..100) {
            let way = choose(Understands::DataOnly, lowers, data).expect("possible");
            let value = lowerdir(lowers, data);
            prop_assert_eq!(way == Mechanism::OneString, value.len() <= 255);
            let names: Vec<&str> = value.split("::").flat_map(|part| part.split(':')).collect();
            prop_assert_eq!(names, (0..lowers + data).map(name).collect::<Vec<_>>());
        }
    }
}
