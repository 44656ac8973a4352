//! What was said, by flags, by the environment and by a file, each value with the place where it was said. Single
//! values are in the range of their key; whether they fit together is the loader's question. Flags stand over the
//! environment, the environment over the file.

use std::collections::BTreeMap;

use crate::config::document::Content;
use crate::config::document::Mark;
use crate::config::document::Node;
use crate::config::document::parse;
use crate::config::fault::Faults;
use crate::config::fault::Place;
use crate::config::fault::nearest;
use crate::config::keys::KEYS;
use crate::config::keys::Key;
use crate::config::keys::Kind;
use crate::config::keys::Value;
use crate::config::keys::key;
use crate::config::keys::key_of_flag;
use crate::config::keys::last;
use crate::config::keys::variable_of;

/// Values by the path of their key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer(BTreeMap<&'static str, (Value, Place)>);

impl Layer {
    /// The number said for a key and where.
    pub fn number(&self, path: &'static str) -> Option<(u64, &Place)> {
        match self.said(path)? {
            (Value::Number(number), place) => Some((*number, place)),
            (other, _) => unreachable!("{path} is no number but {other:?}"),
        }
    }

    /// The switch said for a key and where.
    pub fn switch(&self, path: &'static str) -> Option<(bool, &Place)> {
        match self.said(path)? {
            (Value::Switch(on), place) => Some((*on, place)),
            (other, _) => unreachable!("{path} is no switch but {other:?}"),
        }
    }

    /// The text said for a key and where.
    pub fn text(&self, path: &'static str) -> Option<(&str, &Place)> {
        match self.said(path)? {
            (Value::Text(text), place) => Some((text, place)),
            (other, _) => unreachable!("{path} is no text but {other:?}"),
        }
    }

    /// The list of texts said for a key; empty if nothing was said.
    pub fn texts(&self, path: &'static str) -> &[Item] {
        match self.said(path) {
            None => &[],
            Some((Value::Texts(items), _)) => items,
            Some((other, _)) => unreachable!("{path} is no list of texts but {other:?}"),
        }
    }

    /// Every key that was said.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Where a key was said.
    pub fn place(&self, path: &'static str) -> Option<&Place> {
        self.said(path).map(|(_, place)| place)
    }

    /// Takes from `upper` all that it says.
    pub fn overlay(&mut self, upper: &Layer) {
        self.0.extend(upper.0.iter().map(|(path, said)| (*path, said.clone())));
    }

    /// Only what stands under `prefix`.
    pub fn below(&self, prefix: &str) -> Layer {
        let under = self.0.iter().filter(|(path, _)| path.starts_with(prefix));
        Layer(under.map(|(path, said)| (*path, said.clone())).collect())
    }

    fn said(&self, path: &'static str) -> Option<&(Value, Place)> {
        debug_assert!(KEYS.iter().any(|key| key.path == path), "no key {path}");
        self.0.get(path)
    }

    fn read(&mut self, path: &'static str, text: &str, place: Place, faults: &mut Faults) {
        match key(path).read(text) {
            Ok(value) => drop(self.0.insert(path, (value, place))),
            Err(message) => faults.add(place, message),
        }
    }
}

/// A value of a list and where it was said.
pub type Item = (String, Place);

/// What flags or variables said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// Single values.
    pub layer: Layer,
    /// `--listen`.
    pub listen: Vec<Item>,
    /// `--upstream`.
    pub upstream: Vec<Item>,
    /// `--config`.
    pub config: Option<Item>,
}

impl Flags {
    /// From pairs of a flag and its value, in the order of the command line.
    pub fn of_flags(said: &[(&'static str, String)], faults: &mut Faults) -> Flags {
        let mut flags = Flags::default();
        for (flag, text) in said {
            flags.add(flag, text, Place::Flag(flag), faults);
        }
        flags
    }

    /// From the variables `BOWLINE_...`; lists are separated by commas. Variables that are no flag are not ours: an
    /// orchestrator sets some of its own with the same prefix.
    pub fn of_environment(environment: &BTreeMap<String, String>, faults: &mut Faults) -> Flags {
        let mut flags = Flags::default();
        for flag in KEYS.iter().filter_map(|key| key.flag).chain([CONFIG_FLAG]) {
            let variable = variable_of(flag);
            let Some(text) = environment.get(&variable).filter(|text| !text.is_empty()) else { continue };
            let list = [LISTEN_FLAG, UPSTREAM_FLAG].contains(&flag);
            let parts: Vec<&str> = if list { text.split(',').collect() } else { vec![text] };
            for part in parts {
                flags.add(flag, part, Place::Variable(variable.clone()), faults);
            }
        }
        flags
    }

    /// These, and what `lower` says beside them.
    pub fn over(mut self, lower: Flags) -> Flags {
        let mut layer = lower.layer;
        layer.overlay(&self.layer);
        self.layer = layer;
        let or = |upper: Vec<Item>, lower| if upper.is_empty() { lower } else { upper };
        self.listen = or(self.listen, lower.listen);
        self.upstream = or(self.upstream, lower.upstream);
        self.config = self.config.or(lower.config);
        self
    }

    fn add(&mut self, flag: &'static str, text: &str, place: Place, faults: &mut Faults) {
        match flag {
            LISTEN_FLAG => self.listen.push((text.to_owned(), place)),
            UPSTREAM_FLAG => self.upstream.push((text.to_owned(), place)),
            CONFIG_FLAG => self.config = Some((text.to_owned(), place)),
            _ => self.layer.read(key_of_flag(flag).path, text, place, faults),
        }
    }
}

/// The flag of listeners, which may stand several times.
pub const LISTEN_FLAG: &str = "--listen";
/// The flag of endpoints, which may stand several times.
pub const UPSTREAM_FLAG: &str = "--upstream";
/// The flag of the file.
pub const CONFIG_FLAG: &str = "--config";

/// What a file said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Single values outside of lists.
    pub layer: Layer,
    /// The listeners.
    pub listeners: Vec<Entry>,
    /// The routes.
    pub routes: Vec<Entry>,
    /// The routes of TLS.
    pub tls_routes: Vec<Entry>,
    /// The clusters.
    pub clusters: Vec<Entry>,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it begins.
    pub place: Place,
    /// Its name in messages: `routes[1]`.
    pub name: String,
    /// Its single values.
    pub layer: Layer,
    /// Its list of endpoints, if it has one.
    pub urls: Vec<Item>,
    /// Where that list begins.
    pub urls_place: Option<Place>,
}

impl Entry {
    /// Where a key of it was said, or where it begins.
    pub fn place_of(&self, path: &'static str) -> Place {
        self.layer.place(path).unwrap_or(&self.place).clone()
    }
}

impl File {
    /// Reads the text of a file; `path` is only for messages.
    pub fn of_text(path: &str, text: &str, faults: &mut Faults) -> File {
        let mut file = File::default();
        if let Some(root) = parse(path, text, faults) {
            FileReader { path, faults }.root(&root, &mut file);
        }
        file
    }
}

/// A list of endpoints and where it begins.
struct Urls {
    items: Vec<Item>,
    place: Place,
}

struct FileReader<'a> {
    path: &'a str,
    faults: &'a mut Faults,
}

impl FileReader<'_> {
    fn root(&mut self, root: &Node, file: &mut File) {
        for (word, mark, node) in self.pairs(root, "the file") {
            match word.as_str() {
                "listeners" => file.listeners = self.entries("listeners", node),
                "routes" => file.routes = self.entries("routes", node),
                "tls_routes" => file.tls_routes = self.entries("tls_routes", node),
                "clusters" => file.clusters = self.entries("clusters", node),
                section if children(section).next().is_some() => {
                    drop(self.section(section, section, node, &mut file.layer));
                }
                _ => self.unknown(word, *mark, "", sections()),
            }
        }
    }

    /// The values of a map whose keys stand in the table under `prefix`; the list of endpoints is handed back, with its
    /// place.
    fn section(&mut self, prefix: &str, name: &str, node: &Node, layer: &mut Layer) -> Option<Urls> {
        let mut urls = None;
        for (word, mark, value) in self.pairs(node, name) {
            let Some(row) = children(prefix).find(|row| last(row.path) == word) else {
                let within = if name.is_empty() { String::new() } else { format!(" in {name}") };
                self.unknown(word, *mark, &within, children(prefix).map(|row| last(row.path)));
                continue;
            };
            match &value.content {
                Content::Scalar(text) => {
                    self.scalar(row.path, &format!("{name}.{word}"), text, value.mark, layer)
                }
                Content::List(items) if row.kind.is_list() => {
                    let items = self.items(items, &format!("{name}.{word}"), row.kind);
                    let place = value.mark.place(self.path);
                    match row.kind {
                        Kind::Urls => urls = Some(Urls { items, place }),
                        _ => drop(layer.0.insert(row.path, (Value::Texts(items), place))),
                    }
                }
                Content::Null => self.fault(value.mark, format!("{name}.{word}: the value is missing")),
                other => {
                    let message =
                        format!("{name}.{word}: is {}, and should be {}", other.kind(), row.kind.describe());
                    self.fault(value.mark, message);
                }
            }
        }
        urls
    }

    fn scalar(&mut self, path: &'static str, name: &str, text: &str, mark: Mark, layer: &mut Layer) {
        match key(path).read(text) {
            Ok(_) if key(path).kind.is_list() => self.fault(mark, format!("{name}: should be a list")),
            Ok(value) => drop(layer.0.insert(path, (value, mark.place(self.path)))),
            Err(message) => self.fault(mark, format!("{name}: {message}")),
        }
    }

    fn entries(&mut self, list: &'static str, node: &Node) -> Vec<Entry> {
        let Content::List(items) = &node.content else {
            self.fault(node.mark, format!("{list}: is {}, and should be a list", node.content.kind()));
            return Vec::new();
        };
        if items.len() > ENTRIES_MAX {
            self.fault(node.mark, format!("{list}: more than {ENTRIES_MAX} entries"));
            return Vec::new();
        }
        items.iter().enumerate().map(|(at, item)| self.entry(list, at, item)).collect()
    }

    fn entry(&mut self, list: &str, at: usize, node: &Node) -> Entry {
        let mut layer = Layer::default();
        let name = format!("{list}[{at}]");
        let urls = self.section(&format!("{list}[]"), &name, node, &mut layer);
        let (urls, urls_place) = urls.map_or((Vec::new(), None), |urls| (urls.items, Some(urls.place)));
        Entry { place: node.mark.place(self.path), name, layer, urls, urls_place }
    }

    fn items(&mut self, items: &[Node], name: &str, kind: Kind) -> Vec<Item> {
        if items.len() > ENTRIES_MAX {
            self.fault(items[ENTRIES_MAX].mark, format!("{name}: more than {ENTRIES_MAX} entries"));
            return Vec::new();
        }
        let wanted = if kind == Kind::Urls { "a URL" } else { "text" };
        let mut read = Vec::new();
        for (at, item) in items.iter().enumerate() {
            match &item.content {
                Content::Scalar(text) if text.trim().is_empty() && kind != Kind::Urls => {
                    self.fault(item.mark, format!("{name}[{at}]: is empty"));
                }
                Content::Scalar(text) => read.push((text.clone(), item.mark.place(self.path))),
                other => self
                    .fault(item.mark, format!("{name}[{at}]: is {}, and should be {wanted}", other.kind())),
            }
        }
        read
    }

    fn pairs<'node>(&mut self, node: &'node Node, name: &str) -> &'node [(String, Mark, Node)] {
        match &node.content {
            Content::Map(pairs) => pairs,
            Content::Null => &[],
            other => {
                self.fault(node.mark, format!("{name}: is {}, and should be a map", other.kind()));
                &[]
            }
        }
    }

    fn unknown<'k>(&mut self, word: &str, mark: Mark, within: &str, known: impl Iterator<Item = &'k str>) {
        let known: Vec<&str> = known.collect();
        let hint = match nearest(word, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("known: {}", known.join(", ")),
        };
        self.fault(mark, format!("unknown key {word:?}{within}; {hint}"));
    }

    fn fault(&mut self, mark: Mark, message: String) {
        self.faults.add(mark.place(self.path), message);
    }
}

/// Entries of one list: routes of a large site are some thousand.
const ENTRIES_MAX: usize = 10_000;

/// The rows that stand directly under a section.
fn children(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |row| row.path.rsplit_once('.').is_some_and(|(parent, _)| parent == section))
}

fn sections() -> impl Iterator<Item = &'static str> {
    let mut sections: Vec<_> = KEYS
        .iter()
        .filter_map(|row| row.path.split_once('.'))
        .map(|(first, _)| first.trim_end_matches("[]"))
        .collect();
    sections.dedup();
    sections.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> String {
        let mut faults = Faults::default();
        File::of_text("gw.yaml", text, &mut faults);
        faults.to_string()
    }

    #[test]
    fn unknown_keys_name_their_place_and_the_nearest_known_key() {
        assert_eq!(
            faults_of("listners: []\n"),
            "gw.yaml:1:1: unknown key \"listners\"; did you mean \"listeners\"?"
        );
        assert_eq!(
            faults_of("listeners:\n  - address: bolt://127.0.0.1:1\n    clustre: x\n"),
            "gw.yaml:3:5: unknown key \"clustre\" in listeners[0]; did you mean \"cluster\"?"
        );
        assert_eq!(
            faults_of("drain: {delay: 1s, zebra: 2}\n"),
            "gw.yaml:1:20: unknown key \"zebra\" in drain; known: delay, deadline"
        );
        assert_eq!(
            faults_of("xyzzy-plugh: 1\n"),
            "gw.yaml:1:1: unknown key \"xyzzy-plugh\"; known: engine, listeners, routes, tls_routes, clusters, limits, timeouts, http, admin, drain, log"
        );
    }

    #[test]
    fn values_of_a_wrong_kind_name_their_place() {
        assert_eq!(
            faults_of("timeouts:\n  idle: soon\n"),
            "gw.yaml:2:9: timeouts.idle: \"soon\" is no duration; write for example 500ms, 3s, 15m or 1h"
        );
        assert_eq!(faults_of("drain: 3s\n"), "gw.yaml:1:8: drain: is a value, and should be a map");
        assert_eq!(faults_of("routes: {}\n"), "gw.yaml:1:9: routes: is a map, and should be a list");
        assert_eq!(faults_of("drain: {delay: }\n"), "gw.yaml:1:14: drain.delay: the value is missing");
        assert_eq!(
            faults_of("drain: {delay: [1s]}\n"),
            "gw.yaml:1:16: drain.delay: is a list, and should be duration, 0ms to 1h"
        );
        assert_eq!(
            faults_of("clusters: [{endpoints: bolt://a:1}]\n"),
            "gw.yaml:1:24: clusters[0].endpoints: should be a list"
        );
        assert_eq!(
            faults_of("clusters: [{endpoints: [{a: 1}]}]\n"),
            "gw.yaml:1:25: clusters[0].endpoints[0]: is a map, and should be a URL"
        );
    }

    #[test]
    fn all_faults_are_found_in_one_run() {
        let text = "engine: {workers: 0}\nlog: {level: loud}\nnope: 1\n";
        assert_eq!(faults_of(text).lines().count(), 3);
    }

    #[test]
    fn a_key_that_stands_twice_hides_nothing_of_what_else_is_wrong() {
        let told = faults_of("drain: {delay: 1s}\ndrain: {delay: soon, zebra: 1}\nnope: 1\n");
        let places: Vec<&str> = told.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(places, ["gw.yaml:2:1:", "gw.yaml:2:16:", "gw.yaml:2:22:", "gw.yaml:3:1:"], "{told}");
    }

    #[test]
    fn json_is_a_configuration_too() {
        let mut faults = Faults::default();
        let file =
            File::of_text("c.json", "{\"engine\": {\"workers\": 4, \"pin_cores\": true}}", &mut faults);
        assert_eq!(faults.list(), []);
        assert_eq!(file.layer.number("engine.workers").map(|said| said.0), Some(4));
        assert_eq!(file.layer.switch("engine.pin_cores").map(|said| said.0), Some(true));
    }

    #[test]
    fn flags_stand_over_variables() {
        let mut faults = Faults::default();
        let variables = [
            ("BOWLINE_WORKERS", "3"),
            ("BOWLINE_REACTORS", "2"),
            ("BOWLINE_LISTEN", "bolt://127.0.0.1:1,tcp://127.0.0.1:2"),
            ("BOWLINE_IDLE_TIMEOUT", ""),
            ("BOWLINE_PORT", "tcp://10.0.0.1:80"),
        ];
        let environment = variables.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let environment = Flags::of_environment(&environment, &mut faults);
        assert_eq!(environment.listen.len(), 2);
        let flags = Flags::of_flags(&[("--workers", "5".to_owned())], &mut faults).over(environment);
        assert_eq!(faults.list(), []);
        assert_eq!(flags.layer.number("engine.workers"), Some((5, &Place::Flag("--workers"))));
        let variable = Place::Variable("BOWLINE_REACTORS".to_owned());
        assert_eq!(flags.layer.number("engine.reactors"), Some((2, &variable)));
        assert_eq!(flags.layer.place("timeouts.idle"), None);
        assert_eq!(flags.listen[1].0, "tcp://127.0.0.1:2");
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let mut faults = Faults::default();
        let environment = [("BOWLINE_READ_BUDGET".to_owned(), "64".to_owned())].into();
        Flags::of_environment(&environment, &mut faults);
        assert_eq!(
            faults.to_string(),
            "BOWLINE_READ_BUDGET: \"64\" is no size; write for example 512B, 64KiB, 16MiB or 1GiB"
        );
    }
}
