//! Owns what must hold for any bytes whatever: the properties that property tests and fuzz targets
//! share, so that a finding of one is a test of the other. Refuses to be called from anything but
//! tests and tools: it allocates freely, and panics where a property does not hold.

use crate::bolt::Frame;
use crate::bolt::Kind;
use crate::bolt::RequestParts;
use crate::bolt::ResponseParts;
use crate::bolt::Version;
use crate::bolt::encode_request;
use crate::bolt::encode_response;
use crate::bolt::fields;
use crate::bolt::fields::Fields;
use crate::bolt::frame::CRC_BYTES;
use crate::bolt::frame::FIXED_BYTES_MAX;
use crate::bolt_codec::BoltCodec;
use crate::codec::Codec;
use crate::event::Event;
use crate::event::Step;
use crate::fault::Fault;
use crate::fault::HeadFault;
use crate::head::Head;
use crate::item::Item;
use crate::limits::Limits;
use crate::span::Span;

/// One decoding of `bytes` by a fresh codec; checks that it changed none of them.
pub fn step(bytes: &[u8], limits: &Limits) -> Result<Step, Fault> {
    let mut copy = bytes.to_vec();
    let step = BoltCodec::new(Version::V1, *limits).decode(&mut copy);
    assert_eq!(copy, bytes, "decoding reads only");
    step
}

/// The head of whatever happened.
pub fn head_of(event: Event) -> Head {
    match event {
        Event::Head(head) | Event::Heartbeat(head) | Event::HeartbeatAck(head) | Event::Goaway(head) => head,
        Event::Body { .. } | Event::Trailers { .. } => panic!("a Bolt frame comes as a whole"),
    }
}

/// Decoding never panics, keeps what it promised on fewer bytes, and names only bytes of the frame.
pub fn decode_holds(bytes: &[u8], limits: &Limits) {
    let whole = step(bytes, limits);
    match whole {
        Ok(Step::Need(need)) => need_holds(bytes, need, limits),
        Ok(Step::Event { event, consumed }) => event_holds(bytes, head_of(event), consumed, limits),
        Err(_) => {}
    }
    let short = 0..bytes.len().min(2 * FIXED_BYTES_MAX);
    for len in short.chain(bytes.len().checked_sub(1)) {
        prefix_holds(step(&bytes[..len], limits), whole, len);
    }
    obeying_need_is_enough(bytes, whole, limits);
}

/// What was said about the first `len` bytes agrees with what is said about all of them.
fn prefix_holds(prefix: Result<Step, Fault>, whole: Result<Step, Fault>, len: usize) {
    match prefix {
        Err(fault) => assert_eq!(whole, Err(fault), "a fault is final, seen after {len} bytes"),
        Ok(Step::Event { .. }) => assert_eq!(whole, prefix, "an event is final, seen after {len} bytes"),
        Ok(Step::Need(need)) => {
            assert!(need > len, "{need} asked for with {len} at hand");
            let needed = match whole {
                Ok(Step::Need(more)) => more,
                Ok(Step::Event { consumed, .. }) => consumed,
                Err(_) => usize::MAX,
            };
            assert!(need <= needed, "{need} asked for after {len} bytes where {needed} were enough");
        }
    }
}

fn need_holds(bytes: &[u8], need: usize, limits: &Limits) {
    let head = BoltCodec::new(Version::V1, *limits).peek(bytes).expect("decode found no fault either");
    match head {
        None => assert!(need <= FIXED_BYTES_MAX, "only the fixed part is unknown"),
        Some(head) => {
            assert_eq!(need, head.declared_bytes(), "once it is known, all of it is asked for");
            assert!(!head.complete && need > bytes.len());
            spans_hold(head.frame(), limits);
        }
    }
}

fn event_holds(bytes: &[u8], head: Head, consumed: usize, limits: &Limits) {
    let peeked = BoltCodec::new(Version::V1, *limits).peek(bytes);
    assert_eq!(peeked, Ok(Some(head)), "peek and decode see the same head");
    assert!(head.complete && consumed == head.declared_bytes() && consumed <= bytes.len());
    let alone = step(&bytes[..consumed], limits);
    assert_eq!(alone, step(bytes, limits), "what follows a frame has no say in it");
    spans_hold(head.frame(), limits);
}

fn spans_hold(frame: &Frame, limits: &Limits) {
    assert_eq!(frame.class.start as usize, frame.fixed_bytes());
    assert_eq!(frame.header.start, frame.class.end());
    assert_eq!(frame.content.start, frame.header.end());
    let trailer = if frame.crc { CRC_BYTES as u32 } else { 0 };
    assert_eq!(frame.total_bytes, frame.content.end() + trailer);
    assert!(frame.class.len + frame.header.len <= limits.class_header_bytes_max);
    assert!(frame.content.len <= limits.content_bytes_max);
}

/// A caller that offers nothing before `Need` is met comes to the same end, in four offers at most:
/// nothing, the least fixed part, the fixed part, the frame.
fn obeying_need_is_enough(bytes: &[u8], whole: Result<Step, Fault>, limits: &Limits) {
    let mut len = 0;
    for _ in 0..4 {
        match step(&bytes[..len], limits) {
            Ok(Step::Need(need)) if need <= bytes.len() => len = need,
            Ok(Step::Need(_)) => return assert!(!matches!(whole, Ok(Step::Event { .. })), "all is there"),
            end => return assert_eq!(end, whole),
        }
    }
    panic!("more than four offers for one frame");
}

/// A complete message survives a change of id and a making anew from its parts.
pub fn roundtrip_holds(bytes: &[u8], id: u32, limits: &Limits) {
    let Ok(Step::Event { event: Event::Head(head), consumed }) = step(bytes, limits) else { return };
    let message = &bytes[..consumed];
    rewrite_holds(message, &head, id, limits);
    if head.fault.is_none() {
        let mut expected = message.to_vec();
        forget_idle_switch_bits(&mut expected, head.frame());
        assert_eq!(rebuild(message, head.frame()), expected, "the parts make the same frame");
    }
}

fn rewrite_holds(message: &[u8], head: &Head, id: u32, limits: &Limits) {
    let frame = head.frame();
    let mut codec = BoltCodec::new(frame.version, *limits);
    let mut bytes = message.to_vec();
    codec.encode(Item::Message { head, bytes: &mut bytes, id });
    let Ok(Step::Event { event, consumed }) = step(&bytes, limits) else {
        panic!("a rewritten frame is sound");
    };
    let rewritten = head_of(event);
    assert_eq!(consumed, message.len());
    assert_eq!(*rewritten.frame(), Frame { id, ..*frame }, "nothing but the id changed");
    let id_at = frame.version.id_offset();
    let end = if frame.crc { message.len() - CRC_BYTES } else { message.len() };
    assert_eq!(bytes[..id_at], message[..id_at]);
    assert_eq!(bytes[id_at + 4..end], message[id_at + 4..end]);
    codec.encode(Item::Message { head: &rewritten, bytes: &mut bytes, id: frame.id });
    assert_eq!(bytes, message, "the old id brings the old bytes back, its trailer too");
}

/// Bits that mean nothing are forwarded, but a frame that is made anew does not have them. Its CRC
/// follows them.
fn forget_idle_switch_bits(message: &mut [u8], frame: &Frame) {
    if frame.version == Version::V1 {
        return;
    }
    message[SWITCH_OFFSET] = u8::from(frame.crc);
    if frame.crc {
        let (body, trailer) = message.split_last_chunk_mut::<CRC_BYTES>().expect("a trailer is there");
        *trailer = crate::bolt::crc::of(body).to_be_bytes();
    }
}

fn rebuild(message: &[u8], frame: &Frame) -> Vec<u8> {
    let Frame { version, id, codec, crc, .. } = *frame;
    let [class, header, content] = [frame.class, frame.header, frame.content].map(|span| span.of(message));
    let mut out = Vec::new();
    let done = if frame.kind == Kind::Response {
        let status = frame.status;
        encode_response(&ResponseParts { version, id, codec, status, crc, class, header, content }, &mut out)
    } else {
        let (oneway, timeout_ms) = (frame.kind == Kind::Oneway, frame.timeout_ms);
        let parts = RequestParts { version, oneway, id, codec, timeout_ms, crc, class, header, content };
        encode_request(&parts, &mut out)
    };
    done.expect("what was decoded without a head fault can be encoded");
    out
}

/// Walking a header never panics, ends, stays inside, and sees every byte; looking up agrees with
/// walking.
pub fn fields_hold(header: &[u8], fields_max: u32) {
    let walked: Vec<_> = Fields::new(header, fields_max).collect();
    assert!(walked.len() <= fields_max as usize + 1, "the walk has a bound");
    let sound: Vec<_> = walked.iter().copied().map_while(Result::ok).collect();
    let fault = walked.get(sound.len()).and_then(|field| field.err());
    assert!(walked.len() - sound.len() <= 1, "a fault is the end");
    let mut again = Vec::new();
    for field in &sound {
        fields::encode_field(bytes_at(field.key, header), bytes_at(field.value, header), &mut again);
    }
    assert!(header.starts_with(&again), "fields lie side by side");
    assert!(fault.is_some() || again.len() == header.len(), "no byte is left over");
    let keys = sound.iter().filter_map(|field| bytes_at(field.key, header));
    for key in keys.take(LOOKED_UP_MAX).chain([b"service".as_slice()]) {
        look_up_holds(header, key, fields_max, fault);
    }
}

fn look_up_holds(header: &[u8], key: &[u8], fields_max: u32, fault: Option<HeadFault>) {
    let of_key = |field: &fields::Field| bytes_at(field.key, header) == Some(key);
    let hits: Vec<_> = Fields::new(header, fields_max).flatten().filter(of_key).collect();
    let expected = match (hits.as_slice(), fault) {
        ([_, _, ..], _) => Err(HeadFault::DuplicateField),
        (_, Some(fault)) => Err(fault),
        (hits, None) => Ok(hits.first().and_then(|hit| hit.value)),
    };
    assert_eq!(fields::find(header, key, fields_max), expected);
}

fn bytes_at(span: Option<Span>, header: &[u8]) -> Option<&[u8]> {
    let span = span?;
    assert!(span.end() as usize <= header.len(), "{span:?} is outside of the header");
    Some(span.of(header))
}

/// Where the switch byte of v2 is.
const SWITCH_OFFSET: usize = 11;
/// How many keys of one header are looked up again: each look-up is a walk.
const LOOKED_UP_MAX: usize = 8;
