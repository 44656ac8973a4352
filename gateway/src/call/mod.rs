//! `bowline call`: sends requests one after the other on one connection and prints each answer on a line of its own.
//! It ends with success only if every request was answered with success. Called by the program's `main`.

mod client;
mod http;

use std::fs;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::time::Duration;

use bowline_protocols::bolt::EncodeFault;
use bowline_protocols::bolt::RequestParts;
use bowline_protocols::bolt::Status;
use bowline_protocols::bolt::Version;
use bowline_protocols::bolt::encode_request;
use bowline_protocols::bolt::fields;

use crate::cli::CallArguments;
use crate::cli::CallUrl;
use crate::config::url::Url;

use client::Answer;
use client::Client;

pub use client::ClientFailure;

/// Why a call was no success.
#[derive(Debug)]
pub enum CallFailure {
    /// What was to be sent cannot be read.
    Data {
        /// The file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// It cannot be put into a frame.
    Request(EncodeFault),
    /// The connection could not be made, or broke.
    Connection {
        /// The request that was under way, counted from one; nothing before the first.
        request: Option<u32>,
        /// What happened.
        failure: ClientFailure,
    },
    /// Answers came, and not all said success.
    Status {
        /// How many did not.
        failed: u32,
        /// Of how many.
        count: u32,
        /// What the first of them said.
        first: u16,
    },
    /// HTTP: there was no answer.
    Http {
        /// The request, counted from one.
        request: u32,
        /// What happened.
        error: Box<ureq::Error>,
    },
    /// HTTP: answers came, and not all said success.
    HttpStatus {
        /// How many did not.
        failed: u32,
        /// Of how many.
        count: u32,
        /// What the first of them said.
        first: u16,
    },
    /// What was answered cannot be printed.
    Output(io::Error),
}

impl std::fmt::Display for CallFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallFailure::Data { path, error } => write!(formatter, "cannot read {path}: {error}"),
            CallFailure::Request(fault) => write!(formatter, "the request cannot be sent: {fault}"),
            CallFailure::Connection { request: None, failure } => write!(formatter, "{failure}"),
            CallFailure::Connection { request: Some(request), failure } => {
                write!(formatter, "request {request}: {failure}")
            }
            CallFailure::Status { failed: 1, count: 1, first } => {
                write!(formatter, "answered with status {}", status_text(*first))
            }
            CallFailure::Status { failed, count, first } => {
                let status = status_text(*first);
                write!(formatter, "{failed} of {count} requests were no success; the first: status {status}")
            }
            CallFailure::Http { request, error } => write!(formatter, "request {request}: {error}"),
            CallFailure::HttpStatus { failed: 1, count: 1, first } => {
                write!(formatter, "answered with status {first}")
            }
            CallFailure::HttpStatus { failed, count, first } => {
                write!(formatter, "{failed} of {count} requests were no success; the first: status {first}")
            }
            CallFailure::Output(error) => write!(formatter, "cannot print the answer: {error}"),
        }
    }
}

impl std::error::Error for CallFailure {}

/// Sends what `arguments` say and prints answers to `out`.
pub fn call(arguments: &CallArguments, out: &mut dyn Write) -> Result<(), CallFailure> {
    match &arguments.url {
        CallUrl::Bolt(url) => call_bolt(url, arguments, out),
        CallUrl::Http(url) => http::call(url, arguments, out),
    }
}

fn call_bolt(url: &Url, arguments: &CallArguments, out: &mut dyn Write) -> Result<(), CallFailure> {
    let content = content_of(&arguments.data)?;
    let timeout = Duration::from_millis(arguments.timeout_ms);
    let mut request = Vec::new();
    // Encoded once before anything is dialled: what cannot be sent needs no connection.
    encode(arguments, 1, &content, &mut request)?;
    let mut client = Client::connect(&url.host, url.port, timeout)
        .map_err(|failure| CallFailure::Connection { request: None, failure })?;
    let mut out = BufWriter::new(out);
    let (mut failed, mut first) = (0, None);
    for number in 1..=arguments.count {
        request.clear();
        encode(arguments, number, &content, &mut request)?;
        let answer = client
            .call(number, &request)
            .map_err(|failure| CallFailure::Connection { request: Some(number), failure })?;
        print(number, &answer, &mut out).map_err(CallFailure::Output)?;
        if answer.status != Status::Success.code() {
            failed += 1;
            first.get_or_insert(answer.status);
        }
    }
    match first {
        None => Ok(()),
        Some(first) => Err(CallFailure::Status { failed, count: arguments.count, first }),
    }
}

fn content_of(data: &str) -> Result<Vec<u8>, CallFailure> {
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some(path) => read_bounded(path, DATA_BYTES_MAX)
            .map_err(|error| CallFailure::Data { path: path.to_owned(), error }),
    }
}

/// What is in a file of at most so many bytes. What never ends, as a device may, is too much and not waited for.
fn read_bounded(path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(content)
}

/// The most that is read to be sent.
const DATA_BYTES_MAX: u64 = 256 << 20;

fn encode(arguments: &CallArguments, id: u32, content: &[u8], out: &mut Vec<u8>) -> Result<(), CallFailure> {
    let version = match (arguments.v2, arguments.crc) {
        (false, _) => Version::V1,
        (true, false) => Version::V2 { ver1: 1 },
        (true, true) => Version::V2 { ver1: 2 },
    };
    let header = fields::encode(&[("service", arguments.service.as_deref().unwrap_or(SERVICE))]);
    let parts = RequestParts {
        version,
        oneway: false,
        id,
        codec: CODEC,
        timeout_ms: i32::try_from(arguments.timeout_ms).unwrap_or(i32::MAX),
        crc: arguments.crc,
        class: CLASS,
        header: &header,
        content,
    };
    encode_request(&parts, out).map_err(CallFailure::Request)
}

/// What is asked for unless another is said: the service of the embedded echo upstream.
const SERVICE: &str = "demo";
/// The serialisation that frames name; the content goes as it is.
const CODEC: u8 = 1;
/// The class of the requests: one that no server mistakes for its own.
const CLASS: &[u8] = b"bowline.Call";

/// One line: number, status, time, size, content. Control characters are escaped, so that a server can neither forge a
/// line nor steer the terminal.
fn print(number: u32, answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    print_line(number, &status_text(answer.status), answer.elapsed, &answer.content, out)
}

fn print_line(
    number: u32,
    status: &str,
    elapsed: Duration,
    content: &[u8],
    out: &mut impl Write,
) -> io::Result<()> {
    let ms = elapsed.as_secs_f64() * 1e3;
    write!(out, "{number}: {status} in {ms:.3} ms, {} bytes", content.len())?;
    if !content.is_empty() {
        out.write_all(b": ")?;
    }
    for chunk in content.utf8_chunks() {
        print_text(chunk.valid(), out)?;
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    out.write_all(b"\n")?;
    out.flush()
}

fn print_text(text: &str, out: &mut impl Write) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = rest.find(char::is_control) {
        let (plain, special) = rest.split_at(at);
        out.write_all(plain.as_bytes())?;
        let control = special.chars().next().expect("one was found here");
        write!(out, "{}", control.escape_default())?;
        rest = &special[control.len_utf8()..];
    }
    out.write_all(rest.as_bytes())
}

/// `success (0)`.
fn status_text(code: u16) -> String {
    let name = Status::from_code(code).map_or("not a known status", Status::name);
    format!("{name} ({code})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(status: u16, content: &[u8]) -> String {
        let answer = Answer { status, elapsed: Duration::from_micros(1_234), content: content.to_vec() };
        let mut out = Vec::new();
        print(3, &answer, &mut out).expect("memory takes all");
        String::from_utf8(out).expect("only text is printed")
    }

    #[test]
    fn an_answer_is_one_line() {
        assert_eq!(printed(0, b"hello"), "3: success (0) in 1.234 ms, 5 bytes: hello\n");
        assert_eq!(printed(6, b""), "3: no_processor (6) in 1.234 ms, 0 bytes\n");
        assert_eq!(printed(77, b""), "3: not a known status (77) in 1.234 ms, 0 bytes\n");
    }

    #[test]
    fn what_a_server_sends_can_neither_forge_a_line_nor_steer_a_terminal() {
        let said = printed(0, "a\n4: success\t\u{1b}[2J\u{9b}ü".as_bytes());
        assert!(said.ends_with(": a\\n4: success\\t\\u{1b}[2J\\u{9b}ü\n"), "{said}");
        assert!(printed(0, b"\xff ok \xc3").ends_with(": \\xff ok \\xc3\n"));
    }

    #[test]
    fn a_file_without_end_is_too_much() {
        let said = read_bounded("/dev/zero", 4096).expect_err("it has no end").to_string();
        assert_eq!(said, "it has more than 4096 bytes");
        assert_eq!(read_bounded("/dev/null", 4096).expect("it is empty"), b"");
    }

    #[test]
    fn long_content_is_printed_whole() {
        assert_eq!(printed(0, &vec![b'x'; 1 << 20]).matches('x').count(), 1 << 20);
    }
}
