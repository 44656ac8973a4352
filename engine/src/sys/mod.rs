//! What the engine asks of Linux: readiness, sockets, memory, processor time. One small file per facility; no policy. `nix` and `socket2`
//! wrap nearly all of it, so one call is unsafe.

pub(crate) mod poller;
pub(crate) mod socket;
pub(crate) mod memory;
pub(crate) mod cpu;
