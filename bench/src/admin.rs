//! Owns the few questions that a measurement asks a gateway's admin interface: which reactor has which client, and what its
//! counters say. One request per connection over HTTP/1.1, bounded in bytes and time. Called by `load` and by the suite.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::trouble::Trouble;

/// The home reactor of each client connection, by the client's address.
pub fn reactors_of_peers(admin: SocketAddr) -> Result<HashMap<SocketAddr, u64>, Trouble> {
    let text = fetch(admin, &format!("/connections?limit={CONNECTIONS_MAX}"))?;
    let answer: Value = serde_json::from_str(&text)
        .map_err(|error| Trouble::Broken(format!("the list of connections is no JSON: {error}")))?;
    let list = answer["connections"].as_array().map_or(&[][..], Vec::as_slice);
    let clients = list.iter().filter(|one| one["direction"] == "downstream");
    Ok(clients
        .filter_map(|one| Some((one["peer"].as_str()?.parse().ok()?, one["reactor"].as_u64()?)))
        .collect())
}

/// Asks for the list of connections as someone who watches does, and says how many it showed.
pub fn connections_shown(admin: SocketAddr) -> Result<usize, Trouble> {
    let text = fetch(admin, "/connections")?;
    let answer: Value = serde_json::from_str(&text)
        .map_err(|error| Trouble::Broken(format!("the list of connections is no JSON: {error}")))?;
    let list = answer["connections"].as_array();
    list.map(Vec::len).ok_or_else(|| Trouble::Broken("the answer has no list of connections".into()))
}

/// All counters, those that differ by labels alone added up.
pub fn counters(admin: SocketAddr) -> Result<BTreeMap<String, f64>, Trouble> {
    Ok(parse_counters(&fetch(admin, "/metrics")?))
}

fn parse_counters(text: &str) -> BTreeMap<String, f64> {
    let mut counters = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name);
        if let (true, Ok(value)) = (name.ends_with("_total"), value.parse::<f64>()) {
            *counters.entry(name.to_owned()).or_default() += value;
        }
    }
    counters
}

fn fetch(admin: SocketAddr, path: &str) -> Result<String, Trouble> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(Trouble::doing::<std::io::Error>(format!("asking {admin} for {path}")))?;
    body_of(&answer).ok_or_else(|| {
        let start = String::from_utf8_lossy(&answer[..answer.len().min(100)]).into_owned();
        Trouble::Broken(format!("{admin} answers {path} with {start:?}"))
    })
}

/// The body of an answer with status 200 that is not cut into chunks.
fn body_of(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let plain = !head.to_ascii_lowercase().contains("transfer-encoding");
    (head.starts_with("HTTP/1.1 200") && plain).then(|| body.to_owned())
}

/// As many as the admin interface shows at most.
const CONNECTIONS_MAX: usize = 10_000;
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_over_their_labels() {
        let text =
            "# TYPE a counter\na_total{worker=\"0\"} 1\na_total{worker=\"1\"} 2.0\nb 7\nc_total 3\n# EOF\n";
        let counters = parse_counters(text);
        assert_eq!(counters, BTreeMap::from([("a_total".to_owned(), 3.0), ("c_total".to_owned(), 3.0)]));
    }

    #[test]
    fn only_a_good_answer_has_a_body() {
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        assert_eq!(body_of(good), Some("hi".to_owned()));
        for bad in [&b"HTTP/1.1 404 Not Found\r\n\r\nhi"[..], b"HTTP/1.1 200 OK\r\n", b"\xff\xff"] {
            assert_eq!(body_of(bad), None);
        }
    }
}
