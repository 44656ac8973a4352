//! Bytes that are no frame: the connection is closed, the reason counted, no byte of it goes upstream, nobody else is
//! disturbed.

use bowline_protocols::bolt::Version;
use bowline_tests::sockets::read_to_end;
use bowline_tests::{BoltClient, Call, Gateway, Upstream, each_mode};

/// A frame with one field overwritten.
fn with(bytes: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn what_is_no_frame_closes_the_connection_with_its_reason() {
    let v1 = Call::new("x").bytes(1);
    let v2 = Call::new("x").version(Version::V2 { ver1: 2 }, true).bytes(1);
    let cases = [
        ("frame_protocol", with(&v1, 0, &[9])),
        ("frame_version", with(&v2, 1, &[3])),
        ("frame_command", with(&v1, 2, &[0, 77])),
        ("frame_content_too_large", with(&v1, 18, &(17_u32 << 20).to_be_bytes())),
        ("frame_content_too_large", with(&v1, 18, &u32::MAX.to_be_bytes())),
        ("frame_head_too_large", with(&v1, 14, &[0xff; 4])),
        ("frame_checksum", with(&v2, v2.len() - 1, &[v2[v2.len() - 1] ^ 1])),
    ];
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut bystander = BoltClient::connect(gateway.address());
        for (reason, bytes) in &cases {
            let before = gateway.closes(reason);
            let mut client = BoltClient::connect(gateway.address());
            client.send_bytes(bytes);
            let (answer, _) = read_to_end(client.stream());
            assert!(answer.is_empty(), "{reason}: nothing is answered");
            bowline_tests::eventually(reason, || gateway.closes(reason) == before + 1.0);
            bystander.echo(b"undisturbed");
        }
        let came = upstream.state().requests.len();
        assert_eq!(came, cases.len(), "only the bystander's calls went upstream");
    });
}

#[test]
fn calls_before_the_broken_frame_are_still_answered() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        client.echo(b"good");
        client.send_bytes(b"GET / HTTP/1.1\r\n\r\n");
        client.end();
    });
}

#[test]
fn noise_of_any_kind_harms_nobody() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut bystander = BoltClient::connect(gateway.address());
        for seed in 0..100 {
            let mut client = BoltClient::connect(gateway.address());
            let noise = noise(seed);
            // The gateway may close before all of it is written.
            let _ = std::io::Write::write_all(client.stream(), &noise);
            let _ = client.stream().shutdown(std::net::Shutdown::Write);
            bystander.echo(&noise);
            read_to_end(client.stream());
        }
    });
}

/// Bytes that begin like a frame in half of the cases; a small generator, so that a failure can be repeated.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let start = if seed.is_multiple_of(2) {
        Call::new("x").bytes(1)[..(seed % 20) as usize].to_vec()
    } else {
        Vec::new()
    };
    start.into_iter().chain((0..200).map(|_| next())).collect()
}

#[test]
fn a_frame_in_single_bytes_is_a_frame() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        let call = Call::new("byte by byte").version(Version::V2 { ver1: 2 }, true);
        for byte in call.bytes(5) {
            client.send_bytes(&[byte]);
        }
        let answer = client.receive();
        assert_eq!((answer.frame.id, answer.content()), (5, &b"byte by byte"[..]));
    });
}

#[test]
fn a_thousand_frames_in_one_write_are_all_answered() {
    each_mode(|mode| {
        let upstream = Upstream::echo();
        let gateway = Gateway::bolt(mode, upstream.address(), &[]);
        let mut client = BoltClient::connect(gateway.address());
        let burst: Vec<_> = (0..1_000).flat_map(|id| Call::new(format!("call {id}")).bytes(id)).collect();
        client.send_bytes(&burst);
        let mut seen = vec![false; 1_000];
        for _ in 0..1_000 {
            let answer = client.receive();
            assert_eq!(answer.content(), format!("call {}", answer.frame.id).as_bytes());
            assert!(!std::mem::replace(&mut seen[answer.frame.id as usize], true), "answered once");
        }
    });
}
