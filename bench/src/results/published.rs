//! Owns figures that were not measured in the run that a page is about, but belong beside it: MOSN's, as data in the project.
//! Refuses to mix them into tables of a run: they stand in a section of their own that says where they come from.

use std::fmt::Write;

use serde::Deserialize;

use crate::trouble::Trouble;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    about: String,
    table: Vec<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    about: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The section about MOSN.
pub fn mosn() -> Result<String, Trouble> {
    let published: Published =
        toml::from_str(MOSN).map_err(|error| Trouble::Broken(format!("MOSN's figures: {error}")))?;
    let mut text = format!("## MOSN, measured elsewhere\n\n{}\n\n", published.about.trim());
    for table in &published.table {
        let _ = write!(text, "{}:\n\n", table.about);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text += &line(&table.columns);
        text += &format!("|{}\n", "---|".repeat(table.columns.len()));
        text.extend(table.rows.iter().map(|row| line(row)));
        text.push('\n');
    }
    Ok(text)
}

const MOSN: &str = include_str!("../../peers/mosn-published.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mosns_figures_are_whole_tables_and_marked_as_taken_elsewhere() {
        let published: Published = toml::from_str(MOSN).expect("it is valid");
        for table in &published.table {
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{table:?}");
        }
        let text = mosn().expect("it is valid");
        assert!(text.contains("taken in another run") && text.contains("| 30.8 [27 to 39] |"), "{text}");
    }
}
