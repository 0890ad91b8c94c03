//! What a store notes of a layer when all of it is there.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use crate::layers::Digest;

/// The content of the file `whole`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) diff_id: Digest,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) hides_all_below: bool,
}

const FIRST_LINE: &str = "cellkit layer 1";

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { diff_id, entries, bytes, hides_all_below } = self;
        let hides = if *hides_all_below { "yes" } else { "no" };
        write!(f, "{FIRST_LINE}\ndiff_id {diff_id}\nentries {entries}\nbytes {bytes}\nhides_all_below {hides}\nend\n")
    }
}

impl FromStr for Marker {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut lines = text.split('\n');
        let mut line = |key: &str| lines.next()?.strip_prefix(key);
        let mut read = || {
            line(FIRST_LINE)?;
            let diff_id = line("diff_id ")?.parse().ok()?;
            let (entries, bytes) = (line("entries ")?.parse().ok()?, line("bytes ")?.parse().ok()?);
            let hides_all_below = match line("hides_all_below ")? {
                "yes" => true,
                "no" => false,
                _ => return None,
            };
            line("end")?;
            Some(Self { diff_id, entries, bytes, hides_all_below })
        };
        let marker = read().ok_or(())?;
        // Torn or longer is another text.
        if marker.to_string() == text { Ok(marker) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_nothing() {
        for hides_all_below in [false, true] {
            let marker = Marker { diff_id: Digest::sha256_of(b"x"), entries: 7, bytes: u64::MAX, hides_all_below };
            let text = marker.to_string();
            assert_eq!(text.parse(), Ok(marker));
            for length in 0..text.len() {
                assert!(text.get(..length).expect("text").parse::<Marker>().is_err(), "{length}");
            }
            assert!(format!("{text}\n").parse::<Marker>().is_err());
            assert!(text.replace("entries 7", "entries 07").parse::<Marker>().is_err());
            assert!(text.replace("layer 1", "layer 2").parse::<Marker>().is_err());
        }
    }
}
