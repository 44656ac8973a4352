//! Owns the small grammar that everything else is written in (RFC 9110 section 5.6): tokens, lists, quoted strings, and
//! which bytes a field value may hold. Judges bytes and keeps nothing; used by heads, chunk extensions and both codecs.

/// True for a byte of a token.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN_BYTES[byte as usize]
}

/// The same from the grammar, which the table is made of.
const fn stands_in_a_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// True for one token, which is not empty. Most are, so none of the bytes is left out; for a constant the compiler does it.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().fold(true, |sound, byte| sound & is_token_byte(*byte))
}

/// How many bytes of a token stand at the front.
pub(crate) fn len(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(bytes.len())
}

/// True when a field value may hold the byte (RFC 9110 section 5.5): no control but the tab.
pub(crate) const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

/// True when a field value may hold all of these.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    let plain_len = before_control(bytes);
    plain_len == bytes.len() || bytes[plain_len..].iter().all(|byte| is_value_byte(*byte))
}

/// How many bytes stand before the first control, or before the end. Eight are looked at in one word. One place in the code
/// for all who ask: a cold request has it read once.
#[inline(never)]
pub(crate) fn before_control(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<WORD_BYTES>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest bit that is set is right: a borrow can only spoil those above it.
        let below_space = word.wrapping_sub(EVERY * 0x20) & !word;
        let from_delete = word ^ (EVERY * 0x7f);
        let is_delete = from_delete.wrapping_sub(EVERY) & !from_delete;
        let stops = (below_space | is_delete) & (EVERY * 0x80);
        if stops != 0 {
            return number * WORD_BYTES + stops.trailing_zeros() as usize / 8;
        }
    }
    let rest_len = rest.iter().position(u8::is_ascii_control).unwrap_or(rest.len());
    bytes.len() - rest.len() + rest_len
}

/// Bytes that show on paper: what a request target may be made of.
pub(crate) fn is_visible(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_graphic)
}

/// Without spaces and tabs at either end.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// The elements of a list that knows no quoted strings; empty ones are left out (RFC 9110 section 5.6.1.2).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// How many bytes the quoted string at the front of `bytes` takes, quotes included; `None` if there is none whole.
pub(crate) fn quoted_len(bytes: &[u8]) -> Option<usize> {
    let (b'"', mut rest) = bytes.split_first()? else { return None };
    loop {
        rest = match rest {
            [b'"', behind @ ..] => return Some(bytes.len() - behind.len()),
            [b'\\', byte, behind @ ..] if is_value_byte(*byte) => behind,
            [byte, behind @ ..] if *byte != b'\\' && is_value_byte(*byte) => behind,
            _ => return None,
        };
    }
}

const WORD_BYTES: usize = 8;

/// One in each byte of a word.
const EVERY: u64 = 0x0101_0101_0101_0101;

/// Which bytes stand in tokens: one look is cheaper than the grammar.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = stands_in_a_token(byte as u8);
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_empty_and_hold_no_delimiter() {
        assert!(is_token(b"x-Y_9!#$%&'*+.^`|~"));
        for bytes in [&b""[..], b"a b", b"a:", b"a/b", b"a\0", b"\xe4", b"(a)", b"a,b", b"\x7f"] {
            assert!(!is_token(bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_control_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut bytes = *b"\xff \x80~a0\xa0!\x81{}|\xfezZ@[\xe4- ";
                bytes[at] = byte;
                let is_control = byte < 0x20 || byte == 0x7f;
                assert_eq!(
                    before_control(&bytes),
                    if is_control { at } else { bytes.len() },
                    "{byte} at {at}"
                );
                assert_eq!(is_value(&bytes), !is_control || byte == b'\t', "{byte} at {at}");
            }
        }
        assert_eq!(before_control(b"\t\x01"), 0, "the first of them");
        assert!(!is_value(b"a\tb\x01"), "a tab hides nothing behind it");
    }

    #[test]
    fn lists_leave_out_empty_elements() {
        assert_eq!(list(b" ,a ,\tb,, c").collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(list(b" , ").count(), 0);
    }

    #[test]
    fn quoted_strings_end_at_their_quote() {
        assert_eq!(quoted_len(b"\"a\\\"b\";c"), Some(6));
        assert_eq!(quoted_len(b"\"\""), Some(2));
        for bytes in [&b""[..], b"a", b"\"", b"\"a", b"\"a\\", b"\"a\\\"", b"\"a\nb\"", b"\"\\\0\""] {
            assert_eq!(quoted_len(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn trimming_takes_blanks_only() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\x0ba"), b"\x0ba");
    }
}
