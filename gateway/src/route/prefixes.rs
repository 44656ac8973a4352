//! Values by prefixes: finds every prefix of a text, the longest first, in one binary search whatever their number.
//! Knows nothing of segments or services; the tables of routes use it for both.

/// Prefixes, sorted; each knows the longest other one that it begins with.
#[derive(Debug)]
pub(super) struct Prefixes<T> {
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    text: Box<[u8]>,
    outer: Option<u32>,
    value: T,
}

impl<T> Prefixes<T> {
    /// The values of these prefixes, of which no two are equal.
    pub(super) fn new(values: impl IntoIterator<Item = (Box<[u8]>, T)>) -> Prefixes<T> {
        let mut sorted: Vec<_> = values.into_iter().collect();
        sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert!(sorted.windows(2).all(|two| two[0].0 != two[1].0), "no prefix stands twice");
        let mut entries: Vec<Entry<T>> = Vec::with_capacity(sorted.len());
        // Those that the one at hand may still begin with, each beginning with the one below it.
        let mut open: Vec<u32> = Vec::new();
        for (text, value) in sorted {
            while open.last().is_some_and(|&at| !text.starts_with(&entries[at as usize].text)) {
                open.pop();
            }
            let outer = open.last().copied();
            open.push(u32::try_from(entries.len()).expect("the configuration bounds the number of routes"));
            entries.push(Entry { text, outer, value });
        }
        Prefixes { entries }
    }

    /// The prefixes of `text` with their values, the longest first.
    pub(super) fn of<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a T)> {
        // Whatever sorts between a prefix of the text and the text begins with that prefix too, so all prefixes of it
        // are in the chain of the last entry that is not above it.
        let last = self.entries.partition_point(|entry| &entry.text[..] <= text).checked_sub(1);
        let chain = std::iter::successors(last.map(|at| &self.entries[at]), |entry| {
            entry.outer.map(|at| &self.entries[at as usize])
        });
        chain.filter(|entry| text.starts_with(&entry.text)).map(|entry| (&entry.text[..], &entry.value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_prefix_comes_first() {
        let texts = ["", "a", "ab", "abc", "abd", "b"];
        let prefixes = Prefixes::new(texts.map(|text| (Box::from(text.as_bytes()), text)));
        let of = |text: &str| prefixes.of(text.as_bytes()).map(|(_, value)| *value).collect::<Vec<_>>();
        assert_eq!(of("abcx"), ["abc", "ab", "a", ""]);
        assert_eq!(of("abe"), ["ab", "a", ""]);
        assert_eq!(of("c"), [""]);
        assert_eq!(of(""), [""]);
    }

    proptest! {
        #[test]
        fn all_prefixes_are_found_in_order(
            texts in proptest::collection::btree_set("[ab/]{0,5}", 0..40),
            text in "[ab/]{0,8}",
        ) {
            let prefixes = Prefixes::new(texts.iter().map(|text| (Box::from(text.as_bytes()), text.clone())));
            let found: Vec<_> = prefixes.of(text.as_bytes()).map(|(_, value)| value.clone()).collect();
            let mut right: Vec<_> = texts.into_iter().filter(|one| text.starts_with(one.as_str())).collect();
            right.sort_by_key(|one| std::cmp::Reverse(one.len()));
            prop_assert_eq!(found, right);
        }
    }
}
