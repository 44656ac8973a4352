//! Keeps `docs/attacks.md` true: every test that it names is one, in the file that it names, and every class has one.

use bowline_tests::gateway::root;

/// What stands between backticks, in order.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The tests that a row or a paragraph names, each with its file: a file holds for the names behind it.
fn named(text: &str) -> Vec<(&str, &str)> {
    let mut file = None;
    let mut named = Vec::new();
    for word in quoted(text) {
        let is_name = word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
        let is_test = is_name && (word.len() > 20 || word.starts_with("row_"));
        match file {
            _ if word.ends_with(".rs") => file = Some(word),
            Some(file) if is_test => named.push((file, word)),
            _ => assert!(!is_test, "{word} stands without a file"),
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

/// The rows of classes, with their numbers: those of the tables that stand directly under a section.
fn classes(document: &str) -> Vec<(u32, &str)> {
    let sections =
        document.split("\n## ").skip(1).map(|section| section.split("\n### ").next().unwrap_or(""));
    let lines =
        sections.flat_map(str::lines).filter(|line| line.starts_with("| ") && !line.starts_with("| row"));
    let number = |line: &str| line.split(' ').nth(1).and_then(|number| number.parse().ok());
    lines.map(|line| (number(line).unwrap_or_else(|| panic!("no number in {line}")), line)).collect()
}

fn document() -> String {
    std::fs::read_to_string(root().join("docs/attacks.md")).expect("it is there")
}

#[test]
fn every_test_that_stands_in_the_document_exists() {
    let document = document();
    // A paragraph goes over lines, and each row of a table has files of its own.
    let paragraphs = document.split("\n\n").filter(|text| !text.starts_with('|'));
    let rows = document.lines().filter(|line| line.starts_with('|'));
    for text in paragraphs.chain(rows) {
        assert!(!quoted(text).any(|word| word.contains("...")), "a name is cut short in {text}");
        for (file, name) in named(text) {
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(has_test(&text, name), "{file} has no test {name}");
        }
    }
}

#[test]
fn every_class_of_the_sections_has_a_row_and_a_test() {
    let document = document();
    let classes = classes(&document);
    let numbers: Vec<_> = classes.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=37).chain(77..=92).collect::<Vec<_>>());
    for (number, row) in classes {
        assert_eq!(named(row).is_empty(), CANNOT_OCCUR.contains(&number), "{row}");
    }
}

/// Classes that there is nothing to test of here; their rows say why.
const CANNOT_OCCUR: &[u32] = &[36];

#[test]
fn a_name_that_is_no_test_is_noticed() {
    let text = "#[test]\nfn a_name_that_is_long_enough() {\n";
    assert!(has_test(text, "a_name_that_is_long_enough"));
    assert!(!has_test(text, "another_name_that_is_long_enough"));
    assert!(!has_test("\n\nfn a_name_that_is_long_enough() {}\n", "a_name_that_is_long_enough"));
    let row = "| 1 | x | `a/b.rs`: `a_name_that_is_long_enough`, `TCP_USER_TIMEOUT`, `row_7_x`, `short` |";
    assert_eq!(named(row), [("a/b.rs", "a_name_that_is_long_enough"), ("a/b.rs", "row_7_x")]);
    let document = "# x\n\n| 9 | no section |\n\n## 1\n\n| row | class |\n| 1 | a |\n\n### more\n\n| 2 | b |\n\n## 2\n\n| 3 | c |\n";
    assert_eq!(classes(document), [(1, "| 1 | a |"), (3, "| 3 | c |")]);
}
