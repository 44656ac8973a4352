//! Brings a planned gateway up, in the order in which failures are cheapest: admin address, listeners, the embedded
//! upstream, names, admin answers. What it returns is all there is of the running process; dropping it takes it down.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use bowline_engine::engine::Engine;
use bowline_engine::engine::Handle;
use bowline_engine::engine::StartError;
use bowline_engine::options;
use bowline_engine::options::Options;
use bowline_engine::options::SocketOptions;

use crate::admin::Admin;
use crate::admin::AdminState;
use crate::admin::AdminThread;
use crate::admin::Readiness;
use crate::admin::ReadinessCell;
use crate::application::Gateway;
use crate::config::plan::AcceptMode;
use crate::config::plan::Dispatch;
use crate::config::plan::EngineMode;
use crate::config::plan::EnginePlan;
use crate::config::plan::Plan;
use crate::logging::DroppedLines;
use crate::metrics::Counters;
use crate::metrics::Metrics;
use crate::metrics::SampleSource;
use crate::resolve::Publish;
use crate::resolve::Resolver;
use crate::resolve::system_lookup;

use super::Trouble;
use super::listing::Listing;
use super::names;
use super::names::Names;
use super::samples::Samples;

/// A gateway that is up. Fields are dropped in this order: nobody asks an engine that is going down.
pub(super) struct Running {
    admin: Option<AdminThread>,
    resolver: Resolver,
    names: usize,
    engine: Engine<Gateway>,
    pub(super) gateway: Gateway,
    pub(super) plan: Arc<Plan>,
    pub(super) readiness: Arc<ReadinessCell>,
}

impl Running {
    /// Binds everything and starts every thread there will ever be.
    pub(super) fn start(plan: Plan, dropped: DroppedLines) -> Result<Running, Trouble> {
        let plan = Arc::new(plan);
        let admin = plan.admin.map(|address| bind_admin(address, &plan.places.admin)).transpose()?;
        let counters = Counters::new(plan.engine.workers);
        let gateway = Gateway::new(Arc::clone(&plan), Arc::clone(&counters));
        let engine = start_engine(&plan, &gateway)?;
        if let Some(echo) = engine.addresses().get(usize::from(gateway.echo_listener())) {
            gateway.echo_clusters().for_each(|cluster| gateway.set_endpoints(cluster, &[*echo]));
        }
        let readiness = Arc::new(ReadinessCell::default());
        let handle = engine.handle();
        let samples = Samples::new(Arc::clone(&plan), gateway.clone(), handle.clone());
        let sources: Vec<Arc<dyn SampleSource>> = vec![Arc::new(samples), Arc::new(dropped)];
        let state = AdminState {
            readiness: Arc::clone(&readiness),
            metrics: Metrics::new(Arc::clone(&counters), sources),
            connections: Arc::new(Listing::new(&plan, gateway.clone(), handle)),
        };
        let admin = admin.map(|admin| admin.start(state)).transpose();
        let admin =
            admin.map_err(|error| Trouble::failure(format!("cannot start the admin interface: {error}")))?;
        let (resolver, names) = start_resolver(&plan, &gateway, counters)?;
        Ok(Running { admin, resolver, names, engine, gateway, plan, readiness })
    }

    /// The running engine.
    pub(super) fn handle(&self) -> Handle<Gateway> {
        self.engine.handle()
    }

    /// Where the listeners of the plan are bound, in its order.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        let bound = self.engine.addresses();
        &bound[..self.plan.listeners.len().min(bound.len())]
    }

    /// Where the admin interface is bound.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminThread::address)
    }

    /// True once every name was looked up at least once.
    pub(super) fn has_tried_names(&self) -> bool {
        self.resolver.tries() >= self.names
    }

    /// Sets what `/readyz` answers.
    pub(super) fn set_readiness(&self, readiness: Readiness) {
        self.readiness.set(readiness);
    }
}

fn bind_admin(address: SocketAddr, place: &str) -> Result<Admin, Trouble> {
    Admin::bind(address).map_err(|error| {
        Trouble::failure(format!(
            "{place}: cannot listen on {address} for the admin interface: {error}; say another address or off with --admin"
        ))
    })
}

fn start_engine(plan: &Plan, gateway: &Gateway) -> Result<Engine<Gateway>, Trouble> {
    let mut listen: Vec<SocketAddr> = plan.listeners.iter().map(|listener| listener.address).collect();
    if gateway.echo_clusters().next().is_some() {
        debug_assert_eq!(listen.len(), usize::from(gateway.echo_listener()));
        listen.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    }
    // The embedded upstream's connections are this process talking to itself.
    let announced = (0_u16..).zip(&plan.listeners).filter(|(_, listener)| listener.announced.is_some());
    let options = Options {
        announced_listeners: announced.map(|(at, _)| at).collect(),
        own_listener: Some(gateway.echo_listener()),
        ..options(&plan.engine)
    };
    let started = Engine::start(Arc::new(gateway.clone()), options, &listen);
    started.map_err(|error| Trouble::failure(start_message(&error, plan)))
}

/// Why the engine did not start, with the place where the address was said.
fn start_message(error: &StartError, plan: &Plan) -> String {
    let listener = plan.listeners.iter().position(|listener| Some(listener.address) == error.address);
    match listener.and_then(|at| plan.places.listeners.get(at)) {
        Some(place) => format!("{place}: {error}"),
        None => error.to_string(),
    }
}

fn start_resolver(
    plan: &Plan,
    gateway: &Gateway,
    counters: Arc<Counters>,
) -> Result<(Resolver, usize), Trouble> {
    let (jobs, names) = (names::jobs(plan), Names::new(plan));
    let (count, gateway) = (jobs.len(), gateway.clone());
    let publish: Publish = Arc::new(move |cluster, entry, addresses| {
        gateway.set_endpoints(cluster, &names.answer(cluster, entry, addresses));
    });
    let resolver = Resolver::start(jobs, system_lookup(), publish, counters);
    resolver
        .map(|resolver| (resolver, count))
        .map_err(|error| Trouble::failure(format!("cannot start the resolver: {error}")))
}

/// What the engine is started with.
pub(super) fn options(plan: &EnginePlan) -> Options {
    let dispatch = match plan.dispatch {
        Dispatch::Help => options::Dispatch::Help,
        Dispatch::Handoff => options::Dispatch::Handoff,
    };
    Options {
        mode: match plan.mode {
            EngineMode::Raw => options::Mode::Raw(dispatch),
            EngineMode::Tokio => options::Mode::Tokio,
        },
        reactors: plan.reactors,
        workers: plan.workers,
        pin_cores: plan.pin_cores,
        accept: match plan.accept {
            AcceptMode::Shared => options::Accept::Shared,
            AcceptMode::Reuseport => options::Accept::Reuseport,
        },
        rebalance: if plan.rebalance { options::Rebalance::On } else { options::Rebalance::Off },
        read_budget_bytes: plan.read_budget_bytes,
        buffer_bytes_max: plan.buffer_memory_bytes_max,
        connections_max: plan.connections_max,
        connections_per_source_max: plan.connections_per_source_max,
        announced_listeners: Vec::new(),
        own_listener: None,
        socket: SocketOptions::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::plan::ListenerPlan;

    #[test]
    fn an_address_that_is_taken_is_named_with_the_place_where_it_was_said() {
        let mut plan = Plan::default();
        let second =
            ListenerPlan { address: "127.0.0.1:7".parse().expect("one"), ..plan.listeners[0].clone() };
        plan.listeners.push(second);
        plan.places.listeners = vec!["--listen".to_owned(), "a.yaml:3:14".to_owned()];
        let taken = |address: &str| StartError {
            address: Some(address.parse().expect("an address")),
            error: io::Error::from(io::ErrorKind::AddrInUse),
        };
        let said = start_message(&taken("127.0.0.1:7"), &plan);
        assert!(said.starts_with("a.yaml:3:14: cannot listen on 127.0.0.1:7: "), "{said}");
        let said = start_message(&taken("127.0.0.1:8"), &plan);
        assert!(said.starts_with("cannot listen on 127.0.0.1:8: "), "nobody said it: {said}");
        let said = start_message(&io::Error::from(io::ErrorKind::OutOfMemory).into(), &plan);
        assert!(said.starts_with("cannot start the engine: "), "{said}");
    }

    #[test]
    fn every_setting_of_the_plan_reaches_the_engine() {
        let plan = EnginePlan {
            mode: EngineMode::Raw,
            dispatch: Dispatch::Handoff,
            reactors: 3,
            workers: 5,
            pin_cores: true,
            read_budget_bytes: 7,
            buffer_memory_bytes_max: 11,
            connections_max: 13,
            connections_per_source_max: Some(17),
            accept: AcceptMode::Reuseport,
            rebalance: false,
        };
        let made = options(&plan);
        assert_eq!(made.mode, options::Mode::Raw(options::Dispatch::Handoff));
        assert_eq!((made.reactors, made.workers, made.pin_cores), (3, 5, true));
        assert_eq!((made.read_budget_bytes, made.buffer_bytes_max), (7, 11));
        assert_eq!((made.connections_max, made.connections_per_source_max), (13, Some(17)));
        assert_eq!((made.accept, made.rebalance), (options::Accept::Reuseport, options::Rebalance::Off));
        let tokio = EnginePlan { mode: EngineMode::Tokio, ..plan };
        assert_eq!(options(&tokio).mode, options::Mode::Tokio);
    }
}
