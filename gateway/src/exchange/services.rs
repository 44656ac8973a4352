//! The services that requests in flight named, kept only while access lines are written: a line is written when a request
//! ends, and by then its bytes are gone. Each is cut to a bound, so that a client cannot make the log hold its headers.

use std::collections::HashMap;

/// Services by the keys of their exchanges. They lie in the table itself, which keeps its memory when they go.
#[derive(Debug, Default)]
pub struct Services(HashMap<u32, Service>);

/// The beginning of a service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    length: u8,
    bytes: [u8; SERVICE_BYTES_MAX],
}

impl Service {
    fn of(service: &[u8]) -> Service {
        let kept = service.len().min(SERVICE_BYTES_MAX);
        let mut bytes = [0; SERVICE_BYTES_MAX];
        bytes[..kept].copy_from_slice(&service[..kept]);
        Service { length: kept as u8, bytes }
    }

    /// What is kept of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Services {
    /// Keeps the first [`SERVICE_BYTES_MAX`] of a service; nothing of an empty one.
    pub fn note(&mut self, key: u32, service: &[u8]) {
        if !service.is_empty() {
            self.0.insert(key, Service::of(service));
        }
    }

    /// The service of an exchange that ends; asked once.
    pub fn take(&mut self, key: u32) -> Option<Service> {
        self.0.remove(&key)
    }

    /// The service of an exchange.
    pub fn of(&self, key: u32) -> &[u8] {
        self.0.get(&key).map_or(&[], Service::as_bytes)
    }

    /// How many it has room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

/// Bytes of a service that are kept and written.
pub const SERVICE_BYTES_MAX: usize = 128;

const _: () = assert!(SERVICE_BYTES_MAX <= u8::MAX as usize, "a length takes one byte");

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
        assert_eq!(services.take(1).expect("it was kept").as_bytes(), b"demo");
        assert!(services.take(1).is_none() && services.take(3).is_none());
    }
}
