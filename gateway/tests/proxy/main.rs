//! The proxy core as a whole, in memory: machines under the engine's contract, peers played by the test, a clock that only
//! the test moves. Every behaviour and every failure of the gateway is reached here without a socket.

mod bolt;
mod counting;
mod world;

mod access;
mod bound;
mod chaos;
mod endings;
mod forward;
mod front;
mod hello;
mod large;
mod opening;
mod pressure;
mod streams_chaos;
mod tunnel;
