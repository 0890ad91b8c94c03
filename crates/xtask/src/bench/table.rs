//! Medians and ratios as Markdown.
#![forbid(unsafe_code)]

use std::fmt::Write;
use std::time::Duration;

/// The times of one contender.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub times: Vec<Duration>,
}

impl Row {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), times: Vec::new() }
    }

    /// The time in the middle, in milliseconds; zero when there is none.
    pub fn median(&self) -> f64 {
        quantile(&self.times, 0.5)
    }
}

/// The time below which this part of them lies, in milliseconds.
pub fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// One line a row, with how many times the time of each row named in `references` it takes.
pub fn markdown(rows: &[Row], references: &[&str]) -> String {
    let references: Vec<&Row> =
        references.iter().filter_map(|name| rows.iter().find(|row| row.name == *name)).collect();
    let mut text = "| program | median, ms | 10 % | 90 % |".to_owned();
    for reference in &references {
        let _ = write!(text, " times {} |", reference.name);
    }
    text += "\n|---|---:|---:|---:|";
    text += &"---:|".repeat(references.len());
    text += "\n";
    for row in rows {
        let (low, high) = (quantile(&row.times, 0.1), quantile(&row.times, 0.9));
        let _ = write!(text, "| {} | {:.2} | {low:.2} | {high:.2} |", row.name, row.median());
        for reference in &references {
            let _ = write!(text, " {:.2} |", row.median() / reference.median());
        }
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, times: &[u64]) -> Row {
        Row { name: name.into(), times: times.iter().map(|ms| Duration::from_millis(*ms)).collect() }
    }

    #[test]
    fn the_middle_of_unsorted_times() {
        assert_eq!(row("x", &[9, 1, 2]).median(), 2.0);
        assert_eq!(row("x", &[]).median(), 0.0);
    }

    #[test]
    fn ratios() {
        let text = markdown(&[row("floor", &[2]), row("other", &[5])], &["floor", "absent"]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "| program | median, ms | 10 % | 90 % | times floor |");
        assert_eq!(lines[3], "| other | 5.00 | 5.00 | 5.00 | 2.50 |");
    }
}
