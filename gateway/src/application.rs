//! The application that the engine runs: makes the machine of every connection, and counts and logs its end.
//!
//! The control plane (start, resolver, drain, admin) talks to the data path through [`Gateway`] alone. It opens no socket
//! and starts no thread.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bowline_engine::machine::{Accepted, Application, CloseCause, Closed, Frozen, Lost, Machine, ThawError};
use bowline_engine::time::Time;

use crate::cluster::EndpointView;
use crate::config::plan::Plan;
use crate::config::plan::Protocol;
use crate::connection::Arrived;
use crate::connection::Downstream;
use crate::connection::Echo;
use crate::connection::Front;
use crate::connection::HttpDownstream;
use crate::connection::HttpUpstream;
use crate::connection::Kind;
use crate::connection::Tunnel;
use crate::connection::Upstream;
use crate::error::CloseReason;
use crate::logging;
use crate::logging::ClosedConnection;
use crate::mail::Mail;
use crate::metrics::Count;
use crate::metrics::Counters;
use crate::worker::Shared;
use crate::worker::Worker;

/// The proxy as an application of the engine.
#[derive(Clone, Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// The gateway that `plan` describes. Endpoints that are names, and the embedded upstream, are unknown until
    /// [`Gateway::set_endpoints`] says where they are.
    pub fn new(plan: Arc<Plan>, counters: Arc<Counters>) -> Gateway {
        Gateway { shared: Arc::new(Shared::new(plan, counters)) }
    }

    /// Replaces the endpoints of a cluster.
    ///
    /// # Panics
    /// If the plan has no such cluster.
    pub fn set_endpoints(&self, cluster: usize, addresses: &[SocketAddr]) {
        self.shared.clusters[cluster].set_endpoints(addresses);
    }

    /// The endpoints of a cluster.
    ///
    /// # Panics
    /// If the plan has no such cluster.
    pub fn endpoints(&self, cluster: usize, now: Time) -> Vec<EndpointView> {
        self.shared.clusters[cluster].views(now)
    }

    /// The clusters that the embedded upstream serves.
    pub fn echo_clusters(&self) -> impl Iterator<Item = usize> {
        let clusters = self.shared.plan.clusters.iter().enumerate();
        clusters.filter(|(_, cluster)| cluster.echo).map(|(at, _)| at)
    }

    /// The listener index of the embedded upstream: the one behind those of the plan.
    pub fn echo_listener(&self) -> u16 {
        u16::try_from(self.shared.plan.listeners.len()).unwrap_or(u16::MAX)
    }

    /// Says that everything must have ended by `deadline`. Connections that are open are told by [`Mail::Drain`].
    pub fn begin_drain(&self, deadline: Time) {
        self.shared.begin_drain(deadline);
    }

    /// Open connections of clients.
    pub fn downstreams(&self) -> usize {
        self.shared.downstreams()
    }

    /// Bytes reserved for large frames that are arriving.
    pub fn large_frame_bytes(&self) -> usize {
        self.shared.large_frames.used_bytes()
    }

    /// The listener's name; that of the upstream side for connections that this process opened.
    pub fn listener_name(&self, listener: Option<u16>) -> &str {
        match listener {
            None => "upstream",
            Some(listener) => self.shared.listener(listener).map_or("echo", |listener| &listener.name),
        }
    }
}

impl Application for Gateway {
    type Mail = Mail;
    type Local = Worker;

    fn local(&self, worker: usize) -> Worker {
        Worker::new(Arc::clone(&self.shared), worker)
    }

    fn accept(
        &self,
        local: &mut Worker,
        listener: u16,
        _peer: SocketAddr,
        accepted: &dyn Accepted,
    ) -> Option<Box<dyn Machine<Gateway>>> {
        if listener == self.echo_listener() {
            return Some(Box::new(Echo::default()));
        }
        let plan = self.shared.listener(listener)?;
        local.count(Count::DownstreamConnectionsAccepted);
        self.shared.note_downstream();
        let make = match plan.protocol {
            Protocol::Bolt => downstream,
            Protocol::Http => http_downstream,
            Protocol::Tcp => tunnel,
        };
        let wants_addresses = plan.protocol == Protocol::Tcp && self.shared.wants_addresses;
        let arrived = if wants_addresses { Arrived::of(accepted) } else { Arrived::default() };
        if plan.announced.is_some() {
            return Some(Box::new(Front::accepted(listener, arrived, make)));
        }
        Some(make(listener, arrived))
    }

    fn closed(&self, local: &mut Worker, record: &Closed) {
        let is_client = record.listener.is_some_and(|listener| self.shared.listener(listener).is_some());
        if is_client {
            self.shared.forget_downstream();
        }
        let reason = reason_of(record.cause);
        local.shard().close(reason);
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        logging::connection_closed(&ClosedConnection {
            id: record.address.as_u64(),
            peer: record.peer.unwrap_or(nowhere),
            listener: self.listener_name(record.listener),
            reason,
            age_ms: record.age_ms,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            requests: record.requests,
        });
    }

    fn orphaned(&self, _local: &mut Worker, mail: Mail) {
        // Places, pieces and everything else that mail carries are given back when it is dropped.
        drop(mail);
    }

    fn ebb(&self, local: &mut Worker) {
        local.free_spare();
    }

    fn thaw(&self, local: &mut Worker, frozen: &Frozen) -> Result<Box<dyn Machine<Gateway>>, ThawError> {
        match Kind::from_code(frozen.kind) {
            Some(Kind::Downstream) => Ok(Box::new(Downstream::thaw(local, frozen)?)),
            Some(Kind::Upstream) => Ok(Box::new(Upstream::thaw(local, frozen)?)),
            Some(Kind::Tunnel) => Ok(Box::new(Tunnel::thaw(local, frozen)?)),
            Some(Kind::Echo) => Ok(Box::new(Echo::thaw(frozen)?)),
            Some(Kind::HttpDownstream) => Ok(Box::new(HttpDownstream::thaw(frozen)?)),
            Some(Kind::HttpUpstream) => Ok(Box::new(HttpUpstream::thaw(local, frozen)?)),
            None => Err(ThawError(format!("kind {} is unknown", frozen.kind))),
        }
    }
}

fn downstream(listener: u16, _: Arrived) -> Box<dyn Machine<Gateway>> {
    Box::new(Downstream::new(listener))
}

fn http_downstream(listener: u16, _: Arrived) -> Box<dyn Machine<Gateway>> {
    Box::new(HttpDownstream::new(listener))
}

fn tunnel(listener: u16, arrived: Arrived) -> Box<dyn Machine<Gateway>> {
    Box::new(Tunnel::accepted(listener, arrived))
}

/// The one word for the end of a connection.
pub fn reason_of(cause: CloseCause) -> CloseReason {
    match cause {
        CloseCause::Machine(index) => {
            CloseReason::from_index(usize::from(index)).unwrap_or(CloseReason::MachineFault)
        }
        CloseCause::Failed(error) => CloseReason::of_connect(error),
        CloseCause::Lost(Lost::Reset) => CloseReason::PeerReset,
        CloseCause::Lost(Lost::TimedOut) => CloseReason::KernelTimeout,
        CloseCause::Lost(Lost::Broken) => CloseReason::SocketError,
        CloseCause::Lost(Lost::MemoryCeiling) => CloseReason::MemoryCeiling,
        CloseCause::Lost(Lost::Stuck) => CloseReason::MachineFault,
        CloseCause::Lost(Lost::Shutdown) => CloseReason::Shutdown,
    }
}
