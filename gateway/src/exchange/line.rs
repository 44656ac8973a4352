//! What the access line of an HTTP request will say of it, kept only while access lines are written: by the time a request
//! ends, its head is gone. Each part is cut to a bound. Boxes of it are used again by workers.

/// Method, authority and path of a request, as text.
#[derive(Debug, Default)]
pub struct Line(String);

impl Line {
    /// Says `method authority``path`; what is no UTF-8 is replaced.
    pub fn write(&mut self, method: &[u8], authority: &[u8], path: &[u8]) {
        self.0.clear();
        self.push(method);
        self.0.push(' ');
        self.push(authority);
        self.push(path);
    }

    fn push(&mut self, part: &[u8]) {
        self.0.push_str(&String::from_utf8_lossy(&part[..part.len().min(PART_BYTES_MAX)]));
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Empties it for another; a large one gives its memory back.
    pub fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(BYTES_KEPT);
    }
}

/// Bytes of each part.
const PART_BYTES_MAX: usize = 1_024;
/// Memory that an empty one keeps.
const BYTES_KEPT: usize = 3 * PART_BYTES_MAX + 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_its_memory_is_used_again() {
        let mut line = Line::default();
        line.write(b"GET", b"a.example", b"/b\xff");
        assert_eq!(line.as_str(), "GET a.example/b\u{fffd}");
        line.clear();
        let made = allocation_counter::measure(|| line.write(b"GET", b"a.example", b"/b")).count_total;
        assert_eq!((made, line.as_str()), (0, "GET a.example/b"));
        line.write(b"GET", b"a", &[b'x'; 4_000]);
        assert_eq!(line.as_str().len(), 3 + 1 + 1 + PART_BYTES_MAX);
        // Each byte that is no UTF-8 takes three.
        let odd = [0xff; PART_BYTES_MAX];
        line.write(&odd, &odd, &odd);
        assert!(line.0.capacity() > BYTES_KEPT);
        line.clear();
        assert!(line.0.capacity() <= BYTES_KEPT);
    }
}
