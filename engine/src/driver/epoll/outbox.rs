//! Where a worker puts what has to run: slots that events found, slots that mail found, and mail itself.
//!
//! Owned by one worker. Event slots stand in a deque that others may steal from; mail slots in a list that they may not
//! (O4). It opens connections by claiming their slots and queueing them; it never touches a socket.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::driver::core::{Core, Note, Port};
use crate::driver::epoll::hub::{Hub, Own};
use crate::driver::epoll::queue::EventQueue;
use crate::driver::load::Load;
use crate::machine::{Address, Application, Open, OpenRefused};
use crate::slot::inbox::{Letters, Node};
use crate::slot::shared::{NO_LISTENER, Shared};
use crate::slot::table::{Held, Newcomer};
use crate::slot::word::Causes;
use crate::stats::WorkerCounts;
use crate::time::{Tick, Time};

/// Empty mail nodes that one worker keeps; more go to the depot that all share.
const SPARE_NODES_MAX: usize = 256;
/// Slots and hints for which there is always memory, once there was.
const QUEUE_KEPT: usize = 64;

/// What one worker has queued.
pub(crate) struct Outbox<A: Application> {
    /// Slots that events found, and what a release left over.
    pub(crate) events: EventQueue,
    /// Slots that got mail from this worker.
    pub(crate) mail: VecDeque<u32>,
    /// A slot was queued for mail after the worker read its clock.
    pub(crate) is_ahead: bool,
    /// Timer hints to be filed: home, slot, tick.
    pub(crate) hints: Vec<(usize, u32, Tick)>,
    /// The reactor that connections opened here have as their home.
    pub(crate) home: usize,
    spare: Vec<Box<Node<A::Mail>>>,
}

/// Delivers what one machine sends during its turn.
pub(crate) struct TurnPort<'a, A: Application> {
    pub(crate) hub: &'a Hub<A>,
    pub(crate) out: &'a mut Outbox<A>,
    pub(crate) shared: &'a Shared,
    pub(crate) me: Address,
    pub(crate) now: Time,
}

impl<A: Application> Outbox<A> {
    /// An empty outbox in front of `events`.
    pub(crate) fn new(events: EventQueue, home: usize) -> Outbox<A> {
        let (mail, hints, spare) = (VecDeque::new(), Vec::new(), Vec::new());
        Outbox { events, mail, is_ahead: false, hints, home, spare }
    }

    /// Frees the spare nodes, and the memory of long queues that are over.
    pub(crate) fn free_spare(&mut self) {
        self.spare = Vec::new();
        self.events.free_spare();
        self.mail.shrink_to(QUEUE_KEPT);
        self.hints.shrink_to(QUEUE_KEPT);
    }

    /// True if nothing waits to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.mail.is_empty() && self.events.is_empty()
    }

    /// Queues every slot that mail found where others may take it.
    pub(crate) fn share_mail(&mut self) {
        while let Some(index) = self.mail.pop_front() {
            self.events.push(index);
        }
    }

    fn node(&mut self, hub: &Hub<A>) -> Box<Node<A::Mail>> {
        self.spare.pop().or_else(|| hub.depot.pop()).unwrap_or_else(Node::new)
    }

    /// Takes an empty node back.
    pub(crate) fn keep_node(&mut self, node: Box<Node<A::Mail>>, hub: &Hub<A>) {
        debug_assert!(node.mail.is_none(), "a node is empty when it is given back");
        if self.spare.len() < SPARE_NODES_MAX {
            self.spare.push(node);
        } else {
            // A full depot means that enough are spare; then this one is freed.
            drop(hub.depot.push(node));
        }
    }

    fn send(&mut self, node: Box<Node<A::Mail>>, hub: &Hub<A>) -> Result<(), Box<Node<A::Mail>>> {
        let index = node.to.index;
        if hub.table.deliver(node)? {
            self.queue_mail(index);
        }
        Ok(())
    }

    fn queue_mail(&mut self, index: u32) {
        self.mail.push_back(index);
        self.is_ahead = true;
    }

    /// Sends mail back to whoever sent it (rule 4); what cannot be sent back is the application's to undo.
    pub(crate) fn bounce(
        &mut self,
        mut node: Box<Node<A::Mail>>,
        hub: &Hub<A>,
        local: &mut A::Local,
        counts: &WorkerCounts,
    ) {
        let returns = !node.bounced && node.from != Address::OUTSIDE;
        let unsent = if returns {
            let sender = node.from;
            (node.from, node.to, node.bounced) = (node.to, sender, true);
            counts.bounces.add(1);
            self.send(node, hub).err()
        } else {
            Some(node)
        };
        if let Some(mut node) = unsent {
            counts.orphans.add(1);
            if let Some(mail) = node.mail.take() {
                hub.app.orphaned(local, mail);
            }
            self.keep_node(node, hub);
        }
    }

    /// Sends every letter back.
    pub(crate) fn bounce_all(
        &mut self,
        letters: Letters<A::Mail>,
        hub: &Hub<A>,
        local: &mut A::Local,
        counts: &WorkerCounts,
    ) {
        for node in letters {
            self.bounce(node, hub, local, counts);
        }
    }

    /// Lets go of a slot and queues it in one step.
    pub(crate) fn requeue(&mut self, held: Held, causes: Causes, hub: &Hub<A>) {
        self.events.push(hub.table.requeue(held, causes));
    }
}

impl<A: Application> Port<A> for TurnPort<'_, A> {
    fn post(&mut self, to: Address, mail: A::Mail) {
        let mut node = self.out.node(self.hub);
        (node.to, node.from, node.bounced, node.mail) = (to, self.me, false, Some(mail));
        if let Err(mut node) = self.out.send(node, self.hub) {
            // An address that never named a connection: the sender gets it back like any other bounce.
            (node.to, node.from, node.bounced) = (self.me, to, true);
            assert!(self.out.send(node, self.hub).is_ok(), "the sender has a slot");
        }
    }

    fn open(
        &mut self,
        open: Open,
        machine: Box<dyn crate::machine::Machine<A>>,
        load: Box<Load>,
    ) -> Result<Address, OpenRefused<A>> {
        if self.hub.is_stopping() {
            return Err(OpenRefused(machine));
        }
        let own = Own::new(Core::opening(machine, &open, load, self.now));
        let newcomer = Newcomer { own, home: self.out.home, peer: Some(open.to), listener: NO_LISTENER };
        match self.hub.table.claim(self.now, newcomer) {
            Ok((held, address)) => {
                self.hub.note_home(self.out.home, 1);
                self.out.queue_mail(self.hub.table.requeue(held, Causes::AGAIN));
                Ok(address)
            }
            Err(mut newcomer) => {
                let machine = newcomer.own.core.take_machine().expect("it was just put in");
                Err(OpenRefused(machine))
            }
        }
    }

    fn set_peer(&mut self, peer: SocketAddr) -> bool {
        let granted = self.hub.admitted.rename(self.shared.peer().ip(), peer.ip());
        if granted {
            self.shared.set_peer(peer);
        }
        granted
    }

    fn publish(&mut self, note: Note) {
        note.show(self.shared, self.now);
    }
}
