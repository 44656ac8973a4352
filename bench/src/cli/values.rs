//! Owns how the words of the command line become values: each parser says what it would have taken. Called by clap.

use std::time::Duration;

use crate::pace::Share;

/// Bytes, or as many as were sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyBytes(pub(super) Option<usize>);

pub(super) fn reply_bytes(text: &str) -> Result<ReplyBytes, String> {
    if text == "same" {
        return Ok(ReplyBytes(None));
    }
    let bytes = text.parse().map_err(|_| "a number of bytes, or \"same\"".to_owned())?;
    if bytes > REPLY_BYTES_MAX {
        return Err(format!("at most {REPLY_BYTES_MAX}"));
    }
    Ok(ReplyBytes(Some(bytes)))
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(format!("0 to {SECONDS_MAX} seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "requests per second".to_owned())?;
    if rate > 0.0 && rate <= RATE_MAX { Ok(rate) } else { Err(format!("above 0, at most {RATE_MAX}")) }
}

pub(super) fn count_up_to<const MAX: usize>(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=MAX).contains(count)).ok_or_else(|| format!("1 to {MAX}"))
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE")?;
    if key.is_empty() { Err("an empty key".into()) } else { Ok((key.into(), value.into())) }
}

pub(super) fn share(text: &str) -> Result<Share, String> {
    let (index, of) = text.split_once('/').ok_or("INDEX/COUNT")?;
    match (index.parse(), of.parse()) {
        (Ok(index), Ok(of)) if index < of => Ok(Share { index, of }),
        _ => Err("INDEX/COUNT, INDEX below COUNT".into()),
    }
}

const REPLY_BYTES_MAX: usize = 16 << 20;
const SECONDS_MAX: f64 = 86_400.0;
const RATE_MAX: f64 = 10_000_000.0;
