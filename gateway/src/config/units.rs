//! Durations and sizes as people write them: `500ms`, `15m`, `64KiB`. One reading for flags, environment and file; a
//! number without a unit is refused, since it is read differently by everyone. Called by the keys of the configuration.

/// Reads a duration in milliseconds: digits and one of `ms`, `s`, `m`, `h`. `0s` is a duration.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    scaled(text, &units)
        .ok_or_else(|| format!("{text:?} is no duration; write for example 500ms, 3s, 15m or 1h"))
}

/// Reads a size in bytes: digits and one of `B`, `KiB`, `MiB`, `GiB`, or `0`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    scaled(text, &units)
        .ok_or_else(|| format!("{text:?} is no size; write for example 512B, 64KiB, 16MiB or 1GiB"))
}

/// Writes a duration in the largest unit that holds it whole.
pub fn format_duration_ms(ms: u64) -> String {
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    largest(ms, &units).unwrap_or_else(|| format!("{ms}ms"))
}

/// Writes a size in the largest unit that holds it whole.
pub fn format_bytes(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    largest(bytes, &units).unwrap_or_else(|| format!("{bytes}B"))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn largest(value: u64, units: &[(u64, &str)]) -> Option<String> {
    let (scale, unit) = units.iter().find(|(scale, _)| value >= *scale && value.is_multiple_of(*scale))?;
    Some(format!("{}{unit}", value / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in [("0ms", 0), ("500ms", 500), ("3s", 3_000), ("15m", 900_000), ("2h", 7_200_000)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
            assert_eq!(format_duration_ms(ms), text);
        }
        assert_eq!(format_duration_ms(1_500), "1500ms");
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("0B", 0), ("64KiB", 65_536), ("16MiB", 16 << 20), ("3GiB", 3 << 30)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
            assert_eq!(format_bytes(bytes), text);
        }
        assert_eq!(format_bytes(1_025), "1025B");
    }

    #[test]
    fn what_has_no_unit_or_does_not_fit_is_refused() {
        for text in
            ["", "5", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
        for text in ["", "64", "KiB", "64kb", "64K", "1 MiB", "18446744073709551615GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
