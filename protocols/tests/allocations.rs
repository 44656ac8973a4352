//! The codecs allocate nothing: not to decode, to forward, to refuse, to answer or to look up a
//! field; that of HTTP/1.1 once its heads are warm. Counted by thread, so other tests do not disturb it.

use allocation_counter::measure;
use bowline_protocols::bolt::{Status, Version};
use bowline_protocols::http::{HttpHead, HttpLimits, Method};
use bowline_protocols::http1::{BodyDecoder, BodyStep, HeadDecoder, HeadStep, encode};
use bowline_protocols::testing::{VERSIONS, request, response};
use bowline_protocols::{BoltCodec, CONTROL_BYTES_MAX, Codec, Event, Head, Item, Limits, Refusal, Step};

fn codec() -> BoltCodec {
    BoltCodec::new(Version::V1, Limits::default())
}

fn head(codec: &mut BoltCodec, bytes: &mut [u8]) -> Head {
    match codec.decode(bytes) {
        Ok(Step::Event { event: Event::Head(head) | Event::Heartbeat(head), .. }) => head,
        other => panic!("{other:?}"),
    }
}

/// Every allocation that `work` makes.
fn allocations(work: impl FnOnce()) -> u64 {
    measure(work).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn forwarding_and_looking_up_allocate_nothing() {
    for (version, crc) in VERSIONS {
        let mut codec = codec();
        for mut bytes in [request(version, crc, 1, "s", &[7; 70_000]), response(version, crc, 1, 0, b"c")] {
            let made = allocations(|| {
                codec.peek(&bytes).expect("no fault");
                codec.decode(&mut bytes[..10]).expect("no fault");
                let head = head(&mut codec, &mut bytes);
                head.field(&bytes, b"service", &Limits::default()).expect("no fault");
                codec.encode(Item::Message { head: &head, bytes: &mut bytes, id: 2 });
            });
            assert_eq!(made, 0, "{version:?}");
        }
    }
}

#[test]
fn what_the_gateway_says_by_itself_allocates_nothing() {
    for (version, crc) in VERSIONS {
        let mut codec = codec();
        let mut bytes = request(version, crc, 1, "s", b"c");
        let made = allocations(|| {
            let mut out = [0; CONTROL_BYTES_MAX];
            let cause = head(&mut codec, &mut bytes);
            assert!(codec.refuse(&cause, Refusal { bolt: Status::Timeout }, &mut out) > 0);
            assert!(codec.goodbye(1, &mut out) > 0);
            let len = codec.heartbeat(1, &mut out);
            let heartbeat = head(&mut codec, &mut out[..len]);
            assert!(codec.answer_heartbeat(&heartbeat, &mut out) > 0);
        });
        assert_eq!(made, 0, "{version:?}");
    }
}

#[test]
fn faults_freezing_and_thawing_allocate_nothing() {
    let mut codec = codec();
    let mut damaged = request(Version::V2 { ver1: 2 }, true, 1, "s", b"c");
    damaged[30] ^= 1;
    let mut foreign = *b"GET / HTTP/1.1\r\n\r\n";
    let made = allocations(|| {
        assert!(codec.decode(&mut damaged).is_err());
        assert!(codec.decode(&mut foreign).is_err());
        let frozen = codec.freeze();
        assert!(codec.thaw(frozen).is_ok());
    });
    assert_eq!(made, 0);
}

const REQUEST: &[u8] =
    b"POST /a/../b?c HTTP/1.1\r\nHost: Example.com\r\nAccept: */*\r\nConnection: x, upgrade\r\nX: 1\r\n\
    Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nSum: 1\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 3\r\n\r\nabc";

/// What a connection keeps.
#[derive(Default)]
struct Warm {
    head: HttpHead,
    trailers: HttpHead,
    out: Vec<u8>,
}

/// Reads one message, its body and trailers, and writes its head again.
fn forward(bytes: &[u8], warm: &mut Warm) {
    let limits = HttpLimits::default();
    let step = if bytes == REQUEST {
        HeadDecoder::default().request(bytes, &limits, &mut warm.head)
    } else {
        HeadDecoder::default().response(bytes, Method::Get, &limits, &mut warm.head)
    };
    let Ok(HeadStep::Head { consumed: mut taken }) = step else { panic!("{step:?}") };
    let mut body = BodyDecoder::new(warm.head.body);
    while let Ok(BodyStep::Piece { skip, len }) = body.decode(&bytes[taken..], &limits, &mut warm.trailers) {
        taken += skip + len;
    }
    assert!(body.has_ended());
    warm.out.clear();
    warm.head.add_field(b"Via", b"1.1 bowline").expect("it is sound");
    if bytes == REQUEST {
        encode::request(&warm.head, true, &mut warm.out);
        encode::last_chunk(Some(&warm.trailers), &mut warm.out);
    } else {
        encode::response(&warm.head, true, false, &mut warm.out);
    }
}

#[test]
fn a_warm_http_connection_allocates_nothing() {
    for bytes in [REQUEST, RESPONSE] {
        let mut warm = Warm::default();
        assert!(allocations(|| forward(bytes, &mut warm)) > 0, "the first one fills the head");
        assert_eq!(allocations(|| (0..3).for_each(|_| forward(bytes, &mut warm))), 0);
    }
}

#[test]
fn what_http_refuses_and_what_dribbles_in_allocates_nothing() {
    let mut warm = Warm::default();
    forward(REQUEST, &mut warm);
    let made = allocations(|| {
        let mut decoder = HeadDecoder::default();
        for len in 0..REQUEST.len() {
            if decoder.request(&REQUEST[..len], &HttpLimits::default(), &mut warm.head)
                != Ok(HeadStep::Need(len + 1))
            {
                break;
            }
        }
        let refused = b"GET /a/../.. HTTP/1.1\r\nHost: h\r\n\r\n";
        decoder = HeadDecoder::default();
        decoder.request(refused, &HttpLimits::default(), &mut warm.head).expect_err("it leaves the root");
    });
    assert_eq!(made, 0);
}
