//! Rules 8 and 9, and a connect that nothing answers: asked of the simulator, which alone has a seed, freezes machines and
//! owns its clock.

use std::net::SocketAddr;
use std::sync::Arc;

use bowline_engine::machine::{
    Accepted, Address, Application, Closed, Context, Freeze, Frozen, Input, Machine, Open, ThawError,
};
use bowline_engine::sim::{Holdings, LinkOptions, Peer, Sim, SimOptions};

/// An application of relays: what comes to the machines of listener 0 goes by mail to a partner that they open, and what
/// comes to that goes back.
struct Relays;

/// One side of a relay: all of its state is data.
#[derive(Clone, Copy, Default)]
struct Relay {
    partner: Option<Address>,
    is_opened: bool,
    passed: u64,
}

const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 7);

impl Application for Relays {
    type Mail = Vec<u8>;
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn accept(
        &self,
        _local: &mut (),
        _listener: u16,
        _peer: SocketAddr,
        _: &dyn Accepted,
    ) -> Option<Box<dyn Machine<Relays>>> {
        Some(Box::new(Relay::default()))
    }

    fn closed(&self, _local: &mut (), _record: &Closed) {}

    fn orphaned(&self, _local: &mut (), _mail: Vec<u8>) {}

    fn thaw(&self, _local: &mut (), frozen: &Frozen) -> Result<Box<dyn Machine<Relays>>, ThawError> {
        let passed = frozen.state.get(..8).and_then(|bytes| bytes.try_into().ok());
        let passed = passed.map(u64::from_be_bytes).ok_or_else(|| ThawError("too short".to_owned()))?;
        let is_opened = frozen.kind == 1;
        Ok(Box::new(Relay { partner: frozen.partners.first().copied(), is_opened, passed }))
    }
}

impl Machine<Relays> for Relay {
    fn on(&mut self, input: Input<'_, Relays>, context: &mut Context<'_, Relays>) {
        match input {
            Input::Opened if !self.is_opened => {
                let server = Relay { partner: Some(context.me), is_opened: true, passed: 0 };
                let open = Open::new(SERVER.into(), 1_000);
                self.partner = context.open(open, Box::new(server)).ok();
            }
            // Words of four bytes, so that what is left of one stays unread between calls.
            Input::Bytes(bytes) => {
                let whole = bytes.len() / 4 * 4;
                self.passed += whole as u64;
                let word = bytes.bytes()[..whole].to_vec();
                bytes.consume(whole);
                if let Some(partner) = self.partner.filter(|_| whole > 0) {
                    context.send(partner, word);
                }
            }
            // Nothing, said by a side that could not be opened, is goodbye.
            Input::Failed(_) => {
                self.partner.into_iter().for_each(|partner| context.send(partner, Vec::new()))
            }
            Input::Mail { mail, .. } if mail.is_empty() => context.close(0),
            Input::Mail { mail, .. } => assert!(context.write_copy(&mail), "there is memory"),
            Input::EndOfStream | Input::Bounced { .. } => context.close(0),
            _ => {}
        }
    }

    fn freeze(&self) -> Freeze {
        Freeze::Frozen(Frozen {
            version: 1,
            kind: u16::from(self.is_opened),
            state: self.passed.to_be_bytes().to_vec(),
            partners: self.partner.into_iter().collect(),
            tail: Vec::new(),
            output: Vec::new(),
        })
    }
}

fn rough(seed: u64, freezes_in_1024: u32) -> SimOptions {
    let link =
        LinkOptions { delay_ms_max: 5, segment_bytes_max: Some(7), send_buffer_bytes: 64, is_short: true };
    SimOptions { seed, workers: 3, link, freezes_in_1024, keeps_text: true, ..SimOptions::default() }
}

/// What every client sends.
const BYTES: usize = 400;

/// What a relay is given: three clients send, the server sends back, everything moves now and then.
fn relayed(seed: u64, freezes_in_1024: u32, moves: bool) -> Sim<Relays> {
    let mut sim = Sim::new(Arc::new(Relays), rough(seed, freezes_in_1024));
    let clients: Vec<Peer> =
        (0..3).map(|port| sim.connect(0, SocketAddr::from(([10, 0, 0, 2], port)))).collect();
    let text = |client: usize| -> Vec<u8> { (0..BYTES).map(|at| (at * 7 + client) as u8).collect() };
    for (number, client) in clients.iter().enumerate() {
        sim.send(*client, &text(number));
    }
    let mut got = vec![Vec::new(); 3];
    for step in 0.. {
        assert!(step < 20_000, "seed {seed}: it does not come to rest");
        while let Some(peer) = sim.take_touched() {
            let bytes = sim.take(peer);
            match clients.iter().position(|client| *client == peer) {
                Some(client) => got[client].extend(bytes),
                None => sim.send(peer, &bytes),
            }
        }
        if moves && step % 50 == 0 {
            sim.move_all();
        }
        let limit = sim.now().after_ms(1_000);
        if got.iter().all(|got| got.len() == BYTES) && !sim.step(limit) {
            break;
        }
        sim.step(limit);
    }
    for (number, got) in got.iter().enumerate() {
        assert!(*got == text(number), "seed {seed}: client {number} gets back what it sent");
    }
    for client in clients {
        sim.finish(client);
    }
    for server in sim.servers().to_vec() {
        sim.finish(server);
    }
    sim.advance(30_000);
    assert_eq!(sim.holdings(), Holdings::default(), "seed {seed}");
    sim
}

#[test]
fn rule_8_one_seed_gives_one_trace() {
    for seed in 0..20 {
        let (first, second) = (relayed(seed, 200, true), relayed(seed, 200, true));
        assert_eq!(first.trace_text(), second.trace_text());
        assert_eq!(first.trace_digest(), second.trace_digest());
        assert_ne!(first.trace_digest(), relayed(seed + 1_000, 200, true).trace_digest());
    }
}

#[test]
fn rule_9_a_machine_is_frozen_and_thawed_and_nobody_notices() {
    let frozen: u64 = (0..40).map(|seed| relayed(seed, 512, false).stats().freezes).sum();
    assert!(frozen > 1_000, "only {frozen} machines were frozen");
}

#[test]
fn rule_9_everything_moves_to_new_addresses_with_unread_bytes_and_unwritten_output() {
    let moves: u64 = (0..40).map(|seed| relayed(seed, 0, true).stats().moves).sum();
    assert!(moves > 100, "everything moved only {moves} times");
}

#[test]
fn rule_9_a_connection_that_is_being_opened_is_not_asked() {
    let mut sim = Sim::new(Arc::new(Relays), rough(1, 1_024));
    sim.set_reach(SERVER.into(), bowline_engine::sim::Reach::Silent);
    let client = sim.connect(0, SocketAddr::from(([10, 0, 0, 2], 1)));
    sim.advance(500);
    assert!(sim.servers().is_empty() && !sim.move_all());
    sim.send(client, b"1234");
    // The connect times out; what was sent to it comes back, and the client's side ends.
    sim.advance(2_000);
    assert_eq!(sim.address(client), None);
    assert_eq!(sim.holdings(), Holdings::default());
}
