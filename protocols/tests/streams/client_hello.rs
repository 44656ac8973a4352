//! The ClientHello: what a real client (rustls) says, every cut, over as many records as it may be cut into, and every
//! kind of fault.

use std::sync::Arc;

use bowline_protocols::client_hello::HelloFault::{Malformed, NotTls, TooLong};
use bowline_protocols::client_hello::{ClientHello, HELLO_BYTES_MAX, HelloFault, Peeked, peek};
use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The first flight of a client that wants `name` and offers `protocols`.
fn said_by_rustls(name: &str, protocols: &[&[u8]]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().expect("ring has them");
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = name.to_owned().try_into().expect("a name or an address");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("it is configured");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory takes what is written to it");
    bytes
}

fn hello(bytes: &[u8]) -> ClientHello {
    match peek(bytes) {
        Ok(Peeked::Hello(hello)) => hello,
        other => panic!("{other:?}"),
    }
}

fn fault(bytes: &[u8]) -> HelloFault {
    peek(bytes).expect_err("it is refused")
}

/// One record of the handshake.
fn record(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    [&[22, 3, 1], &length[..], payload].concat()
}

/// The same message over records of `bytes` each.
fn in_records_of(bytes: usize, whole: &[u8]) -> Vec<u8> {
    whole[5..].chunks(bytes).flat_map(record).collect()
}

fn block_u16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).expect("short").to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &block_u16(content)].concat()
}

fn name_extension(name: &[u8]) -> Vec<u8> {
    extension(0, &block_u16(&[&[0][..], &block_u16(name)].concat()))
}

/// A message with these extensions, in one record.
fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = [&[3, 3][..], &[7; 32], &[0], &block_u16(&[0x13, 1]), &[1, 0]].concat();
    body.extend(block_u16(extensions));
    record(&message_of(&body))
}

fn message_of(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[1][..], &length[1..], body].concat()
}

#[test]
fn a_real_client_says_its_server_and_its_protocols() {
    let bytes = said_by_rustls("Shop.Example.COM", &[b"h2", b"http/1.1"]);
    let said = hello(&bytes);
    assert_eq!(said.server_name.as_deref(), Some("shop.example.com"));
    assert_eq!(said.protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    let bare = hello(&said_by_rustls("127.0.0.1", &[]));
    assert_eq!(bare, ClientHello::default(), "an address is not named");
}

#[test]
fn a_hello_is_the_same_over_any_records_and_asks_for_more_wherever_it_is_cut() {
    let whole = said_by_rustls("a.example", &[b"h2"]);
    let said = hello(&whole);
    for bytes in [1, 2, 3, 7, 100, whole.len()] {
        let cut = in_records_of(bytes, &whole);
        assert_eq!(hello(&cut), said, "records of {bytes}");
        assert_eq!(hello(&[&cut[..], b"early data"].concat()), said);
        for at in 0..cut.len() {
            let Ok(Peeked::More { bytes }) = peek(&cut[..at]) else { panic!("cut at {at}") };
            assert!(bytes > at && bytes <= cut.len(), "{bytes} at {at}");
        }
    }
}

#[test]
fn what_is_no_tls_is_known_by_its_first_bytes() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"S", b"\x17\x03\x03", b"\x16\x02", b"\x80\x2e\x01\x03", b"\x15"]
    {
        assert_eq!(fault(bytes), NotTls, "{bytes:?}");
    }
}

#[test]
fn tls_that_is_no_client_hello_is_malformed() {
    assert_eq!(fault(&record(&[2, 0, 0, 0])), Malformed, "a server's message");
    assert_eq!(fault(&record(&[])), Malformed, "an empty record");
    assert_eq!(fault(&[22, 3, 1, 0x40, 1]), Malformed, "a record longer than one may be");
    let mut other = record(&[1, 0]);
    other.extend([23, 3, 3, 0, 1, 0]);
    assert_eq!(fault(&other), Malformed, "another kind of record in the midst");
}

#[test]
fn more_than_is_read_is_too_long_before_it_is_waited_for() {
    let declared = HELLO_BYTES_MAX as u32 + 1;
    assert_eq!(fault(&record(&[&[1][..], &declared.to_be_bytes()[1..]].concat())), TooLong);
    let body = vec![0; 15_000];
    let whole = [&[1][..], &15_000_u32.to_be_bytes()[1..], &body].concat();
    let tiny: Vec<u8> = whole.chunks(1).flat_map(record).collect();
    assert_eq!(fault(&tiny), TooLong, "the headers of records count");
}

#[test]
fn a_record_may_be_longer_than_the_message_and_than_what_is_read() {
    let mut whole = said_by_rustls("a.example", &[]);
    whole[3..5].copy_from_slice(&0x3fff_u16.to_be_bytes());
    assert_eq!(hello(&whole).server_name.as_deref(), Some("a.example"));
    for at in 0..whole.len() {
        let Ok(Peeked::More { bytes }) = peek(&whole[..at]) else { panic!("cut at {at}") };
        assert!(bytes > at && bytes <= whole.len(), "{bytes} at {at}");
    }
}

#[test]
fn names_that_are_none_or_stand_twice_are_malformed() {
    let said = |name: &[u8]| peek(&message(&name_extension(name)));
    for name in [
        &b""[..],
        b"a..b",
        b".a",
        b"a b",
        b"a\0b",
        b"*.a",
        b"10.0.0.1",
        b"::1",
        b"\xffa",
        b"a/b",
        &[b'a'; 64],
    ] {
        assert_eq!(said(name), Err(Malformed), "{name:?}");
    }
    let long = ["abcdefg"; 32].join(".");
    assert_eq!(said(long.as_bytes()), Err(Malformed), "{} bytes", long.len());
    assert_eq!(hello(&message(&name_extension(b"A_b-1.example."))).server_name.unwrap(), "a_b-1.example");
    let twice = [name_extension(b"a"), name_extension(b"b")].concat();
    assert_eq!(fault(&message(&twice)), Malformed);
    let two = [&[0][..], &block_u16(b"a"), &[0], &block_u16(b"b")].concat();
    assert_eq!(fault(&message(&extension(0, &block_u16(&two)))), Malformed);
    assert_eq!(fault(&message(&extension(0, &block_u16(b"\x01\0\x01a")))), Malformed, "another kind of name");
}

#[test]
fn lengths_that_do_not_fit_are_malformed() {
    for extensions in [
        &b"\0"[..],
        b"\0\0\0\x05abc",
        &extension(16, b""),
        &extension(16, &block_u16(b"")),
        &extension(16, &block_u16(b"\0")),
        &extension(16, &block_u16(b"\x05h2")),
        &extension(0, &block_u16(b"\0\0\x09a")),
        &extension(0, b"\0\0x"),
    ] {
        assert_eq!(fault(&message(extensions)), Malformed, "{extensions:?}");
    }
    assert_eq!(fault(&record(&message_of(&[3, 3]))), Malformed);
    let behind =
        [&[3, 3][..], &[7; 32], &[0], &block_u16(&[0x13, 1]), &[1, 0], &block_u16(b""), b"x"].concat();
    assert_eq!(fault(&record(&message_of(&behind))), Malformed, "bytes behind the extensions");
    let old = [&[3, 1][..], &[7; 32], &[0], &block_u16(&[0, 5]), &[1, 0]].concat();
    assert_eq!(hello(&record(&message_of(&old))), ClientHello::default(), "no extensions at all");
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(bytes: Vec<u8>, kind in 0_usize..3) {
        let starts = [Vec::new(), vec![22, 3, 1], record(&message_of(&bytes))];
        let all = [&starts[kind][..], &bytes].concat();
        if let Ok(Peeked::More { bytes }) = peek(&all) {
            prop_assert!(bytes > all.len() && bytes <= HELLO_BYTES_MAX);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_read_and_nothing_else(at in 0_usize..2_000, byte: u8) {
        let mut whole = said_by_rustls("changed.example", &[b"h2"]);
        let at = at % whole.len();
        whole[at] = byte;
        if let Ok(Peeked::Hello(hello)) = peek(&whole) {
            prop_assert!(hello.server_name.is_none_or(|name| name.len() <= 253));
        }
    }
}
