//! The proxy core as a whole, in memory: machines under the engine's contract, peers played by the test, a clock that only
//! the test moves. Every behaviour and every failure of the gateway is reached here without a socket.

mod bolt;
mod counting;
mod http;
mod world;

mod access;
mod bound;
mod chaos;
mod endings;
mod forward;
mod front;
mod hello;
mod http_attacks;
mod http_bodies;
mod http_cuts;
mod http_failures;
mod http_forward;
mod http_retries;
mod large;
mod late;
mod opening;
mod pressure;
mod streams_chaos;
mod tunnel;
mod websocket;
