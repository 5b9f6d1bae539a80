//! Everything the verbs print besides codes: tables, ages, JSON, YAML.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::error::PluginError;
use crate::rules::text::is_unprintable;

/// Writes to standard output.
///
/// # Errors
/// When the reader is gone.
pub fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes one line to standard output.
///
/// # Errors
/// When the reader is gone.
pub fn line(words: &str) -> io::Result<()> {
    text(&format!("{words}\n"))
}

/// Writes one line for a person to standard error.
///
/// # Errors
/// When standard error is closed.
pub fn note(words: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{words}")
}

/// Pretty JSON with a final line break, as kubectl prints it.
///
/// # Errors
/// When the value has no JSON form.
pub fn json(value: &impl Serialize) -> Result<String, PluginError> {
    let unprintable = |error: serde_json::Error| PluginError::Unprintable { format: "JSON", cause: error.to_string() };
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(unprintable)
}

/// YAML with a final line break.
///
/// # Errors
/// When the value has no YAML form.
pub fn yaml(value: &impl Serialize) -> Result<String, PluginError> {
    let text = serde_saphyr::to_string(value)
        .map_err(|error| PluginError::Unprintable { format: "YAML", cause: error.to_string() })?;
    Ok(text.trim_end().to_owned() + "\n")
}

/// Columns three spaces apart, as kubectl prints them.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(printable(cell).chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("   ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut headings.iter().map(|heading| (*heading).to_owned()));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(|cell| printable(cell))));
    }
    text
}

/// Without what acts on a terminal: a display name stored before that was refused must not move the cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { '?' } else { c }).collect()
}

/// A time span as kubectl shows ages (k8s.io/apimachinery/pkg/util/duration `HumanDuration`).
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |big: i64, unit: char, rest: i64, small: char| match rest {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{rest}{small}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => pair(days, 'd', hours % 24, 'h'),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => pair(days / 365, 'y', days % 365, 'd'),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{age, json, table, yaml};

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let rows = vec![
            vec!["shop".to_owned(), "Müller".to_owned(), String::new()],
            vec!["b".into(), "x\x1b[2J".into(), "1d".into()],
        ];
        assert_eq!(table(&["NAME", "WHO", "AGE"], &rows), "NAME   WHO      AGE\nshop   Müller\nb      x?[2J    1d\n");
    }

    #[test]
    fn ages_read_as_in_kubectl() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (seconds, expected) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (315_360_000, "10y"),
        ] {
            assert_eq!(age(now - SignedDuration::from_secs(seconds), now), expected, "{seconds}");
        }
    }

    #[test]
    fn yaml_and_json_hold_the_same_and_end_with_one_line_break() {
        let value =
            serde_json::json!({"items": [{"name": "true", "phone": "+15550001", "note": "a: b\n# c"}], "empty": []});
        let (yaml, json) = (yaml(&value).unwrap(), json(&value).unwrap());
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), value);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        for text in [yaml, json] {
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{text:?}");
        }
    }
}
