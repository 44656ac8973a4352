//! Keeps `docs/attacks.md` true: every test that it names is one, in the file that it names.

use bowline_tests::gateway::root;

/// What stands between backticks, in order.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests that a row names, each with its file: a file holds for the names behind it.
fn named(row: &str) -> Vec<(&str, &str)> {
    let mut file = None;
    let mut named = Vec::new();
    for word in quoted(row) {
        let is_test =
            word.len() > 20 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
        match file {
            _ if word.ends_with(".rs") => file = Some(word),
            Some(file) if is_test => named.push((file, word)),
            _ => {}
        }
    }
    named
}

/// Whether the text of a file has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let declared = format!("fn {name}(");
    text.match_indices(&declared).any(|(at, _)| {
        let before = &text[..at];
        before[before.rfind("\n\n").unwrap_or(0)..].contains("#[test]")
    })
}

#[test]
fn every_test_that_stands_in_the_table_exists() {
    let document = std::fs::read_to_string(root().join("docs/attacks.md")).expect("it is there");
    let rows: Vec<_> =
        document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row")).collect();
    assert!(rows.len() >= 13, "{} rows", rows.len());
    for row in rows {
        let tests = named(row);
        assert!(!tests.is_empty(), "no test in {row}");
        for (file, name) in tests {
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(has_test(&text, name), "{file} has no test {name}");
        }
    }
}

#[test]
fn a_name_that_is_no_test_is_noticed() {
    let text = "#[test]\nfn a_name_that_is_long_enough() {\n";
    assert!(has_test(text, "a_name_that_is_long_enough"));
    assert!(!has_test(text, "another_name_that_is_long_enough"));
    assert!(!has_test("\n\nfn a_name_that_is_long_enough() {}\n", "a_name_that_is_long_enough"));
    let row = "| 1 | x | `a/b.rs`: `a_name_that_is_long_enough`, `TCP_USER_TIMEOUT`, `short` |";
    assert_eq!(named(row), [("a/b.rs", "a_name_that_is_long_enough")]);
}
