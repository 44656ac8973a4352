//! The HTTP side of the admin interface: one thread, one current-thread runtime, few connections, one request each, and
//! a deadline on all of it, so that no client of it can hold more than its share. Called by the application.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header::ALLOW;
use hyper::header::CACHE_CONTROL;
use hyper::header::CONTENT_TYPE;
use hyper::header::HOST;
use hyper::http::response::Builder;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::time;

use crate::admin::AdminState;
use crate::admin::Readiness;
use crate::admin::connections::Query;
use crate::logging::RateLimit;

/// A bound admin interface that does not answer yet.
#[derive(Debug)]
pub struct Admin {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Binds; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Admin> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Admin { listener, address })
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from now on.
    pub fn start(self, state: AdminState) -> io::Result<AdminThread> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let address = self.address;
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            // Dropping the runtime ends every connection and the accept loop with it.
            runtime.block_on(async {
                tokio::spawn(accept(self.listener, Arc::new(state)));
                drop(stopped.await);
            });
        })?;
        Ok(AdminThread { address, stop: Some(stop), thread: Some(thread) })
    }
}

/// A running admin interface; ends when it is dropped.
#[derive(Debug)]
pub struct AdminThread {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminThread {
    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by its thread.
            drop(thread.join());
        }
    }
}

/// Connections at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// From accepting to the last byte of the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Until the head of the request is complete.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Of the head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Of one request.
const HEADERS_MAX: usize = 64;
/// After accepting failed, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

async fn accept(listener: std::net::TcpListener, state: Arc<AdminState>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin interface cannot be served"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (begin, mut trouble) = (Instant::now(), Trouble::default());
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                trouble.end();
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    drop(time::timeout(CONNECTION_TIMEOUT, serve(stream, state)).await);
                    drop(place);
                });
            }
            Err(error) => {
                trouble.say(&error, begin.elapsed().as_millis() as u64);
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Accepting that fails, for as long as it does. It is tried again many times a second, and may be possible now and
/// then meanwhile.
#[derive(Default)]
struct Trouble {
    /// It was warned of, and nobody was told yet that it is over.
    is_said: bool,
}

impl Trouble {
    fn say(&mut self, error: &io::Error, now_ms: u64) {
        if let Some(suppressed) = ACCEPT_WARNINGS.pass(now_ms) {
            self.is_said = true;
            tracing::warn!(%error, suppressed, "the admin interface cannot accept");
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_said) {
            tracing::info!("the admin interface accepts again");
        }
    }
}

/// A process without descriptors must not fill the log on top of it.
static ACCEPT_WARNINGS: RateLimit = RateLimit::new(10_000);

async fn serve(stream: TcpStream, state: Arc<AdminState>) {
    let Ok(local) = stream.local_addr() else { return };
    let service = service_fn(|request| {
        let response = respond(&request, local.ip(), &state);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    http.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    // One request each: an idle connection would hold one of few places.
    http.keep_alive(false).half_close(true);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "an admin connection failed");
    }
}

fn respond(request: &Request<Incoming>, local: IpAddr, state: &AdminState) -> Response<Full<Bytes>> {
    if !is_host_allowed(request, local) {
        return text(
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header names neither localhost nor this address\n",
        );
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let response = Response::builder().header(ALLOW, "GET, HEAD");
        return finish(
            response.status(StatusCode::METHOD_NOT_ALLOWED),
            TEXT,
            "only GET and HEAD\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(state.readiness.now()),
        "/metrics" => match state.metrics.render() {
            Ok(body) => finish(Response::builder(), OPEN_METRICS, body),
            Err(error) => failed(&error),
        },
        "/connections" => connections(request.uri().query().unwrap_or(""), state),
        _ => text(StatusCode::NOT_FOUND, "known: /healthz /readyz /metrics /connections\n"),
    }
}

fn ready(readiness: Readiness) -> Response<Full<Bytes>> {
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        Readiness::Starting | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    text(status, &format!("{}\n", readiness.name()))
}

fn connections(query: &str, state: &AdminState) -> Response<Full<Bytes>> {
    let query = match Query::parse(query) {
        Ok(query) => query,
        Err(message) => return text(StatusCode::BAD_REQUEST, &format!("{message}\n")),
    };
    match query.answer(state.connections.as_ref()) {
        Ok(body) => finish(Response::builder(), "application/json", body),
        Err(error) => failed(&error),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn failed(error: &dyn std::error::Error) -> Response<Full<Bytes>> {
    tracing::error!(%error, "an admin answer could not be written");
    text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n")
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    finish(Response::builder().status(status), TEXT, body.to_owned())
}

fn finish(response: Builder, content_type: &str, body: String) -> Response<Full<Bytes>> {
    let response = response.header(CONTENT_TYPE, content_type).header(CACHE_CONTROL, "no-store");
    response.body(Full::new(Bytes::from(body))).expect("constant headers are valid")
}

/// A name that is rebound to this address would let a web page read the answers through its visitor's browser. A
/// browser always says the name in `Host`, so only addresses and `localhost` are answered; HTTP/1.0 may leave it out.
fn is_host_allowed(request: &Request<Incoming>, local: IpAddr) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version() == hyper::Version::HTTP_10,
        (Some(host), None) => host.to_str().is_ok_and(|host| names_us(host, local)),
        (Some(_), Some(_)) => false,
    }
}

fn names_us(host: &str, local: IpAddr) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let ours = |address: IpAddr| address.is_loopback() || address == local.to_canonical();
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::LogFormat;
    use crate::logging::tests::logged;

    #[test]
    fn accepting_that_fails_is_warned_of_once_in_a_while_and_its_end_is_said_once() {
        let text = logged("info", LogFormat::Text, false, || {
            let mut trouble = Trouble::default();
            trouble.end();
            // Five times a second, and one success between: most of a minute of it.
            for try_number in 0..250 {
                trouble.say(&io::Error::other("no descriptor"), try_number * 200);
                if try_number == 30 {
                    trouble.end();
                }
            }
            (0..3).for_each(|_| trouble.end());
        });
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("cannot accept"), count("accepts again")), (5, 2), "{text}");
        assert!(text.contains("suppressed=49"), "{text}");
    }

    #[test]
    fn only_loopback_and_our_own_address_name_us() {
        let local: IpAddr = "10.1.2.3".parse().expect("an address");
        for host in ["localhost", "LOCALHOST:2046", "127.0.0.1", "127.9.9.9:1", "[::1]:2046", "10.1.2.3:2046"]
        {
            assert!(names_us(host, local), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:2046", "10.1.2.4", "[::2]:1", "[::1", "127.0.0.1.x"]
        {
            assert!(!names_us(host, local), "{host}");
        }
        assert!(names_us("10.1.2.3", "::ffff:10.1.2.3".parse().expect("an address")));
    }
}
