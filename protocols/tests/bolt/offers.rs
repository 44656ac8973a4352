//! How often bytes are offered: `Need` is exact, so a large frame is offered twice at most, once for
//! its head and once as a whole, however small its segments are.

use bowline_protocols::bolt::Version;
use bowline_protocols::testing::{VERSIONS, request};
use bowline_protocols::{BoltCodec, Codec, Limits, Step};

/// What a caller that obeys `Need` offered for the first frame of `stream`.
struct Offers {
    count: usize,
    bytes: usize,
    consumed: usize,
}

/// Lets `stream` arrive in segments and offers what is there whenever `Need` is met.
fn offer_in_segments(stream: &mut [u8], segment_bytes: usize) -> Offers {
    let mut codec = BoltCodec::new(Version::V1, Limits::default());
    let mut offers = Offers { count: 0, bytes: 0, consumed: 0 };
    let (mut here, mut need) = (0, 1);
    while here < stream.len() {
        here = (here + segment_bytes).min(stream.len());
        if here < need {
            continue;
        }
        offers.count += 1;
        offers.bytes += here;
        match codec.decode(&mut stream[..here]).expect("the frame is sound") {
            Step::Need(more) => need = more,
            Step::Event { consumed, .. } => {
                offers.consumed = consumed;
                return offers;
            }
        }
    }
    offers
}

#[test]
fn a_frame_of_16_mib_in_segments_of_1_kib_is_offered_twice() {
    let content = vec![0x5a; 16 << 20];
    for (version, crc) in VERSIONS {
        let mut frame = request(version, crc, 1, "s", &content);
        let len = frame.len();
        let offers = offer_in_segments(&mut frame, 1 << 10);
        assert_eq!((offers.count, offers.bytes, offers.consumed), (2, (1 << 10) + len, len));
    }
}

#[test]
fn a_need_is_met_by_exactly_that_many_bytes() {
    for (version, crc) in VERSIONS {
        let mut frame = request(version, crc, 1, "s", &[1; 5_000]);
        let total = frame.len();
        let mut codec = BoltCodec::new(Version::V1, Limits::default());
        assert_eq!(codec.decode(&mut frame[..100]), Ok(Step::Need(total)));
        assert_eq!(codec.decode(&mut frame[..total - 1]), Ok(Step::Need(total)));
        assert!(matches!(codec.decode(&mut frame), Ok(Step::Event { consumed, .. }) if consumed == total));
    }
}

#[test]
fn a_piece_of_the_fixed_part_asks_for_all_of_it_that_is_sure_to_come() {
    let need = |bytes: &[u8]| BoltCodec::new(Version::V1, Limits::default()).decode(&mut bytes.to_vec());
    for (bytes, fixed) in [
        (&[][..], 20),
        (&[1], 20),
        (&[1, 0], 20),
        (&[1, 0, 0, 2, 1], 20),
        (&[1, 1], 22),
        (&[1, 2, 0], 22),
        (&[2], 22),
        (&[2, 1], 22),
        (&[2, 2, 0, 0, 2], 22),
        (&[2, 1, 1], 24),
        (&[2, 2, 2, 0, 1, 1], 24),
    ] {
        assert_eq!(need(bytes), Ok(Step::Need(fixed)), "{bytes:?}");
    }
}

#[test]
fn a_frame_that_arrives_byte_by_byte_is_offered_four_times_at_most() {
    for (version, crc) in VERSIONS {
        let mut frame = request(version, crc, 1, "s", &[1; 5_000]);
        let len = frame.len();
        let offers = offer_in_segments(&mut frame, 1);
        assert_eq!(offers.consumed, len);
        assert!(offers.count <= 4, "{} offers", offers.count);
        assert!(offers.bytes <= 1 + 22 + 24 + len, "{} bytes were offered", offers.bytes);
    }
}

#[test]
fn bytes_behind_the_fixed_part_are_not_looked_at_before_all_are_there() {
    let frame = request(Version::V2 { ver1: 2 }, true, 1, "s", &[1; 5_000]);
    let mut scrambled = frame.clone();
    scrambled[24..].iter_mut().for_each(|byte| *byte ^= 0xff);
    let mut codec = BoltCodec::new(Version::V1, Limits::default());
    for len in 0..frame.len() {
        let as_sent = codec.decode(&mut frame[..len].to_vec());
        assert_eq!(as_sent, codec.decode(&mut scrambled[..len].to_vec()), "after {len} bytes");
    }
}
