//! The codec allocates nothing: not to decode, to forward, to refuse, to answer or to look up a
//! field. Counted by thread, so other tests do not disturb it.

use allocation_counter::measure;
use bowline_protocols::bolt::{Status, Version};
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
