//! The gateway as its users meet it: a process, real sockets, real clients and servers. Every case runs in every mode of
//! the matrix (see `bowline_tests::mode`), and every gateway must end with the threads it had when it was ready.
//! `BOWLINE_DEEP=1` makes the long cases as long as they were meant; without it they are shorter but the same.

mod access;
mod admin;
mod bulk;
mod configured;
mod drain;
mod failures;
mod faults;
mod framing;
mod http;
mod http_attacks;
mod interop;
mod limits;
mod load;
mod networks;
mod real_http;
mod sharing;
mod streams;
mod tunnel;
mod websocket;

/// `deep` under `BOWLINE_DEEP`, `short` otherwise.
fn deep_or<T>(deep: T, short: T) -> T {
    if std::env::var_os("BOWLINE_DEEP").is_some() { deep } else { short }
}
