//! A place: the right of requests to be in flight at an endpoint and of their bytes to be queued there (X5).
//!
//! It is taken before anything is sent, travels with the mail, gathers in the upstream connection and gives back what
//! is left of it when it is dropped, wherever that happens, so nothing is returned twice or forgotten.

use std::sync::Arc;

use super::endpoint::Endpoint;

/// Room at one endpoint, given back on drop.
#[derive(Debug)]
pub struct Place {
    endpoint: Arc<Endpoint>,
    requests: u32,
    bytes: u32,
}

impl Place {
    /// A place that holds nothing yet.
    pub fn empty(endpoint: Arc<Endpoint>) -> Place {
        Place { endpoint, requests: 0, bytes: 0 }
    }

    /// Room for one request of `bytes`, if there is any.
    pub fn take(endpoint: &Arc<Endpoint>, bytes: usize) -> Option<Place> {
        let mut place = Place::empty(Arc::clone(endpoint));
        place.extend(bytes).then_some(place)
    }

    /// Room that was admitted before, taken again after a thaw.
    pub fn again(endpoint: Arc<Endpoint>, requests: u32, bytes: u32) -> Place {
        endpoint.take_again(requests as usize, bytes as usize);
        Place { endpoint, requests, bytes }
    }

    /// Adds one more request of `bytes`; false, and nothing changed, if there is no room for it.
    pub fn extend(&mut self, bytes: usize) -> bool {
        let Some(sum) = u32::try_from(bytes).ok().and_then(|bytes| self.bytes.checked_add(bytes)) else {
            return false;
        };
        if !self.endpoint.take(1, bytes) {
            return false;
        }
        self.requests += 1;
        self.bytes = sum;
        true
    }

    /// Takes over what `other` holds. An endpoint that left the set and came back, or was thawed meanwhile, has counters
    /// anew: then the room is taken there, and given back where it was.
    pub fn merge(&mut self, mut other: Place) {
        debug_assert_eq!(self.endpoint.address(), other.endpoint.address(), "mail came to another endpoint");
        if !Arc::ptr_eq(&self.endpoint, &other.endpoint) {
            other = Place::again(Arc::clone(&self.endpoint), other.requests, other.bytes);
        }
        self.requests += std::mem::take(&mut other.requests);
        self.bytes = self.bytes.saturating_add(std::mem::take(&mut other.bytes));
    }

    /// So many requests have ended.
    pub fn end_requests(&mut self, requests: u32) {
        let ended = requests.min(self.requests);
        self.requests -= ended;
        self.endpoint.give_back(ended as usize, 0);
    }

    /// At most `bytes` are still queued.
    pub fn keep_bytes(&mut self, bytes: usize) {
        let keep = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes);
        let written = self.bytes - keep;
        self.bytes = keep;
        self.endpoint.give_back(0, written as usize);
    }

    /// The endpoint it is at.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Requests it holds room for.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Bytes it holds room for.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.endpoint.give_back(self.requests as usize, self.bytes as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::endpoint::Bounds;
    use super::*;

    fn endpoint(requests_max: usize, output_bytes_max: usize) -> Arc<Endpoint> {
        let bounds = Bounds { requests_max, output_bytes_max, reconnect_ms_min: 1, reconnect_ms_max: 1 };
        Arc::new(Endpoint::new(SocketAddr::from(([127, 0, 0, 1], 1)), bounds))
    }

    fn held(endpoint: &Endpoint) -> (usize, usize) {
        (endpoint.requests(), endpoint.output_bytes())
    }

    #[test]
    fn places_are_bounded_and_come_back_once() {
        let endpoint = endpoint(3, 1_000);
        let mut place = Place::take(&endpoint, 10).expect("room");
        assert!(place.extend(20));
        let other = Place::take(&endpoint, 30).expect("room");
        assert!(!place.extend(1) && Place::take(&endpoint, 1).is_none(), "three requests at most");
        place.merge(other);
        assert_eq!(held(&endpoint), (3, 60));
        place.end_requests(2);
        place.keep_bytes(15);
        assert_eq!(held(&endpoint), (1, 15));
        place.keep_bytes(500);
        assert_eq!(held(&endpoint), (1, 15), "what was written does not come back");
        drop(place);
        assert_eq!(held(&endpoint), (0, 0));
    }

    #[test]
    fn room_at_an_endpoint_whose_counters_are_new_is_taken_there_and_given_back_where_it_was() {
        let (old, new) = (endpoint(9, 100), endpoint(9, 100));
        let mut place = Place::empty(Arc::clone(&new));
        place.merge(Place::take(&old, 10).expect("room"));
        assert_eq!((held(&old), held(&new)), ((0, 0), (1, 10)));
        drop(place);
        assert_eq!((held(&old), held(&new)), ((0, 0), (0, 0)));
    }

    #[test]
    fn bytes_are_bounded_but_one_large_request_passes() {
        let endpoint = endpoint(9, 100);
        let large = Place::take(&endpoint, 5_000).expect("nothing else is queued");
        assert!(Place::take(&endpoint, 1).is_none());
        drop(large);
        let _first = Place::take(&endpoint, 60).expect("room");
        assert!(Place::take(&endpoint, 41).is_none());
        assert!(Place::take(&endpoint, 40).is_some());
        assert_eq!(held(&endpoint), (1, 60));
    }

    #[test]
    fn ending_more_than_there_is_ends_what_there_is() {
        let endpoint = endpoint(9, 100);
        let mut place = Place::take(&endpoint, 1).expect("room");
        place.end_requests(7);
        assert_eq!(held(&endpoint), (0, 1));
        let again = Place::again(Arc::clone(&endpoint), 2, 3);
        assert_eq!(held(&endpoint), (2, 4));
        drop((place, again));
        assert_eq!(held(&endpoint), (0, 0));
    }
}
