//! Writes the captured frames into the corpora of the fuzz targets, so that these start from what real
//! peers say, and whole headers and first messages of streams. Run by `cargo run --example seeds` in this folder.

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
    write_stream_seeds(&here.join("corpus"))
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
