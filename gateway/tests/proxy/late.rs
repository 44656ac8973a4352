//! Mail that comes late: what a client's connection said to a server's connection that it had, once somebody else has that
//! connection, or another one has its slot. Nothing is promised of the order of mail from different senders.

use bowline_gateway::error::CloseReason;

use crate::http::{find, get, http_plan, http_world, ok};
use crate::world::{Peer, World, tunnel_plan};

/// A client that has asked and gone, and its server. What its connection said at the end is still on its way.
fn forsaken(seed: u64) -> (World, Peer) {
    let mut world = http_world(http_plan(1), seed);
    let client = world.connect(0);
    world.send(client, &get("/given-up"));
    let server = world.server();
    drop(world.take(server));
    world.delay_mail_of(client);
    world.cut(client);
    assert!(world.is_closed(client) && !world.is_closed(server), "the server does not know yet");
    (world, server)
}

/// A client asks for a WebSocket, and `server` agrees, or whichever was opened for it. The client's end and the server's.
fn upgrade(world: &mut World) -> (Peer, Peer) {
    let client = world.connect(0);
    world.send(
        client,
        b"GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let asked = |world: &mut World, server| find(&world.take(server), b"GET /chat ").is_some();
    let open = world.open_servers();
    let server = open.into_iter().find(|server| asked(world, *server)).expect("a server is asked");
    world.send(server, b"HTTP/1.1 101 Agreed\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(find(&world.take(client), b"\r\n\r\n").is_some(), "the tunnel is open");
    (client, server)
}

/// Opens pairs until one has this slot: whose slot a newcomer gets is up to the seed.
fn until_used_again(world: &mut World, slot: u32, open: impl Fn(&mut World) -> (Peer, Peer)) -> (Peer, Peer) {
    for _ in 0..100 {
        let (client, server) = open(world);
        if [client, server].iter().any(|end| world.slot(*end) == slot) {
            return (client, server);
        }
    }
    panic!("slot {slot} was not used again");
}

/// Bytes pass both ways, and end in order.
fn expect_open(world: &mut World, client: Peer, server: Peer) {
    world.send(client, b"\x81\x80\0\0\0\0");
    assert_eq!(world.take(server), b"\x81\x80\0\0\0\0");
    world.send(server, b"\x81\x00");
    assert_eq!(world.take(client), b"\x81\x00");
    world.end(client);
    world.end(server);
    assert_eq!(
        (world.reason(client), world.reason(server)),
        (Some(CloseReason::PeerClosed), Some(CloseReason::PeerClosed))
    );
}

#[test]
fn a_late_word_of_its_former_client_does_not_end_the_websocket_that_has_the_servers_connection_now() {
    let (mut world, server) = forsaken(1);
    world.send(server, &ok("for nobody"));
    let (next, its_server) = upgrade(&mut world);
    assert_eq!(its_server, server, "the connection was used again");
    world.let_mail_arrive();
    expect_open(&mut world, next, server);
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_late_word_of_its_former_client_does_not_end_the_request_that_has_the_servers_connection_now() {
    let (mut world, server) = forsaken(2);
    world.send(server, &ok("for nobody"));
    let next = world.connect(0);
    world.send(next, &get("/next"));
    assert!(find(&world.take(server), b"GET /next ").is_some(), "the connection was used again");
    world.let_mail_arrive();
    world.send(server, &ok("for the next"));
    assert_eq!(world.http(next).text(), "for the next");
}

#[test]
fn a_late_word_to_a_connection_that_is_gone_does_not_end_the_websocket_that_has_its_slot_now() {
    let (mut world, server) = forsaken(3);
    let slot = world.slot(server);
    world.end(server);
    assert!(world.is_closed(server));
    let (next, its_server) = until_used_again(&mut world, slot, upgrade);
    let orphans = world.stats().orphans;
    world.let_mail_arrive();
    assert_eq!(
        world.stats().orphans,
        orphans + 1,
        "it found neither its receiver nor, back again, its sender"
    );
    expect_open(&mut world, next, its_server);
}

#[test]
fn a_late_word_of_a_tunnel_that_is_gone_does_not_end_the_one_that_has_its_partners_slot_now() {
    let mut world = World::new(tunnel_plan(1), 4).one_worker();
    let client = world.connect(0);
    let server = world.server();
    let slot = world.slot(server);
    world.delay_mail_of(client);
    world.cut(client);
    world.cut(server);
    let (next, its_server) = until_used_again(&mut world, slot, |world| {
        let before = world.servers().len();
        (world.connect(0), world.servers()[before])
    });
    world.let_mail_arrive();
    expect_open(&mut world, next, its_server);
}
