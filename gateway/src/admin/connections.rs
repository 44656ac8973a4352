//! `/connections`: which connections there are, bounded and sorted. It keeps at most twice what it will show, however
//! many there are. Called by the server of the admin interface.

use std::cmp::Ordering;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use serde::Serializer;

/// Whoever knows the open connections.
pub trait ConnectionSource: Send + Sync {
    /// Hands every open connection to `each`, in any order, without stopping any of them.
    fn for_each(&self, each: &mut dyn FnMut(ConnectionView));
}

/// One connection, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectionView {
    /// Its slot and generation; never used twice.
    pub id: u64,
    /// The other end.
    #[serde(serialize_with = "as_text")]
    pub peer: SocketAddr,
    /// Whether a client opened it or the gateway did.
    pub direction: Direction,
    /// What is spoken on it.
    pub protocol: &'static str,
    /// The listener's name; the cluster's for an upstream connection.
    #[serde(serialize_with = "as_text")]
    pub listener: Arc<str>,
    /// What it is doing.
    pub state: &'static str,
    /// How long it is open.
    pub age_ms: u64,
    /// How long no byte has passed.
    pub idle_ms: u64,
    /// Bytes read from it.
    pub bytes_in: u64,
    /// Bytes written to it.
    pub bytes_out: u64,
    /// User memory that it holds now.
    pub memory_bytes: u64,
    /// Requests that it carried.
    pub requests: u64,
    /// Requests that wait for their answers.
    pub in_flight: u64,
    /// Its home reactor.
    pub reactor: u32,
}

/// Which side opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A client.
    Downstream,
    /// The gateway.
    Upstream,
    /// The gateway, to its own embedded upstream: the upstream's end.
    Echo,
}

/// Shown where no limit is asked for.
pub const LIMIT_DEFAULT: usize = 100;
/// Shown at most, whatever is asked for.
pub const LIMIT_MAX: usize = 10_000;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    limit: usize,
    sort: Option<Sort>,
}

#[derive(Clone, Copy, Debug)]
struct Sort {
    field: fn(&ConnectionView) -> u64,
    descending: bool,
}

type Field = (&'static str, fn(&ConnectionView) -> u64);

const FIELDS: [Field; 9] = [
    ("id", |view| view.id),
    ("age_ms", |view| view.age_ms),
    ("idle_ms", |view| view.idle_ms),
    ("bytes_in", |view| view.bytes_in),
    ("bytes_out", |view| view.bytes_out),
    ("memory_bytes", |view| view.memory_bytes),
    ("requests", |view| view.requests),
    ("in_flight", |view| view.in_flight),
    ("reactor", |view| u64::from(view.reactor)),
];

impl Query {
    /// Reads `limit=10&sort=-age_ms`; the message says what is known.
    pub(super) fn parse(text: &str) -> Result<Query, String> {
        let (mut limit, mut sort) = (None, None);
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("limit", _)) if limit.is_some() => return Err("limit stands twice".to_owned()),
                Some(("sort", _)) if sort.is_some() => return Err("sort stands twice".to_owned()),
                Some(("limit", text)) => limit = Some(parse_limit(text)?),
                Some(("sort", text)) => sort = Some(Sort::parse(text)?),
                _ => {
                    return Err(format!(
                        "unknown parameter {pair:?}; known: limit=NUMBER, sort=FIELD or -FIELD"
                    ));
                }
            }
        }
        Ok(Query { limit: limit.unwrap_or(LIMIT_DEFAULT), sort })
    }

    /// The answer as JSON: `total`, and what was asked for in `connections`.
    pub(super) fn answer(self, source: &dyn ConnectionSource) -> Result<String, serde_json::Error> {
        let mut chosen = Chosen { query: self, total: 0, kept: Vec::new() };
        source.for_each(&mut |view| chosen.add(view));
        let (total, connections) = chosen.finish();
        serde_json::to_string(&Answer { total, connections: &connections })
    }

    /// Which of two is shown first.
    fn order(self, a: &ConnectionView, b: &ConnectionView) -> Ordering {
        let Some(Sort { field, descending }) = self.sort else { return Ordering::Equal };
        let order = field(a).cmp(&field(b));
        let order = if descending { order.reverse() } else { order };
        order.then(a.id.cmp(&b.id))
    }
}

impl Sort {
    fn parse(text: &str) -> Result<Sort, String> {
        let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        match FIELDS.iter().find(|(known, _)| *known == name) {
            Some((_, field)) => Ok(Sort { field: *field, descending }),
            None => {
                let known: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
                Err(format!(
                    "cannot sort by {name:?}; known: {}, each with - in front for descending",
                    known.join(", ")
                ))
            }
        }
    }
}

fn parse_limit(text: &str) -> Result<usize, String> {
    let limit: usize =
        text.parse().map_err(|_| format!("limit {text:?} is no number; at most {LIMIT_MAX} are shown"))?;
    Ok(limit.min(LIMIT_MAX))
}

#[derive(Serialize)]
struct Answer<'a> {
    total: u64,
    connections: &'a [ConnectionView],
}

struct Chosen {
    query: Query,
    total: u64,
    kept: Vec<ConnectionView>,
}

impl Chosen {
    fn add(&mut self, view: ConnectionView) {
        self.total += 1;
        let limit = self.query.limit;
        if self.query.sort.is_none() {
            if self.kept.len() < limit {
                self.kept.push(view);
            }
            return;
        }
        self.kept.push(view);
        if self.kept.len() > 2 * limit {
            self.cut();
        }
    }

    /// Keeps the first `limit`, in no order.
    fn cut(&mut self) {
        let (query, limit) = (self.query, self.query.limit);
        if limit < self.kept.len() {
            self.kept.select_nth_unstable_by(limit, |a, b| query.order(a, b));
        }
        self.kept.truncate(limit);
    }

    fn finish(mut self) -> (u64, Vec<ConnectionView>) {
        self.cut();
        let query = self.query;
        self.kept.sort_by(|a, b| query.order(a, b));
        (self.total, self.kept)
    }
}

fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Some1000;

    impl ConnectionSource for Some1000 {
        fn for_each(&self, each: &mut dyn FnMut(ConnectionView)) {
            // 1,009 is prime to 1,000, so ages are a permutation of 0 to 999.
            (0..1_000).for_each(|id| each(view(id, id * 1_009 % 1_000)));
        }
    }

    fn view(id: u64, age_ms: u64) -> ConnectionView {
        ConnectionView {
            id,
            peer: "127.0.0.1:9".parse().expect("an address"),
            direction: Direction::Downstream,
            protocol: "bolt",
            listener: "front".into(),
            state: "idle",
            age_ms,
            idle_ms: 0,
            bytes_in: 1,
            bytes_out: 2,
            memory_bytes: 3,
            requests: 4,
            in_flight: 5,
            reactor: 6,
        }
    }

    fn ages(query: &str) -> Vec<u64> {
        let text = Query::parse(query).expect("it is right").answer(&Some1000).expect("it can be written");
        let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(answer["total"], 1_000);
        let list = answer["connections"].as_array().expect("a list");
        list.iter().map(|one| one["age_ms"].as_u64().expect("a number")).collect()
    }

    #[test]
    fn the_first_by_any_field_are_shown_in_order() {
        assert_eq!(ages("sort=age_ms&limit=4"), [0, 1, 2, 3]);
        assert_eq!(ages("limit=4&sort=-age_ms"), [999, 998, 997, 996]);
        assert_eq!(ages("sort=-age_ms").len(), LIMIT_DEFAULT);
        assert!(ages("limit=0&sort=-age_ms").is_empty());
        assert!(ages("limit=0").is_empty());
        assert_eq!(ages("sort=-age_ms&limit=5000").len(), 1_000);
        assert_eq!(ages("limit=3"), [0, 9, 18]);
    }

    #[test]
    fn equals_are_ordered_by_id() {
        assert_eq!(ages("sort=requests&limit=3"), [0, 9, 18]);
        assert_eq!(ages("sort=-requests&limit=3"), [0, 9, 18]);
    }

    #[test]
    fn a_limit_above_the_most_is_the_most() {
        assert_eq!(Query::parse("limit=99999999").expect("it is right").limit, LIMIT_MAX);
    }

    #[test]
    fn wrong_queries_say_what_is_known() {
        let refused = |query: &str| Query::parse(query).expect_err("it is refused");
        assert_eq!(refused("sort=peer").split(", ").count(), FIELDS.len() + 1);
        assert_eq!(refused("limit=x"), "limit \"x\" is no number; at most 10000 are shown");
        assert_eq!(refused("limit=-1"), "limit \"-1\" is no number; at most 10000 are shown");
        assert_eq!(
            refused("order=id"),
            "unknown parameter \"order=id\"; known: limit=NUMBER, sort=FIELD or -FIELD"
        );
        assert!(refused("limit").starts_with("unknown parameter"));
        assert_eq!(refused("limit=1&limit=2"), "limit stands twice");
        assert_eq!(refused("sort=id&limit=1&sort=id"), "sort stands twice");
    }

    #[test]
    fn a_connection_is_shown_with_all_its_fields() {
        let shown = serde_json::to_value(view(1, 2)).expect("JSON");
        let expected = serde_json::json!({
            "id": 1, "peer": "127.0.0.1:9", "direction": "downstream", "protocol": "bolt", "listener": "front",
            "state": "idle", "age_ms": 2, "idle_ms": 0, "bytes_in": 1, "bytes_out": 2, "memory_bytes": 3,
            "requests": 4, "in_flight": 5, "reactor": 6,
        });
        assert_eq!(shown, expected);
    }
}
