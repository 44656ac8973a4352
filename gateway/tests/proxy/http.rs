//! What the tests of HTTP send and expect: requests and responses as bytes, and reading them back by a parser of their own,
//! so that the gateway's codec is not judged by itself. It is lenient; what must be refused is not its matter.

use bowline_gateway::config::plan::{Plan, Protocol};

use crate::world::{Peer, World, plan_of};

/// A whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Http {
    /// The first line.
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Http {
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether the sender says that the connection ends behind it.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.split(", ").any(|option| option == "close"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("this body is text")
    }
}

/// The message at the front and how long it is; nothing if it is not whole. `bodiless` for an answer to HEAD.
pub(crate) fn parse(bytes: &[u8], bodiless: bool) -> Option<(Http, usize)> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end - 4]).expect("heads of these tests are text");
    let mut lines = head.split("\r\n");
    let mut message = Http { line: lines.next()?.to_owned(), ..Http::default() };
    message.fields = lines.map(field_of).collect();
    let status = message.line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse::<u16>().ok());
    let has_none = bodiless || matches!(status, Some(100..=199 | 204 | 304));
    let length = message.field("content-length").map(|length| length.parse::<usize>().expect("a length"));
    if has_none {
        return Some((message, end));
    }
    if message.field("transfer-encoding").is_some() {
        let length = unchunk(&bytes[end..], &mut message)?;
        return Some((message, end + length));
    }
    let length = match (length, status) {
        (Some(length), _) => length,
        (None, None) => 0,
        (None, Some(_)) => bytes.len() - end,
    };
    message.body = bytes.get(end..end + length)?.to_vec();
    Some((message, end + length))
}

fn field_of(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").expect("a field");
    (name.to_owned(), value.to_owned())
}

fn unchunk(bytes: &[u8], into: &mut Http) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = at + find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..line]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size without extension");
        at = line + 2;
        if size == 0 {
            break;
        }
        into.body.extend(bytes.get(at..at + size)?);
        assert_eq!(bytes.get(at + size..at + size + 2)?, b"\r\n", "every chunk ends with its line");
        at += size + 2;
    }
    loop {
        let line = at + find(&bytes[at..], b"\r\n")?;
        let text = std::str::from_utf8(&bytes[at..line]).expect("trailers are text");
        at = line + 2;
        if text.is_empty() {
            return Some(at);
        }
        into.trailers.push(field_of(text));
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    request("GET", path, "")
}

/// A request with more field lines and without a body.
pub(crate) fn request(method: &str, path: &str, fields: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n").into_bytes()
}

/// A request with a body of a declared length.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let fields = format!("Content-Length: {}\r\n", body.len());
    [&request("POST", path, &fields), body].concat()
}

/// A response with a body of a declared length.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    response("200 OK", "", body)
}

/// A response with a status, more field lines, and a body of a declared length.
pub(crate) fn response(status: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A chunk.
pub(crate) fn chunk(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
}

/// The default plan with `endpoints` servers, all of HTTP.
pub(crate) fn http_plan(endpoints: u16) -> Plan {
    let mut plan = plan_of(endpoints);
    plan.listeners[0].protocol = Protocol::Http;
    plan.clusters[0].protocol = Protocol::Http;
    plan
}

/// A world with one client, which has made one request, and its server.
pub(crate) fn asked_world(plan: Plan, seed: u64) -> (World, Peer, Peer) {
    let mut world = http_world(plan, seed);
    let client = world.connect(0);
    world.exchange(client, "/first");
    let server = world.server();
    (world, client, server)
}

/// A world of one worker, so that its pool is the only one.
pub(crate) fn http_world(plan: Plan, seed: u64) -> World {
    World::new(plan, seed).one_worker()
}

impl World {
    /// What has come to a peer, message by message, all of it whole.
    pub(crate) fn https(&mut self, peer: Peer) -> Vec<Http> {
        let bytes = self.take(peer);
        let (mut messages, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let Some((message, length)) = parse(&bytes[at..], false) else {
                panic!("half a message: {:?}", String::from_utf8_lossy(&bytes[at..]));
            };
            messages.push(message);
            at += length;
        }
        messages
    }

    /// The one message that has come to a peer.
    pub(crate) fn http(&mut self, peer: Peer) -> Http {
        let mut messages = self.https(peer);
        assert_eq!(messages.len(), 1, "one message: {messages:#?}");
        messages.remove(0)
    }

    /// The answer to HEAD that has come to a peer.
    pub(crate) fn http_to_head(&mut self, peer: Peer) -> Http {
        let bytes = self.take(peer);
        let (message, length) = parse(&bytes, true).expect("an answer");
        assert_eq!(length, bytes.len(), "nothing comes behind it: {:?}", String::from_utf8_lossy(&bytes));
        message
    }

    /// One request and its answer over the only server's connection.
    pub(crate) fn exchange(&mut self, client: Peer, path: &str) {
        self.send(client, &get(path));
        let server = self.server();
        assert!(self.http(server).line.starts_with(&format!("GET {path} ")), "it came to the server");
        self.send(server, &ok(path));
        let answer = self.http(client);
        assert_eq!((answer.status(), answer.text()), (200, path));
    }

    /// The gateway answers `client` with a status of its own.
    pub(crate) fn expect_status(&mut self, client: Peer, status: u16) -> Http {
        let answer = self.http(client);
        assert_eq!(answer.status(), status, "{answer:?}");
        answer
    }
}
