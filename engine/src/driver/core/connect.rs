//! A connection that is being opened, until it is established or has failed.
//!
//! Thousands may be opened at once, each for as long as its server takes, so one that waits has no box of load: its
//! deadline is that of the connect, and only a machine that arms its own meanwhile takes a box, for the other. It connects
//! nothing itself. Called by the drivers, and by the core when a machine arms.

use crate::driver::core::{ABORT, CONNECT_TIMED, CONNECTING, Core, Here, OPENED, Port, READING};
use crate::driver::kit::Kit;
use crate::driver::load::Load;
use crate::machine::{Application, CloseCause, Input, Machine, Open, OpenError};
use crate::time::{Tick, Time};

impl<A: Application> Core<A> {
    /// A connection that is to be opened; the box is empty.
    pub(crate) fn opening(
        machine: Box<dyn Machine<A>>,
        open: &Open,
        mut load: Box<Load>,
        now: Time,
    ) -> Core<A> {
        debug_assert!(load.is_empty(), "a box is given back when nothing is left in it");
        load.connect = Some(*open);
        Core {
            machine: Some(machine),
            load: Some(load),
            deadline: Tick::ceil(now.after_ms(open.timeout_ms)),
            flags: READING | CONNECTING | OPENED | CONNECT_TIMED,
            end: None,
        }
    }

    /// Where a connection that is being opened goes, until it was asked once.
    pub(crate) fn take_connect(&mut self) -> Option<Open> {
        self.load.as_mut()?.connect.take()
    }

    /// True until the connection is established.
    pub(crate) fn is_connecting(&self) -> bool {
        self.has(CONNECTING)
    }

    /// Takes the deadline of the machine; that of the connect moves into a box.
    pub(super) fn arm(&mut self, deadline: Tick, kit: &mut Kit<A>) {
        if self.has(CONNECT_TIMED) {
            if deadline == Tick::NEVER {
                return;
            }
            self.load.get_or_insert_with(|| kit.take_load()).limit = self.deadline;
            self.set(CONNECT_TIMED, false);
        }
        self.deadline = deadline;
    }

    /// The connection is established.
    pub(crate) fn on_open(&mut self, here: &Here, kit: &mut Kit<A>, port: &mut dyn Port<A>) {
        self.set(CONNECTING, false);
        if self.has(CONNECT_TIMED) {
            self.set(CONNECT_TIMED, false);
            self.deadline = Tick::NEVER;
        }
        if let Some(load) = &mut self.load {
            load.limit = Tick(0);
        }
        self.call(Input::Opened, here, kit, port);
    }

    /// The connection could not be established: the machine's last input.
    pub(crate) fn on_failed(
        &mut self,
        error: OpenError,
        here: &Here,
        kit: &mut Kit<A>,
        port: &mut dyn Port<A>,
    ) {
        self.call(Input::Failed(error), here, kit, port);
        self.end = Some(CloseCause::Failed(error));
        self.disarm();
        self.set(ABORT, true);
    }
}
