//! Writes captured frames and messages, the cases of llhttp, and whole headers and first messages of streams into the
//! corpora of the fuzz targets, so that these start from what real peers say. Run by `cargo run --example seeds` in this
//! folder.

use std::error::Error;
use std::fs;
use std::path::Path;

use bowline_protocols::Limits;
use bowline_protocols::bolt::{Decoded, decode};
use bowline_protocols::proxy_header::{Route, Version, encode};
use bowline_protocols::testing::client_hello;
use serde_json::Value;

/// Longer seeds slow the fuzzers down and teach them nothing.
const SEED_BYTES_MAX: usize = 2_048;

/// Where an input begins that says where to cut.
const CUTS: &[u8] = &[0; 4];

/// Seeds for targets that no capture fits.
const HTTP_SEEDS: [(&str, &[u8]); 8] = [
    ("http1_body", b"\0\0\0\0\x103;a=\"b\"\r\nabc\r\n0\r\nSum: 1\r\n\r\n"),
    ("http1_body", b"\x02\x03\0\0\x05A;x;y=z\r\n0123456789\r\n00\r\n\r\n"),
    ("http1_path", b"/a/./b/../c//%7e%2E%2f;v=1?q"),
    ("http1_sequence", b"\x10\x20\x30\x40\x06abcdefghijklmnopqrs\x01abcdefghijklmnopqrs\x00abc"),
    ("websocket", b"\x03\x81\x05Hello\x01\x83abcdXYZ\x89\0\x80\x02lo\x88\x02\x03\xe9"),
    ("websocket", b"\x05\x82\x7e\0\x03xyz\x82\xff\0\0\0\0\0\0\0\x01abcdX\x8a\x80abcd"),
    ("websocket", b"\x01\xc2\0\x82\x7f\x80\0\0\0\0\0\0\0"),
    (
        "http1_request",
        b"\0\0\0\0GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["java-sofabolt", "sofa-bolt-node", "anthunder"] {
        let text = fs::read_to_string(here.join(format!("../../tests/data/bolt/{file}.json")))?;
        let capture: Value = serde_json::from_str(&text)?;
        let frames = capture["frames"].as_array().ok_or("a capture is a list of frames")?;
        for (number, frame) in frames.iter().enumerate() {
            let bytes = unhex(frame["hex"].as_str().ok_or("a frame has bytes")?)?;
            if bytes.len() <= SEED_BYTES_MAX {
                write_seeds(&here.join("corpus"), &format!("{file}-{number}"), &bytes)?;
            }
        }
    }
    write_stream_seeds(&here.join("corpus"))?;
    write_http_seeds(here)
}

/// Streams of curl, Envoy and llhttp's suite; the zeros before them are cuts that cut nothing.
fn write_http_seeds(here: &Path) -> Result<(), Box<dyn Error>> {
    let data = here.join("../tests/data");
    let captures: Value = serde_json::from_str(&fs::read_to_string(data.join("h1.json"))?)?;
    let cases: Value = serde_json::from_str(&fs::read_to_string(data.join("llhttp/cases.json"))?)?;
    let corpus = here.join("corpus");
    for (number, capture) in captures["captures"].as_array().ok_or("captures are a list")?.iter().enumerate()
    {
        for (target, field) in [("http1_request", "c2s_hex"), ("http1_response", "s2c_hex")] {
            let bytes = unhex(capture[field].as_str().ok_or("a stream has bytes")?)?;
            if bytes.len() <= SEED_BYTES_MAX {
                write_seed(&corpus.join(target), &format!("h1-{number}"), &[CUTS, &bytes].concat())?;
            }
        }
    }
    for (number, case) in cases["cases"].as_array().ok_or("cases are a list")?.iter().enumerate() {
        let side = case["type"].as_str().ok_or("a case has a type")?;
        let target = if side.starts_with("response") { "http1_response" } else { "http1_request" };
        let bytes = unhex(case["input_hex"].as_str().ok_or("a case has bytes")?)?;
        write_seed(&corpus.join(target), &format!("llhttp-{number}"), &[CUTS, &bytes, b"\r\n"].concat())?;
    }
    for (number, (target, seed)) in HTTP_SEEDS.iter().enumerate() {
        write_seed(&corpus.join(target), &format!("seed-{number}"), seed)?;
    }
    Ok(())
}

fn write_stream_seeds(corpus: &Path) -> Result<(), Box<dyn Error>> {
    for (name, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        for (family, address) in [("4", "192.0.2.1:80"), ("6", "[2001:db8::1]:443")] {
            let end = address.parse()?;
            let mut bytes = Vec::new();
            encode(version, Some(Route { source: end, destination: end }), &mut bytes);
            write_seed(&corpus.join("proxy_header"), &format!("{name}-{family}"), &bytes)?;
        }
    }
    let hello = client_hello(Some("a.example"), &["h2", "http/1.1"]);
    write_seed(&corpus.join("client_hello"), "one-record", &hello)?;
    let record = |part: &[u8]| [&[22, 3, 1, 0, part.len() as u8][..], part].concat();
    let many: Vec<u8> = hello[5..].chunks(9).flat_map(record).collect();
    write_seed(&corpus.join("client_hello"), "many-records", &many)
}

fn write_seeds(corpus: &Path, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let Decoded::Frame(frame) = decode(bytes, &Limits::default())? else { return Err("a piece".into()) };
    write_seed(&corpus.join("decode"), name, bytes)?;
    write_seed(&corpus.join("roundtrip"), name, &[b"\0\0\0\x01", bytes].concat())?;
    let header = frame.header.of(bytes);
    if !header.is_empty() {
        write_seed(&corpus.join("fields"), name, &[b"\x10", header].concat())?;
    }
    Ok(())
}

fn write_seed(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

fn unhex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2).unwrap_or_default());
    Ok(pairs.map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>()?)
}
