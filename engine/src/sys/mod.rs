//! What the engine asks of Linux: readiness and sockets. One small file per facility; no policy, and no unsafe code so
//! far, since `nix` and `socket2` wrap all that is needed.

pub(crate) mod poller;
pub(crate) mod socket;
