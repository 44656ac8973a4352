//! Large frames: room is reserved once 64 KiB are here, and a frame that comes too slowly ends its connection.

use bowline_gateway::error::CloseReason;

use crate::bolt::Call;
use crate::world::{Peer, World, plan_of};

fn large(id: u32) -> Vec<u8> {
    Call::new(id, vec![7; 1 << 20]).timeout_ms(600_000).bytes()
}

fn small_world(budget: usize, seed: u64) -> World {
    let mut plan = plan_of(1);
    plan.limits.large_frame_bytes_max = budget;
    World::new(plan, seed).one_worker()
}

#[test]
fn room_is_reserved_once_64_kib_are_here_and_given_back_with_the_frame() {
    let mut world = small_world(8 << 20, 1);
    let client = world.connect(0);
    let frame = large(1);
    world.send(client, &frame[..60_000]);
    assert_eq!(world.gateway.large_frame_bytes(), 0);
    world.send(client, &frame[60_000..70_000]);
    assert_eq!(world.gateway.large_frame_bytes(), frame.len());
    world.send(client, &frame[70_000..]);
    assert_eq!(world.gateway.large_frame_bytes(), 0);
    world.echo();
    assert_eq!(world.message(client).id(), 1);
}

#[test]
fn a_frame_without_room_waits_with_its_clock_standing_and_goes_on_when_there_is_some() {
    let mut world = small_world(3 << 19, 2);
    let clients: Vec<Peer> = (1..=2).map(|last| world.connect_from(0, [127, 0, 0, last])).collect();
    let frames = [large(1), large(2)];
    for (client, frame) in clients.iter().zip(&frames) {
        world.send(*client, &frame[..100_000]);
    }
    assert_eq!((world.is_reading(clients[0]), world.is_reading(clients[1])), (true, false));
    // The first one comes as slowly as it may, the second one waits for far longer than a frame may take.
    for part in frames[0][100_000..].chunks(40_000).take(10) {
        world.advance(5_500);
        world.send(clients[0], part);
    }
    assert!(!world.is_closed(clients[0]) && !world.is_closed(clients[1]));
    world.advance(6_000);
    assert_eq!(world.reason(clients[0]), Some(CloseReason::FrameDeadline));
    assert!(world.is_reading(clients[1]));
    world.send(clients[1], &frames[1][100_000..]);
    world.echo();
    assert_eq!((world.message(clients[1]).id(), world.gateway.large_frame_bytes()), (2, 0));
}

#[test]
fn a_frame_that_comes_too_slowly_ends_its_connection() {
    let mut world = small_world(8 << 20, 3);
    let client = world.connect(0);
    world.send(client, &large(1)[..19_000]);
    world.advance(4_900);
    assert!(!world.is_closed(client));
    world.advance(200);
    assert_eq!(world.reason(client), Some(CloseReason::FrameRate));
}

#[test]
fn a_source_with_a_quarter_of_the_room_waits_while_others_go_on() {
    let mut world = small_world(5 << 20, 4);
    let frame = large(1);
    let same: Vec<Peer> = (0..2).map(|_| world.connect_from(0, [127, 0, 0, 1])).collect();
    let other = world.connect_from(0, [127, 0, 0, 2]);
    for client in [same[0], same[1], other] {
        world.send(client, &frame[..100_000]);
    }
    let reading = [same[0], same[1], other].map(|client| world.is_reading(client));
    assert_eq!((reading, world.gateway.large_frame_bytes()), ([true, false, true], 2 * frame.len()));
    world.cut(same[0]);
    world.advance(50);
    assert!(world.is_reading(same[1]));
    world.end(other);
    assert_eq!(world.reason(other), Some(CloseReason::PeerClosedMidFrame));
    assert_eq!(world.gateway.large_frame_bytes(), frame.len());
}

#[test]
fn deadlines_are_looked_at_when_they_come_and_not_in_between() {
    let mut world = small_world(1 << 20, 5);
    let client = world.connect(0);
    world.send(client, &Call::new(1, b"x").timeout_ms(60_000).bytes());
    let before = world.turns;
    world.advance(59_000);
    let heartbeats = 3 * 4;
    assert!(world.turns - before <= heartbeats + 4, "{} turns for a minute of waiting", world.turns - before);
}
