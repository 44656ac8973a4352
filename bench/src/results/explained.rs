//! Owns where a target that was missed is explained: the sections of `docs/performance.md` that name it in a line
//! `Targets: C1, C3.` Refuses to point anywhere else: what no section names is said to be unexplained. Called by the page.

/// In words, with links from the folder in which the page is kept.
pub fn why(id: &str) -> String {
    why_in(PERFORMANCE, id)
}

fn why_in(text: &str, id: &str) -> String {
    let links: Vec<_> = sections(text, id).into_iter().map(link).collect();
    if links.is_empty() {
        return "`docs/performance.md` does not explain it yet".into();
    }
    format!("see {}", links.join(", "))
}

/// The heads of the sections that name a target.
fn sections<'a>(text: &'a str, id: &str) -> Vec<&'a str> {
    let (mut head, mut found) = ("", Vec::new());
    for line in text.lines() {
        if let Some(next) = line.strip_prefix("## ") {
            head = next;
        }
        let named = line
            .strip_prefix(MARK)
            .is_some_and(|ids| ids.trim_end_matches('.').split(", ").any(|one| one == id));
        if named && !head.is_empty() {
            found.push(head);
        }
    }
    found
}

fn link(head: &str) -> String {
    let kept = head.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
    format!("[{head}](../docs/performance.md#{anchor})")
}

const PERFORMANCE: &str = include_str!("../../../docs/performance.md");
const MARK: &str = "Targets: ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_explained_where_its_name_stands() {
        let text = "# A\n\nTargets: C9.\n\n## One, and two\n\nTargets: C1, C3b.\n\nThe C3 of old.\n\n## B\n\nTargets: C1.\n";
        assert_eq!(sections(text, "C1"), ["One, and two", "B"]);
        assert_eq!(why_in(text, "C3b"), "see [One, and two](../docs/performance.md#one-and-two)");
        for id in ["C3", "C9", "C"] {
            assert_eq!(why_in(text, id), "`docs/performance.md` does not explain it yet", "{id}");
        }
    }

    #[test]
    fn the_document_names_the_targets_that_it_explains() {
        for id in ["C1", "C3", "M1", "M5", "S1"] {
            assert!(!sections(PERFORMANCE, id).is_empty(), "{id}");
        }
    }
}
