//! Calls of HTTP, by a library's client: one connection, no redirect followed, no proxy of the environment used.

use std::io::BufWriter;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use ureq::Agent;
use ureq::http::Request;

use crate::cli::CallArguments;

use super::CallFailure;
use super::content_of;
use super::print_line;

/// Sends what `arguments` say to `url` and prints answers to `out`.
pub(super) fn call(url: &str, arguments: &CallArguments, out: &mut dyn Write) -> Result<(), CallFailure> {
    let content = content_of(&arguments.data)?;
    let timeout = Duration::from_millis(arguments.timeout_ms);
    let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None);
    let agent = config.timeout_global(Some(timeout)).allow_non_standard_methods(true).build().new_agent();
    let mut out = BufWriter::new(out);
    let (mut failed, mut first) = (0, None);
    for number in 1..=arguments.count {
        let failure = |error| CallFailure::Http { request: number, error: Box::new(error) };
        let began = Instant::now();
        let mut response = agent.run(request(url, arguments, &content).map_err(failure)?).map_err(failure)?;
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(failure)?;
        let status = response.status();
        print_line(number, &status.to_string(), began.elapsed(), &body, &mut out)
            .map_err(CallFailure::Output)?;
        if !(status.is_success() || status.is_redirection()) {
            failed += 1;
            first.get_or_insert(status.as_u16());
        }
    }
    match first {
        None => Ok(()),
        Some(first) => Err(CallFailure::HttpStatus { failed, count: arguments.count, first }),
    }
}

fn request(url: &str, arguments: &CallArguments, content: &[u8]) -> Result<Request<Vec<u8>>, ureq::Error> {
    let method = arguments.method.as_deref().unwrap_or(if content.is_empty() { "GET" } else { "POST" });
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in &arguments.header {
        request = request.header(name, value);
    }
    Ok(request.body(content.to_vec())?)
}

/// An answer above this is not taken into memory.
const BODY_BYTES_MAX: u64 = 256 << 20;
