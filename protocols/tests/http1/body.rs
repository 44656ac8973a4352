//! Where bodies end: each kind by itself, what its pieces are, and what the end of the stream means to it.

use bowline_protocols::http::{BodyLength, HttpFault, HttpHead, HttpLimits};
use bowline_protocols::http1::{BodyDecoder, BodyStep};

use crate::support::chunked;

/// The steps that a decoder takes through `bytes`, all of which are offered at once, until it wants more or has ended.
fn steps(length: BodyLength, bytes: &[u8]) -> Vec<BodyStep> {
    let (mut decoder, mut trailers) = (BodyDecoder::new(length), HttpHead::default());
    let (mut taken, mut steps) = (0, Vec::new());
    loop {
        let step =
            decoder.decode(&bytes[taken..], &HttpLimits::default(), &mut trailers).expect("it is sound");
        steps.push(step);
        match step {
            BodyStep::Piece { skip, len } => taken += skip + len,
            BodyStep::End { .. } | BodyStep::Need(_) => return steps,
        }
    }
}

#[test]
fn no_body_ends_at_once() {
    for length in [BodyLength::None, BodyLength::Exact(0)] {
        assert!(BodyDecoder::new(length).has_ended());
        assert_eq!(steps(length, b"next"), [BodyStep::End { skip: 0 }]);
    }
}

#[test]
fn a_length_is_counted_down_and_not_passed() {
    let pieces = [BodyStep::Piece { skip: 0, len: 3 }, BodyStep::End { skip: 0 }];
    assert_eq!(steps(BodyLength::Exact(3), b"abcnext"), pieces);
    assert_eq!(steps(BodyLength::Exact(5), b"abc"), [BodyStep::Piece { skip: 0, len: 3 }, BodyStep::Need(1)]);
}

#[test]
fn chunk_heads_are_skipped_with_the_first_byte_behind_them() {
    let bytes = b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\nnext";
    let expected =
        [BodyStep::Piece { skip: 3, len: 3 }, BodyStep::Piece { skip: 7, len: 2 }, BodyStep::End { skip: 7 }];
    assert_eq!(steps(BodyLength::Chunked, bytes), expected);
    assert_eq!(
        steps(BodyLength::Chunked, b"3\r\n"),
        [BodyStep::Need(4)],
        "a head without a byte is nothing yet"
    );
    assert_eq!(
        steps(BodyLength::Chunked, b"3\r\nab"),
        [BodyStep::Piece { skip: 3, len: 2 }, BodyStep::Need(1)]
    );
}

#[test]
fn a_body_until_close_is_whatever_comes() {
    assert_eq!(
        steps(BodyLength::UntilClose, b"abc"),
        [BodyStep::Piece { skip: 0, len: 3 }, BodyStep::Need(1)]
    );
    let mut decoder = BodyDecoder::new(BodyLength::UntilClose);
    assert!(!decoder.has_ended());
    assert_eq!((decoder.end_of_stream(), decoder.has_ended()), (Ok(()), true));
}

#[test]
fn a_limit_holds_where_no_length_is_declared() {
    let limits = HttpLimits { body_bytes_max: 4, ..HttpLimits::default() };
    let (mut decoder, mut trailers) = (BodyDecoder::new(BodyLength::UntilClose), HttpHead::default());
    let first = decoder.decode(b"abcdef", &limits, &mut trailers);
    assert_eq!(first, Ok(BodyStep::Piece { skip: 0, len: 4 }));
    assert_eq!(decoder.decode(b"ef", &limits, &mut trailers), Err(HttpFault::BodyTooLarge));
}

#[test]
fn the_end_of_the_stream_is_a_fault_within_any_other_body() {
    let cut = [
        (BodyLength::Exact(3), &b"ab"[..]),
        (BodyLength::Exact(3), b""),
        (BodyLength::Chunked, b""),
        (BodyLength::Chunked, b"3"),
        (BodyLength::Chunked, b"3\r\na"),
        (BodyLength::Chunked, b"3\r\nabc"),
        (BodyLength::Chunked, b"3\r\nabc\r\n0\r\n"),
        (BodyLength::Chunked, b"0\r\nA: b\r\n"),
    ];
    for (length, bytes) in cut {
        let (mut decoder, mut trailers) = (BodyDecoder::new(length), HttpHead::default());
        let mut taken = 0;
        while let Ok(BodyStep::Piece { skip, len }) =
            decoder.decode(&bytes[taken..], &HttpLimits::default(), &mut trailers)
        {
            taken += skip + len;
        }
        assert_eq!(decoder.end_of_stream(), Err(HttpFault::BodyTruncated), "{length:?} {bytes:?}");
        assert!(!decoder.has_ended());
    }
}

#[test]
fn what_follows_a_chunk_is_a_line_end() {
    for behind in ["x", "\rx", "0\r\n\r\n", "\r\r\n"] {
        assert_eq!(chunked(&format!("1\r\na{behind}")).fault, Some(HttpFault::BadChunkEnd), "{behind:?}");
    }
}

#[test]
fn trailers_come_with_the_end_and_those_before_are_gone() {
    let (mut decoder, mut trailers) = (BodyDecoder::new(BodyLength::Chunked), HttpHead::default());
    trailers.add_field(b"old", b"1").expect("it is sound");
    let step = decoder.decode(b"0\r\nA: b\r\nC: \xff\r\n\r\nnext", &HttpLimits::default(), &mut trailers);
    assert_eq!(step, Ok(BodyStep::End { skip: 17 }));
    assert_eq!(trailers.fields().collect::<Vec<_>>(), [(&b"A"[..], &b"b"[..]), (b"C", b"\xff")]);
    for length in [BodyLength::None, BodyLength::Exact(1), BodyLength::Chunked] {
        let mut decoder = BodyDecoder::new(length);
        let bytes: &[u8] = if length == BodyLength::Chunked { b"0\r\n\r\n" } else { b"a" };
        trailers.add_field(b"old", b"1").expect("it is sound");
        while !matches!(
            decoder.decode(bytes, &HttpLimits::default(), &mut trailers),
            Ok(BodyStep::End { .. })
        ) {}
        assert_eq!(trailers.fields_len(), 0, "{length:?}");
    }
}
