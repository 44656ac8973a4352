//! How a WebSocket ends when the gateway drains: who hears a close frame and where it stands, who has how long to answer,
//! what is never cut in two, and what is no WebSocket. By chance too, with every cut, freezes and narrow windows.

use bowline_engine::time::TICK_MS;
use bowline_gateway::error::CloseReason;
use bowline_gateway::metrics::Count;
use bowline_protocols::websocket::{GOING_AWAY, close_of_client, close_of_server};
use bowline_protocols::websocket_properties::{End, map_of};

use crate::http::{find, http_plan, http_world, request};
use crate::world::{Peer, World};

const GOODBYE: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];
/// What the drains of these tests have; a client's moment is in the first half.
const DRAIN_MS: u64 = 30_000;
/// How long a client has for its answer, and then its server.
const ANSWER_MS: u64 = 2_000;

/// A frame of text, masked or not.
fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let (bit, mask) = if is_masked { (0x80, &[0; 4][..]) } else { (0, &[][..]) };
    let length = payload.len();
    let header = match length {
        0..126 => vec![first, bit | length as u8],
        _ => [&[first, bit | 126][..], &(length as u16).to_be_bytes()].concat(),
    };
    [&header, mask, payload].concat()
}

/// An open tunnel, upgraded to `protocol`.
fn upgrade(world: &mut World, protocol: &str) -> (Peer, Peer) {
    let client = world.connect(0);
    let fields = format!(
        "Connection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    world.send(client, &request("GET", "/chat", &fields));
    let server = world.server();
    drop(world.take(server));
    let agreed =
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
    world.send(server, agreed.as_bytes());
    assert!(find(&world.take(client), b"\r\n\r\n").is_some(), "the tunnel is open");
    (client, server)
}

fn opened(seed: u64) -> (World, Peer, Peer) {
    let mut world = http_world(http_plan(1), seed);
    let (client, server) = upgrade(&mut world, "WebSocket");
    (world, client, server)
}

/// Lets the moment of every client come; the tunnels' own time is not over then.
fn come_to_the_moment(world: &mut World, client: Peer) {
    for _ in 0..=DRAIN_MS / 2 / 100 {
        if world.queued(client) > 0 || world.total(Count::WebsocketClosesSent) > 0 {
            return;
        }
        world.advance(100);
    }
    panic!("nothing was said in the first half of the drain");
}

/// The status of a client's close frame; nothing if it is another.
fn status_of_client(bytes: &[u8]) -> Option<u16> {
    let [0x88, 0x82, a, b, _, _, high, low] = bytes else { return None };
    Some(u16::from_be_bytes([high ^ a, low ^ b]))
}

#[test]
fn peers_that_answer_end_long_before_the_deadline_and_every_message_of_the_client_arrives() {
    let (mut world, client, server) = opened(1);
    world.drain(DRAIN_MS);
    let deadline = world.now().after_ms(DRAIN_MS);
    come_to_the_moment(&mut world, client);
    assert_eq!(world.take(client), GOODBYE);
    let last =
        [frame(0x81, b"sent before I heard", true), close_of_client(1001, [1, 2, 3, 4]).to_vec()].concat();
    world.send(client, &last);
    assert_eq!(world.take(server), last, "the client says goodbye itself, behind what it said before");
    world.send(server, &[&frame(0x81, b"late", false)[..], &close_of_server(1001)].concat());
    world.end(server);
    assert_eq!(world.take(client), b"", "nothing comes behind a close frame");
    assert!(world.is_shut(client), "the server has closed, so its client may");
    world.end(client);
    assert_eq!(
        (world.reason(client), world.reason(server)),
        (Some(CloseReason::Drain), Some(CloseReason::Drain))
    );
    assert!(world.now() < deadline);
    assert_eq!((world.held(0), world.total(Count::WebsocketClosesSent)), ((0, 0), 1));
}

#[test]
fn where_the_client_says_nothing_its_server_hears_the_gateway() {
    let (mut world, client, server) = opened(2);
    world.drain(DRAIN_MS);
    come_to_the_moment(&mut world, client);
    assert_eq!((world.take(client), world.take(server)), (GOODBYE.to_vec(), Vec::new()));
    world.advance(ANSWER_MS + 2 * TICK_MS);
    assert_eq!(status_of_client(&world.take(server)), Some(GOING_AWAY), "masked, as a client's must be");
    world.send(client, &frame(0x81, b"too late", true));
    assert_eq!(world.take(server), b"");
    world.send(server, &close_of_server(GOING_AWAY));
    world.end(server);
    assert!(world.is_shut(client) && !world.is_closed(client));
    world.advance(ANSWER_MS + 2 * TICK_MS);
    assert_eq!(
        (world.reason(client), world.reason(server)),
        (Some(CloseReason::Drain), Some(CloseReason::Drain))
    );
    assert_eq!((world.held(0), world.total(Count::WebsocketClosesSent)), ((0, 0), 2));
}

#[test]
fn peers_have_as_long_for_their_answers_as_is_configured() {
    let mut plan = http_plan(1);
    plan.timeouts.websocket_answer_ms = 5_000;
    let mut world = http_world(plan, 36);
    let (client, server) = upgrade(&mut world, "websocket");
    world.drain(DRAIN_MS);
    come_to_the_moment(&mut world, client);
    world.advance(4_800);
    assert_eq!(world.take(server), b"");
    world.advance(200 + 2 * TICK_MS);
    assert_eq!(status_of_client(&world.take(server)), Some(GOING_AWAY));
    world.advance(4_800);
    assert!(!world.is_closed(client) && !world.is_closed(server));
    world.advance(200 + 4 * TICK_MS);
    assert_eq!((world.reason(client), world.held(0)), (Some(CloseReason::Drain), (0, 0)));
}

#[test]
fn peers_that_say_nothing_are_closed_when_their_time_is_over() {
    let (mut world, client, server) = opened(3);
    world.drain(DRAIN_MS);
    come_to_the_moment(&mut world, client);
    world.advance(2 * ANSWER_MS - 2 * TICK_MS - 100);
    assert!(!world.is_closed(client) && !world.is_closed(server));
    world.advance(100 + 4 * TICK_MS);
    assert_eq!(
        (world.reason(client), world.reason(server)),
        (Some(CloseReason::Drain), Some(CloseReason::Drain))
    );
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_frame_of_the_server_that_is_under_way_ends_first_and_the_next_one_is_left_out() {
    for cut in [1, 2, 3, 4, 100, 259] {
        let (mut world, client, server) = opened(4);
        let long = frame(0x82, &[7; 256], false);
        world.send(server, &long[..cut]);
        world.drain(DRAIN_MS);
        world.advance(DRAIN_MS / 2 + 100);
        assert_eq!(world.take(client), long[..cut], "it waits for the frame");
        let rest = [&long[cut..], &frame(0x81, b"another", false), &frame(0x81, b"and one", false)].concat();
        world.send(server, &rest);
        assert_eq!(world.take(client), [&long[cut..], &GOODBYE].concat());
    }
}

#[test]
fn a_frame_that_never_ends_is_cut_at_the_deadline_and_nothing_is_put_into_it() {
    let (mut world, client, server) = opened(5);
    let half = &frame(0x82, &[7; 200], false)[..120];
    world.send(server, half);
    world.drain(DRAIN_MS);
    world.advance(DRAIN_MS - 100);
    assert!(!world.is_closed(client));
    world.advance(100 + 4 * TICK_MS);
    assert_eq!(world.take(client), half);
    assert_eq!(world.reason(client), Some(CloseReason::DrainDeadline));
    // The way to the server was free, so it hears why.
    assert_eq!(status_of_client(&world.take(server)), Some(GOING_AWAY));
}

#[test]
fn a_frame_of_the_client_that_is_under_way_ends_before_its_server_hears_the_gateway() {
    let (mut world, client, server) = opened(6);
    let long = frame(0x82, &[7; 200], true);
    world.send(client, &long[..50]);
    world.drain(DRAIN_MS);
    come_to_the_moment(&mut world, client);
    assert_eq!(world.take(client), GOODBYE, "that way is free");
    world.advance(ANSWER_MS + 100);
    assert_eq!(world.take(server), long[..50], "this one is not");
    world.send(client, &[&long[50..], &frame(0x81, b"another", true)].concat());
    let said = world.take(server);
    assert_eq!(said[..said.len() - 8], long[50..]);
    assert_eq!(status_of_client(&said[said.len() - 8..]), Some(GOING_AWAY));
}

#[test]
fn a_goodbye_may_stand_between_the_parts_of_a_message() {
    let (mut world, client, server) = opened(7);
    world.send(server, &frame(0x01, b"first part", false));
    world.drain(DRAIN_MS);
    come_to_the_moment(&mut world, client);
    assert_eq!(world.take(client), [&frame(0x01, b"first part", false)[..], &GOODBYE].concat());
}

#[test]
fn who_has_said_goodbye_already_hears_no_other_on_that_way() {
    let (mut world, client, server) = opened(8);
    let close = close_of_server(1000);
    world.send(server, &close);
    world.drain(DRAIN_MS);
    assert_eq!(world.take(client), close);
    let answer = close_of_client(1000, [4, 3, 2, 1]);
    world.send(client, &answer);
    world.end(client);
    world.end(server);
    assert_eq!(world.take(server), answer);
    assert_eq!(world.reason(client), Some(CloseReason::PeerClosed), "the drain had no part in it");
    assert_eq!(world.total(Count::WebsocketClosesSent), 0);
}

/// A drain whose server has ended its way already, with its own close frame or without a word, does not wait for the deadline.
fn a_drain_that_comes_after_the_server(seed: u64, says: &[u8], leaves: bool) {
    let (mut world, client, server) = opened(seed);
    world.send(server, says);
    if leaves {
        world.end(server);
    }
    world.drain(DRAIN_MS);
    world.advance(DRAIN_MS / 2 + ANSWER_MS + 2 * TICK_MS);
    assert_eq!(world.take(client), says, "nothing comes behind the end of that way");
    assert_eq!(status_of_client(&world.take(server)), Some(GOING_AWAY));
    world.advance(ANSWER_MS + 2 * TICK_MS);
    assert_eq!(
        (world.reason(client), world.reason(server)),
        (Some(CloseReason::Drain), Some(CloseReason::Drain))
    );
    assert_eq!((world.held(0), world.total(Count::WebsocketClosesSent)), ((0, 0), 1));
}

#[test]
fn a_server_that_has_ended_its_way_hears_the_gateway_long_before_the_deadline() {
    a_drain_that_comes_after_the_server(31, &close_of_server(1000), false);
    a_drain_that_comes_after_the_server(32, &close_of_server(1000), true);
    a_drain_that_comes_after_the_server(33, b"", true);
}

#[test]
fn a_server_that_ends_in_the_middle_of_a_frame_does_not_hold_the_drain_up() {
    let (mut world, client, server) = opened(34);
    let half = &frame(0x82, &[7; 100], false)[..50];
    world.send(server, half);
    world.drain(DRAIN_MS);
    world.advance(DRAIN_MS / 2 + 2 * TICK_MS);
    world.end(server);
    world.advance(2 * ANSWER_MS + 4 * TICK_MS);
    assert_eq!(world.take(client), half);
    assert_eq!(
        (world.reason(client), world.reason(server)),
        (Some(CloseReason::Drain), Some(CloseReason::Drain))
    );
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_server_whose_client_came_to_its_end_by_a_fault_hears_of_it_when_it_takes_what_it_has() {
    let (mut world, client, server) = opened(35);
    world.set_window(server, Some(0));
    world.send(client, &frame(0x82, &[7; 100], true));
    world.break_machine(client);
    assert!(!world.is_closed(server), "nobody has told it");
    world.set_window(server, None);
    assert_eq!(world.reason(server), Some(CloseReason::PartnerGone));
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_client_that_only_leaves_does_not_leave_its_server_without_a_word() {
    for is_reset in [false, true] {
        let (mut world, client, server) = opened(9);
        world.drain(DRAIN_MS);
        come_to_the_moment(&mut world, client);
        if is_reset {
            world.cut(client)
        } else {
            world.end(client)
        }
        assert_eq!(status_of_client(&world.take(server)), Some(GOING_AWAY), "{is_reset}");
        assert!(world.is_shut(server), "{is_reset}");
        world.end(server);
        assert_eq!((world.reason(server), world.held(0)), (Some(CloseReason::Drain), (0, 0)));
    }
}

#[test]
fn a_server_that_is_gone_takes_no_word_back_from_its_client() {
    let (mut world, client, server) = opened(10);
    world.set_window(client, Some(0));
    world.drain(DRAIN_MS);
    come_to_the_moment(&mut world, client);
    world.cut(server);
    world.set_window(client, None);
    assert_eq!((world.take(client), world.reason(client)), (GOODBYE.to_vec(), Some(CloseReason::Drain)));
}

#[test]
fn what_comes_behind_a_goodbye_does_not_keep_its_sender_from_going_on() {
    let mut plan = http_plan(1);
    plan.limits.tunnel_credit_bytes = 20_000;
    let mut world = http_world(plan, 11);
    let (client, server) = upgrade(&mut world, "websocket");
    world.drain(DRAIN_MS);
    come_to_the_moment(&mut world, client);
    (0..100).for_each(|_| world.send(server, &frame(0x82, &[7; 5_000], false)));
    assert_eq!((world.unread(server), world.take(client)), (0, GOODBYE.to_vec()));
}

#[test]
fn what_is_no_websocket_is_cut_at_the_deadline_without_a_word() {
    let text: &[u8] = b"\x81\x02hi\x81";
    for (protocol, bytes) in [("other", &text[..4]), ("websocket", b"not a frame")] {
        let mut world = http_world(http_plan(1), 12);
        let (client, server) = upgrade(&mut world, protocol);
        world.send(server, bytes);
        world.send(client, bytes);
        world.drain(DRAIN_MS);
        world.advance(DRAIN_MS - 100);
        assert!(!world.is_closed(client), "{protocol}");
        world.send(client, b"goes on");
        assert_eq!(world.take(server), [bytes, b"goes on"].concat(), "{protocol}");
        world.advance(100 + 4 * TICK_MS);
        assert_eq!(world.take(client), bytes, "{protocol}");
        assert_eq!(world.reason(client), Some(CloseReason::DrainDeadline), "{protocol}");
        assert_eq!(world.total(Count::WebsocketClosesSent), 0, "{protocol}");
    }
}

#[test]
fn a_websocket_that_opens_during_a_drain_is_told_too() {
    let mut world = http_world(http_plan(1), 13);
    let deadline = world.now().after_ms(DRAIN_MS);
    world.gateway.begin_drain(deadline);
    let (client, _) = upgrade(&mut world, "websocket");
    come_to_the_moment(&mut world, client);
    assert_eq!(world.take(client), GOODBYE);
}

#[test]
fn goodbyes_are_spread_over_the_first_half_of_a_drain() {
    let mut world = http_world(http_plan(1), 14);
    for _ in 0..40 {
        let client = world.connect(0);
        let before = world.servers().len();
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        world.send(client, &request("GET", "/chat", fields));
        let server = world.servers()[before];
        world.send(server, b"HTTP/1.1 101 Agreed\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    }
    world.drain(100_000);
    // Each client's own answer keeps the servers' count out of it.
    let said: Vec<u64> = (0..5)
        .map(|_| {
            world.advance(10_000);
            world.closes(CloseReason::Drain)
        })
        .collect();
    assert!(said.windows(2).all(|pair| pair[0] < pair[1]), "{said:?}");
}

#[test]
fn pings_alone_keep_a_websocket_from_being_idle_and_silence_does_not() {
    let mut plan = http_plan(1);
    plan.timeouts.idle_ms = 3_000;
    let mut world = http_world(plan, 15);
    let (client, server) = upgrade(&mut world, "websocket");
    for number in 0..6 {
        world.advance(2_000);
        let (from, ping) =
            [(server, frame(0x89, b"", false)), (client, frame(0x89, b"", true))][number % 2].clone();
        world.send(from, &ping);
    }
    assert!(!world.is_closed(client), "bytes of any kind count");
    world.advance(3_000 + 4 * TICK_MS);
    assert_eq!(world.reason(client), Some(CloseReason::IdleTimeout));
}

/// One direction: what was sent, what of that has left, and what arrived.
#[derive(Default)]
struct Way {
    sent: Vec<u8>,
    left: usize,
    arrived: Vec<u8>,
}

/// One WebSocket whose peers send frames by chance, until a drain ends it.
struct Chaos {
    world: World,
    ends: [Peer; 2],
    /// To the server, to the client.
    ways: [Way; 2],
    answers: bool,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut plan = http_plan(1);
        plan.limits.tunnel_credit_bytes = 900;
        let mut world = World::new(plan, seed);
        let (client, server) = upgrade(&mut world, "websocket");
        world.set_freezes(200);
        world.set_split(1 + seed as usize * 7 % 100);
        Chaos { world, ends: [client, server], ways: Default::default(), answers: seed.is_multiple_of(2) }
    }

    fn pick(&mut self, of: usize) -> usize {
        (self.world.random() % of as u64) as usize
    }

    /// Some of a frame, some frames, some time, or a peer that reads less for a while.
    fn step(&mut self) {
        let at = self.pick(2);
        match self.pick(8) {
            0..=3 => self.talk(at),
            4 => {
                let window = [None, Some(0), Some(300)][self.pick(3)];
                if !self.world.is_closed(self.ends[1 - at]) {
                    self.world.set_window(self.ends[1 - at], window);
                }
            }
            _ => {
                let ms = self.pick(700) as u64;
                self.world.advance(ms);
            }
        }
        self.gather();
    }

    fn talk(&mut self, at: usize) {
        if self.ways[at].left == self.ways[at].sent.len() {
            let (first, length) = ([0x81, 0x82, 0x01, 0x00, 0x89][self.pick(5)], self.pick(130));
            let length = if first == 0x89 { length.min(125) } else { length };
            self.ways[at].sent.extend(frame(first, &vec![at as u8; length], at == 0));
        }
        let waiting = self.ways[at].sent.len() - self.ways[at].left;
        let bytes = 1 + self.pick(waiting);
        self.send(at, bytes);
    }

    fn send(&mut self, at: usize, bytes: usize) {
        let way = &mut self.ways[at];
        let piece = way.sent[way.left..way.left + bytes].to_vec();
        way.left += bytes;
        if !self.world.is_closed(self.ends[at]) {
            self.world.send_later(self.ends[at], &piece);
        }
    }

    fn gather(&mut self) {
        for at in 0..2 {
            let bytes = self.world.take(self.ends[1 - at]);
            self.ways[at].arrived.extend(bytes);
        }
    }

    /// Who has heard a close frame ends its own frame and says goodbye too.
    fn answer(&mut self) {
        for at in 0..2 {
            let heard = map_of(&self.ways[1 - at].arrived).end == End::Closed;
            if self.answers && heard && map_of(&self.ways[at].sent).end == End::Open {
                let close = if at == 0 {
                    close_of_client(1001, [7; 4]).to_vec()
                } else {
                    close_of_server(1001).to_vec()
                };
                self.ways[at].sent.extend(close);
                let rest = self.ways[at].sent.len() - self.ways[at].left;
                self.send(at, rest);
                self.world.run();
                if at == 1 && !self.world.is_closed(self.ends[at]) {
                    self.world.end(self.ends[at]);
                }
            }
        }
    }

    /// What arrived is the start of what was sent, or that and a close frame at a border of it. True for the second.
    fn was_told(&self, at: usize) -> bool {
        let Way { sent, arrived, .. } = &self.ways[at];
        if sent.starts_with(arrived) {
            return false;
        }
        let length = if at == 0 { 8 } else { GOODBYE.len() };
        let (before, close) = arrived.split_at(arrived.len().saturating_sub(length));
        let is_goodbye = if at == 0 { status_of_client(close) == Some(GOING_AWAY) } else { close == GOODBYE };
        assert!(is_goodbye && sent.starts_with(before), "way {at}: {arrived:x?} of {sent:x?}");
        let map = map_of(sent);
        assert!(before.is_empty() || map.borders.contains(&before.len()), "way {at}: within a frame");
        assert_eq!(map_of(before).end, End::Open, "way {at}: nothing was closed before");
        true
    }

    fn run(mut self) -> [bool; 2] {
        (0..60).for_each(|_| self.step());
        self.world.drain(DRAIN_MS);
        let deadline = self.world.now().after_ms(DRAIN_MS);
        while self.world.now() < deadline && !self.ends.iter().all(|end| self.world.is_closed(*end)) {
            self.step();
            self.answer();
        }
        // What was cut has some seconds more for what is queued.
        self.world.advance(12_000);
        self.gather();
        assert!(self.ends.iter().all(|end| self.world.is_closed(*end)), "the deadline ends everything");
        let told = [self.was_told(0), self.was_told(1)];
        let count = self.world.total(Count::WebsocketClosesSent);
        assert!(count >= told.iter().filter(|told| **told).count() as u64, "{count} were sent, {told:?}");
        assert_eq!(self.world.held(0), (0, 0));
        told
    }
}

#[test]
fn whatever_flows_a_goodbye_stands_between_two_frames_and_nothing_else_is_changed() {
    let (mut servers, mut clients) = (0, 0);
    for seed in 1..=200 {
        let [server, client] = Chaos::new(seed).run();
        (servers, clients) = (servers + usize::from(server), clients + usize::from(client));
    }
    assert!(servers > 40 && clients > 120, "{servers} servers and {clients} clients of 200 were told");
}
