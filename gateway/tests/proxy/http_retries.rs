//! The retry budget: what all clients of a cluster together may try again, for requests of HTTP and for tunnels. That one
//! request is tried again at all, and how often, is tested where requests fail.

use bowline_gateway::config::plan::Plan;
use bowline_gateway::error::{CloseReason, Failure};
use bowline_gateway::metrics::Count;

use crate::http::{get, http_plan, http_world, ok};
use crate::world::{Peer, REFUSES, World, server_address, tunnel_plan};

/// `plan` with a budget.
fn budgeted(mut plan: Plan, percent: u32, per_second: u32, burst: u32) -> Plan {
    let cluster = &mut plan.clusters[0];
    (cluster.retry_percent, cluster.retry_per_second, cluster.retry_burst_max) = (percent, per_second, burst);
    plan
}

/// A world whose servers all refuse, and are asked again after no more than a moment.
fn refusing_world(mut plan: Plan, seed: u64) -> World {
    (plan.clusters[0].reconnect_ms_min, plan.clusters[0].reconnect_ms_max) = (1, 1);
    let endpoints = plan.clusters[0].endpoints.len() as u16;
    let mut world = http_world(plan, seed);
    (1..=endpoints).for_each(|number| world.set_reach(server_address(number), REFUSES));
    world
}

/// One request whose used connection turns out to be stale; the answer's status.
fn ask_over_stale(world: &mut World, client: Peer) -> u16 {
    world.exchange(client, "/before");
    let used = world.server();
    world.send(client, &get("/a"));
    drop(world.take(used));
    world.end(used);
    if let Some(fresh) = world.open_servers().first().copied() {
        drop(world.take(fresh));
        world.send(fresh, &ok("x"));
    }
    world.http(client).status()
}

#[test]
fn servers_that_all_fail_get_a_fifth_more_than_was_asked_of_them() {
    let mut world = refusing_world(budgeted(http_plan(6), 20, 0, 10), 1);
    let client = world.connect(0);
    for _ in 0..200 {
        world.send(client, &get("/a"));
        assert!(matches!(world.http(client).status(), 502 | 503));
        world.advance(10);
    }
    // The first request finds the budget full and adds nothing.
    assert_eq!(world.total(Count::Retries), 10 + 199 / 5);
    assert_eq!(world.total(Count::UpstreamConnectFailures), 200 + 10 + 199 / 5);
    let refused = world.total(Count::RetriesRefused);
    assert_eq!((world.failures(Failure::RetryBudget), refused > 100), (refused, true));
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn a_request_that_is_repeated_since_its_used_connection_was_stale_is_paid_for_too() {
    let mut world = http_world(budgeted(http_plan(1), 10, 0, 2), 2);
    let client = world.connect(0);
    let statuses: Vec<_> = (0..30).map(|_| ask_over_stale(&mut world, client)).collect();
    let repeated = statuses.iter().filter(|status| **status == 200).count() as u64;
    // Two requests a round add a tenth each, but for the first two, which find the budget full.
    assert_eq!((repeated, world.total(Count::Retries)), (2 + 58 / 10, repeated));
    assert_eq!(world.failures(Failure::RetryBudget), 30 - repeated);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert_eq!(world.held(0), (0, 0));
}

#[test]
fn every_second_adds_to_the_budget_whatever_is_requested() {
    let mut world = http_world(budgeted(http_plan(1), 0, 10, 3), 3);
    let client = world.connect(0);
    let repeated = |world: &mut World, rounds: usize| {
        (0..rounds).filter(|_| ask_over_stale(world, client) == 200).count()
    };
    assert_eq!(repeated(&mut world, 6), 3, "what it began with");
    world.advance(200);
    assert_eq!(repeated(&mut world, 6), 2);
    world.advance(60_000);
    assert_eq!(repeated(&mut world, 6), 3, "and no more is saved");
}

#[test]
fn tunnels_have_the_same_budget_and_end_for_what_went_wrong() {
    let mut world = refusing_world(budgeted(tunnel_plan(6), 20, 0, 4), 4);
    for _ in 0..100 {
        let client = world.connect(0);
        assert_eq!(world.reason(client), Some(CloseReason::ConnectFailed));
        world.advance(10);
    }
    assert_eq!(world.total(Count::Retries), 4 + 99 / 5);
    assert_eq!(world.total(Count::UpstreamConnectFailures), 100 + 4 + 99 / 5);
    assert!(world.total(Count::RetriesRefused) > 50);
    assert_eq!(world.held(0), (0, 0));
}
