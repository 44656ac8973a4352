//! The services that requests in flight named, kept only while access lines are written: a line is written when a request
//! ends, and by then its bytes are gone. Each is cut to a bound, so that a client cannot make the log hold its headers.

use std::collections::BTreeMap;

/// Services by the keys of their exchanges.
#[derive(Debug, Default)]
pub struct Services(BTreeMap<u32, Box<[u8]>>);

impl Services {
    /// Keeps the first [`SERVICE_BYTES_MAX`] of a service; nothing of an empty one.
    pub fn note(&mut self, key: u32, service: &[u8]) {
        let kept = &service[..service.len().min(SERVICE_BYTES_MAX)];
        if !kept.is_empty() {
            self.0.insert(key, kept.into());
        }
    }

    /// The service of an exchange that ends; asked once.
    pub fn take(&mut self, key: u32) -> Box<[u8]> {
        self.0.remove(&key).unwrap_or_default()
    }

    /// The service of an exchange.
    pub fn of(&self, key: u32) -> &[u8] {
        self.0.get(&key).map_or(&[], |service| service)
    }
}

/// Bytes of a service that are kept and written.
pub const SERVICE_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_kept_for_its_exchange_once_and_cut() {
        let mut services = Services::default();
        services.note(1, b"demo");
        services.note(2, &[b'x'; 4_000]);
        services.note(3, b"");
        assert_eq!(
            (services.of(1), services.of(2).len(), services.0.len()),
            (&b"demo"[..], SERVICE_BYTES_MAX, 2)
        );
        assert_eq!(&*services.take(1), b"demo");
        assert!(services.take(1).is_empty() && services.take(3).is_empty());
    }
}
