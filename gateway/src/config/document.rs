//! A configuration file as a tree of nodes that know their line and column. It reads YAML 1.2, of which JSON is a part,
//! and gives no meaning to what it reads: every scalar stays text, so `off`, `1e3` and `0x10` are not guessed at. Refuses
//! aliases, tags, repeated keys, more than one document, and more nodes or depth than any configuration has. Called by
//! the reader of keys.

use std::collections::HashMap;

use saphyr_parser::Event;
use saphyr_parser::Marker;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;
use saphyr_parser::Span;
use saphyr_parser::StrInput;

use crate::config::fault::Faults;
use crate::config::fault::Place;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) content: Content,
}

/// What stands at a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// Keys in the order of the file, each with its own mark.
    Map(Vec<(String, Mark, Node)>),
}

impl Content {
    /// What to call it in a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Content::Null => "nothing",
            Content::Scalar(_) => "a value",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }
}

/// Line and column, both from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Mark {
    fn of(marker: &Marker) -> Mark {
        Mark { line: marker.line(), column: marker.col() + 1 }
    }

    /// This mark in a file.
    pub(crate) fn place(self, path: &str) -> Place {
        Place::File { path: path.to_owned(), line: self.line, column: self.column }
    }
}

/// Reads the only document of `text`; an empty file is [`Content::Null`]. What has no place in it is told in the order of the
/// file and left out, so that all else is still looked at. Behind what is no YAML nothing can be read: then there is no tree.
pub(crate) fn parse(path: &str, text: &str, faults: &mut Faults) -> Option<Node> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file is longer than {FILE_BYTES_MAX} bytes");
        faults.add(Place::WholeFile(path.to_owned()), message);
        return None;
    }
    let mut reader = Reader { events: Parser::new_from_str(text), nodes: 0, left_out: Vec::new() };
    let read = reader.document();
    let (root, last) = match read {
        Ok(root) => (Some(root), None),
        Err(refusal) => (None, Some(refusal)),
    };
    // A value is read before its key is judged.
    reader.left_out.sort_by_key(|(mark, _)| (mark.line, mark.column));
    for (mark, message) in reader.left_out.into_iter().chain(last) {
        faults.add(mark.place(path), message);
    }
    root
}

/// Larger than any configuration written by people.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Of the tree; a file of four MiB of `[` would otherwise overflow the stack.
const DEPTH_MAX: usize = 16;
/// Of the tree.
const NODES_MAX: usize = 200_000;

type Refusal = (Mark, String);

struct Reader<'input> {
    events: Parser<'input, StrInput<'input>>,
    nodes: usize,
    /// What was said and has no place here.
    left_out: Vec<Refusal>,
}

impl<'input> Reader<'input> {
    fn document(&mut self) -> Result<Node, Refusal> {
        let mut root = Node { mark: Mark { line: 1, column: 1 }, content: Content::Null };
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if documents == 1 => {
                    return Err((
                        Mark::of(&span.start),
                        "a second document begins here; only one is read".to_owned(),
                    ));
                }
                Event::DocumentStart(_) => {
                    documents = 1;
                    let (event, span) = self.next()?;
                    if let Some(node) = self.node(event, span, 0)? {
                        root = node;
                    }
                }
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'input>, Span), Refusal> {
        match self.events.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => Err((Mark::of(error.marker()), format!("not YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, Span::empty(Marker::new(0, 1, 0)))),
        }
    }

    /// The node that begins with `event`; nothing for an alias, which has been told.
    fn node(&mut self, event: Event<'input>, span: Span, depth: usize) -> Result<Option<Node>, Refusal> {
        let mark = Mark::of(&span.start);
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return Err((mark, format!("more than {DEPTH_MAX} levels or {NODES_MAX} values")));
        }
        if is_tagged(&event) {
            self.left_out.push((mark, "tags have no meaning here".to_owned()));
        }
        let content = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(_) => {
                self.left_out.push((mark, "aliases are not read; write the value again".to_owned()));
                return Ok(None);
            }
            _ => return Err((mark, "a value is missing here".to_owned())),
        };
        Ok(Some(Node { mark, content }))
    }

    fn list(&mut self, depth: usize) -> Result<Content, Refusal> {
        let mut nodes = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Content::List(nodes));
            }
            nodes.extend(self.node(event, span, depth + 1)?);
        }
    }

    /// Of a key that stands twice both values are kept: the reader of keys looks at either, and the file is refused.
    fn map(&mut self, depth: usize) -> Result<Content, Refusal> {
        let mut pairs: Vec<(String, Mark, Node)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Content::Map(pairs));
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let Some((key, mark)) = key.and_then(|key| self.word(key)) else { continue };
            match seen.get(&key) {
                Some(line) => {
                    let message = format!("key {key:?} stands here again; it was said on line {line}");
                    self.left_out.push((mark, message));
                }
                None => drop(seen.insert(key.clone(), mark.line)),
            }
            pairs.extend(value.map(|value| (key, mark, value)));
        }
    }

    /// What a node says that stands as a key.
    fn word(&mut self, key: Node) -> Option<(String, Mark)> {
        match key.content {
            Content::Scalar(word) => Some((word, key.mark)),
            other => {
                self.left_out.push((key.mark, format!("a key must be a word, not {}", other.kind())));
                None
            }
        }
    }
}

fn is_tagged(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_))
    )
}

fn scalar(text: &str, style: ScalarStyle) -> Content {
    let plain = style == ScalarStyle::Plain;
    if plain && matches!(text, "" | "~" | "null") { Content::Null } else { Content::Scalar(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, Faults> {
        let mut faults = Faults::default();
        let root = parse("f.yaml", text, &mut faults);
        faults.or(root).map(|root| root.expect("a tree, or what is wrong"))
    }

    fn refused(text: &str) -> String {
        read(text).expect_err("it is refused").to_string()
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let root = read("a: 1\nb:\n  - c: [x, 'y']\n").unwrap();
        let Content::Map(pairs) = root.content else { panic!("a map") };
        assert_eq!((pairs[0].0.as_str(), pairs[0].1), ("a", Mark { line: 1, column: 1 }));
        let Content::List(items) = &pairs[1].2.content else { panic!("a list") };
        let Content::Map(inner) = &items[0].content else { panic!("a map") };
        assert_eq!(inner[0].1, Mark { line: 3, column: 5 });
        let Content::List(leaves) = &inner[0].2.content else { panic!("a list") };
        assert_eq!(leaves[1].mark, Mark { line: 3, column: 12 });
        assert_eq!(leaves[1].content, Content::Scalar("y".to_owned()));
    }

    #[test]
    fn json_is_read_and_an_empty_file_is_nothing() {
        let root = read("{\"a\": {\"b\": [1, true, null, \"null\"]}}").unwrap();
        let Content::Map(pairs) = root.content else { panic!("a map") };
        let Content::Map(inner) = &pairs[0].2.content else { panic!("a map") };
        let Content::List(items) = &inner[0].2.content else { panic!("a list") };
        let contents: Vec<_> = items.iter().map(|node| node.content.clone()).collect();
        let text = |word: &str| Content::Scalar(word.to_owned());
        assert_eq!(contents, [text("1"), text("true"), Content::Null, text("null")]);
        for empty in ["", "# only a comment\n", "---\n"] {
            assert_eq!(read(empty).unwrap().content, Content::Null, "{empty:?}");
        }
    }

    #[test]
    fn what_has_no_place_in_a_configuration_is_refused_with_its_place() {
        assert_eq!(
            refused("a: 1\nb: 2\na: 3\n"),
            "f.yaml:3:1: key \"a\" stands here again; it was said on line 1"
        );
        assert_eq!(refused("a: &x 1\nb: *x\n"), "f.yaml:2:4: aliases are not read; write the value again");
        assert_eq!(refused("a: !!str 1\n"), "f.yaml:1:4: tags have no meaning here");
        assert_eq!(
            refused("a: 1\n---\nb: 1\n"),
            "f.yaml:2:1: a second document begins here; only one is read"
        );
        assert_eq!(refused("[a]: 1\n"), "f.yaml:1:1: a key must be a word, not a list");
        assert!(refused("a: [1\nb: 2\n").starts_with("f.yaml:2:"), "{}", refused("a: [1\nb: 2\n"));
    }

    #[test]
    fn all_that_has_no_place_is_told_in_the_order_of_the_file() {
        let text = "a: &x {b: 1, b: 2}\n? [c]\n: !!str 1\nd: [*x, !!int 3]\na: 3\n";
        let told = refused(text);
        let places: Vec<&str> = told.lines().map(|line| &line[..12]).collect();
        assert_eq!(
            places,
            ["f.yaml:1:14:", "f.yaml:2:3: ", "f.yaml:3:3: ", "f.yaml:4:5: ", "f.yaml:4:9: ", "f.yaml:5:1: "],
            "{told}"
        );
        assert!(refused("a: 1\na: 2\nb: [\n").starts_with("f.yaml:2:1: key \"a\" stands here again"));
        assert_eq!(refused("a: 1\na: 2\nb: [\n").lines().count(), 2, "and where it stops being YAML");
    }

    #[test]
    fn depth_nodes_and_length_are_bounded() {
        assert!(refused(&"[".repeat(100)).contains("more than 16 levels"));
        assert!(refused(&format!("[{}]", "a,".repeat(NODES_MAX))).contains("more than"));
        assert!(refused(&" ".repeat(FILE_BYTES_MAX + 1)).contains("longer than"));
    }
}
