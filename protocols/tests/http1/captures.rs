//! What curl and Envoy said to each other on loopback, read from both sides, in the pieces in which it came and in all
//! others.

use bowline_protocols::http::{BodyLength, HttpLimits, Method};
use bowline_protocols::http_properties::{Side, Transcript, read, reading_holds};
use serde_json::Value;

use crate::support::{data, same_however_cut, unhex};

struct Capture {
    name: String,
    requests: Vec<u8>,
    responses: Vec<u8>,
    /// Where pieces ended, in each direction.
    cuts: [Vec<usize>; 2],
}

fn captures() -> Vec<Capture> {
    let file = data("h1.json");
    file["captures"].as_array().expect("captures are a list").iter().map(capture).collect()
}

fn capture(value: &Value) -> Capture {
    let mut cuts = [Vec::new(), Vec::new()];
    for segment in value["segments"].as_array().expect("segments are a list") {
        let direction = usize::from(segment[0] == "s2c");
        let end = cuts[direction].last().copied().unwrap_or(0);
        cuts[direction].push(end + segment[1].as_u64().expect("a length") as usize);
    }
    Capture {
        name: value["name"].as_str().expect("a name").to_owned(),
        requests: unhex(&value["c2s_hex"]),
        responses: unhex(&value["s2c_hex"]),
        cuts,
    }
}

fn side_of_responses(name: &str) -> Side {
    Side::Responses(if name.ends_with("head") { Method::Head } else { Method::Get })
}

fn named(name: &str) -> (Transcript, Transcript) {
    let capture = captures().into_iter().find(|capture| capture.name == name).expect("the capture is there");
    let limits = HttpLimits::default();
    let requests = read(Side::Requests, &capture.requests, [], &limits);
    (requests, read(side_of_responses(name), &capture.responses, [], &limits))
}

#[test]
fn every_capture_is_read_to_its_end_on_both_sides() {
    assert_eq!(captures().len(), 8);
    for capture in captures() {
        let sides =
            [(Side::Requests, &capture.requests), (side_of_responses(&capture.name), &capture.responses)];
        for ((side, bytes), cuts) in sides.into_iter().zip(&capture.cuts) {
            let limits = HttpLimits::default();
            let transcript = read(side, bytes, cuts.iter().copied(), &limits);
            assert_eq!((transcript.fault, transcript.left), (None, 0), "{} {side:?}", capture.name);
            assert_eq!(transcript.complete(), transcript.messages.len(), "{}", capture.name);
            assert_eq!(read(side, bytes, [], &limits), transcript, "{}", capture.name);
            reading_holds(side, bytes, cuts, &limits);
            same_however_cut(side, bytes, &limits);
        }
    }
}

#[test]
fn a_get_is_what_curl_sent() {
    let (requests, responses) = named("h1/curl-get");
    let head = &requests.messages[0].head;
    assert_eq!((head.first_line.as_str(), head.authority.as_str()), ("GET /get?x=1", "127.0.0.1:28110"));
    assert_eq!((head.body, head.values.0), (BodyLength::None, true));
    let names: Vec<_> = head.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["User-Agent", "Accept"]);
    assert_eq!(responses.messages[0].body, b"ok GET /get?x=1\n");
}

#[test]
fn an_answer_to_head_declares_a_length_and_has_no_body() {
    let (_, responses) = named("h1/curl-head");
    let message = &responses.messages[0];
    assert_eq!((message.head.body, message.head.declared_length), (BodyLength::None, Some(14)));
    assert!(message.body.is_empty());
}

#[test]
fn three_requests_follow_each_other() {
    let (requests, responses) = named("h1/curl-keepalive-3");
    assert_eq!((requests.complete(), responses.complete()), (3, 3));
}

#[test]
fn a_chunked_upload_is_whole() {
    let (requests, _) = named("h1/curl-chunked");
    let message = &requests.messages[0];
    assert_eq!((message.head.body, message.body.len()), (BodyLength::Chunked, 10_000));
}

#[test]
fn curl_waits_for_a_100() {
    let (requests, responses) = named("h1/curl-expect-100");
    assert!(requests.messages[0].head.values.2, "it expects one");
    assert_eq!(requests.messages[0].body.len(), 10_000);
    let statuses: Vec<_> =
        responses.messages.iter().map(|message| message.head.first_line.as_str()).collect();
    assert_eq!(statuses, ["100 Continue", "200 OK"]);
}
