//! The raw mode.

mod hub;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::driver::control::{Control, StartError};
use crate::machine::Application;
use crate::options::Options;

/// Binds `listen` and starts every thread there will ever be.
pub(crate) fn start<A: Application>(
    _app: Arc<A>,
    _options: Options,
    _listen: &[SocketAddr],
) -> Result<(Arc<dyn Control<A>>, Vec<SocketAddr>), StartError> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into())
}
