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

/// A sentence a reference: how many times its time in the same round `name` took, in the middle and from 10 % to 90 %.
pub fn quotients(rows: &[Row], name: &str, references: &[&str]) -> String {
    let find = |name: &str| rows.iter().find(|row| row.name == name);
    let Some(row) = find(name) else { return String::new() };
    let mut text = String::new();
    for reference in references.iter().filter_map(|name| find(name)) {
        let mut each: Vec<f64> = row
            .times
            .iter()
            .zip(&reference.times)
            .map(|(one, other)| one.as_secs_f64() / other.as_secs_f64())
            .collect();
        each.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| each.get((each.len().saturating_sub(1) as f64 * part).round() as usize).copied();
        if let (Some(low), Some(middle), Some(high)) = (at(0.1), at(0.5), at(0.9)) {
            let _ = write!(text, "* {name} takes {middle:.3} of {} (10 %: {low:.3}, 90 %: {high:.3})", reference.name);
            if middle < 1.0 {
                let _ = write!(text, ": {:.1} times as fast", 1.0 / middle);
            }
            text += ".\n";
        }
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

    #[test]
    fn quotients_are_those_of_rounds() {
        let rows = [row("ours", &[2, 3, 8]), row("other", &[4, 3, 16])];
        assert_eq!(
            quotients(&rows, "ours", &["other", "absent"]),
            "* ours takes 0.500 of other (10 %: 0.500, 90 %: 1.000): 2.0 times as fast.\n"
        );
        assert_eq!(quotients(&rows, "absent", &["other"]), "");
        assert_eq!(quotients(&[row("ours", &[]), row("other", &[])], "ours", &["other"]), "");
    }
}
