//! Owns [`Span`], a place inside one message. Refuses to hold the bytes themselves: whoever
//! owns the buffer resolves a span when it needs to look. Used by every codec and by routing.

/// A range of bytes, relative to the first byte of its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// A span of `len` bytes from `start`.
    pub const fn new(start: u32, len: u32) -> Self {
        Self { start, len }
    }

    /// The offset just behind the last byte.
    pub const fn end(self) -> u32 {
        self.start.saturating_add(self.len)
    }

    /// True when the span holds no byte.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The bytes it names in `message`; empty when `message` is too short to hold them.
    pub fn of(self, message: &[u8]) -> &[u8] {
        message.get(self.start as usize..self.end() as usize).unwrap_or_default()
    }

    /// The same place seen from `base` bytes earlier.
    pub const fn shifted(self, base: u32) -> Self {
        Self { start: self.start.saturating_add(base), len: self.len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_its_bytes() {
        assert_eq!(Span::new(2, 3).of(b"abcdefg"), b"cde");
        assert_eq!(Span::new(1, 2).shifted(2).of(b"abcdefg"), b"de");
    }

    #[test]
    fn is_empty_outside_of_the_message() {
        assert_eq!(Span::new(5, 3).of(b"abcdefg"), b"");
        assert_eq!(Span::new(u32::MAX, u32::MAX).of(b"abcdefg"), b"");
        assert!(Span::default().is_empty() && !Span::new(0, 1).is_empty());
    }
}
