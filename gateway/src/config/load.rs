//! Makes the [`Plan`] of what was said, or says everything that is wrong: names without a cluster, values that do not
//! fit together, and values that the chosen mode would ignore. Binds nothing and looks nothing up. Called by `bowline
//! run` and `bowline check`; after it nothing is checked again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use bowline_protocols::http::EscapedSlash;
use bowline_protocols::http::HttpLimits;
use bowline_protocols::http::Underscores;

use crate::config::fault::Faults;
use crate::config::fault::Place;
use crate::config::files;
use crate::config::http::ForwardedMode;
use crate::config::http::ForwardedPlan;
use crate::config::http::HttpPlan;
use crate::config::http::is_token;
use crate::config::keys::CONNECTIONS_MAX;
use crate::config::keys::default_number;
use crate::config::keys::key;
use crate::config::machine::Machine;
use crate::config::network::networks;
use crate::config::plan::AcceptMode;
use crate::config::plan::Dispatch;
use crate::config::plan::DrainPlan;
use crate::config::plan::EngineMode;
use crate::config::plan::EnginePlan;
use crate::config::plan::LimitsPlan;
use crate::config::plan::LogFormat;
use crate::config::plan::LogPlan;
use crate::config::plan::PlacesPlan;
use crate::config::plan::Plan;
use crate::config::plan::TimeoutsPlan;
use crate::config::said::File;
use crate::config::said::Flags;
use crate::config::said::Item;
use crate::config::said::Layer;
use crate::config::topology::Topology;

/// The plan of flags, variables and the file that one of them names.
pub fn plan(
    flags: &[(&'static str, String)],
    environment: &BTreeMap<String, String>,
    machine: &Machine,
) -> Result<Plan, Faults> {
    let mut faults = Faults::default();
    let flags = Flags::of_flags(flags, &mut faults).over(Flags::of_environment(environment, &mut faults));
    let file = flags.config.as_ref().map(|item| read_file(item, &mut faults)).unwrap_or_default();
    build(flags, file, machine, faults)
}

/// The plan of a file alone: what `bowline check` looks at.
pub fn plan_of_file(path: &str, machine: &Machine) -> Result<Plan, Faults> {
    let mut faults = Faults::default();
    let file = read_file(&(path.to_owned(), Place::WholeFile(path.to_owned())), &mut faults);
    build(Flags::default(), file, machine, faults)
}

/// The plan of the text of a file, for tests and tools.
pub fn plan_of_text(path: &str, text: &str, machine: &Machine) -> Result<Plan, Faults> {
    let mut faults = Faults::default();
    let file = File::of_text(path, text, &mut faults);
    build(Flags::default(), file, machine, faults)
}

/// The variables of this process that may be ours. A value that is no UTF-8 is refused later, as what it looks like.
pub fn environment() -> BTreeMap<String, String> {
    let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| name.starts_with("BOWLINE_")).collect()
}

fn read_file(item: &Item, faults: &mut Faults) -> File {
    let (path, place) = item;
    match files::read_text(path, place) {
        Ok(text) => File::of_text(path, &text, faults),
        Err(fault) => {
            faults.add(fault.place, fault.message);
            File::default()
        }
    }
}

fn build(flags: Flags, file: File, machine: &Machine, mut faults: Faults) -> Result<Plan, Faults> {
    // A value that could not be read would only cause faults that are none.
    if !faults.list().is_empty() {
        return Err(faults);
    }
    let mut layer = file.layer.clone();
    layer.overlay(&flags.layer);
    let mut settings = Settings { layer, faults: &mut faults };
    let engine = settings.engine(machine);
    let limits = settings.limits(&engine);
    let timeouts = settings.timeouts();
    let http = settings.http();
    let drain = settings.drain();
    let log = settings.log();
    let admin = settings.text("admin.address");
    let admin: Option<SocketAddr> =
        (admin != "off").then(|| admin.parse().expect("its key lets nothing else through"));
    let admin_place = settings.layer.place("admin.address").map(ToString::to_string);
    let topology = Topology::of(&flags, &file, admin, &mut faults);
    let plan = Plan {
        engine,
        listeners: topology.listeners,
        routes: topology.routes,
        tls_routes: topology.tls_routes,
        clusters: topology.clusters,
        limits,
        timeouts,
        http: HttpPlan { routes: topology.http_routes, ..http },
        admin,
        drain,
        log,
        places: PlacesPlan {
            listeners: topology.places,
            admin: admin_place.unwrap_or_else(|| "the default of --admin".to_owned()),
        },
    };
    faults.or(plan)
}

/// Values that stand outside of lists, with the defaults of the table.
struct Settings<'a> {
    layer: Layer,
    faults: &'a mut Faults,
}

impl Settings<'_> {
    fn engine(&mut self, machine: &Machine) -> EnginePlan {
        let mode = match self.text("engine.mode").as_str() {
            "tokio" => EngineMode::Tokio,
            _ => EngineMode::Raw,
        };
        if mode == EngineMode::Tokio {
            for path in ["engine.dispatch", "engine.reactors", "engine.rebalance"] {
                self.refuse(path, "has no effect with the tokio engine, which has workers only");
            }
        }
        let dispatch = match self.text("engine.dispatch").as_str() {
            "handoff" => Dispatch::Handoff,
            _ => Dispatch::Help,
        };
        if mode == EngineMode::Raw && dispatch == Dispatch::Handoff {
            self.refuse(
                "engine.rebalance",
                "has no effect with handoff, where any worker runs what any reactor finds",
            );
        }
        let (reactors, workers) = self.threads(machine, mode);
        EnginePlan {
            mode,
            dispatch,
            reactors,
            workers,
            pin_cores: self.switch("engine.pin_cores"),
            read_budget_bytes: self.size("engine.read_budget"),
            buffer_memory_bytes_max: self.buffer_memory(machine),
            connections_max: self.connections(machine),
            connections_per_source_max: self
                .layer
                .number("engine.max_connections_per_source")
                .map(|(number, _)| number as usize),
            accept: match self.text("engine.accept").as_str() {
                "reuseport" => AcceptMode::Reuseport,
                _ => AcceptMode::Shared,
            },
            rebalance: self.text("engine.rebalance") == "on",
        }
    }

    fn threads(&mut self, machine: &Machine, mode: EngineMode) -> (usize, usize) {
        let said = |path| self.layer.number(path).map(|(number, _)| number as usize);
        let (reactors, workers) = (said("engine.reactors"), said("engine.workers"));
        if mode == EngineMode::Tokio {
            let workers = workers.unwrap_or(machine.cpus);
            return (workers, workers);
        }
        let reactors = reactors.unwrap_or(machine.cpus.min(workers.unwrap_or(usize::MAX)));
        let workers = workers.unwrap_or(reactors);
        if workers < reactors {
            let message =
                format!("{workers} workers are fewer than {reactors} reactors, and each reactor needs one");
            self.fault("engine.workers", message);
        }
        (reactors, workers)
    }

    fn buffer_memory(&self, machine: &Machine) -> usize {
        let said = self.layer.number("engine.buffer_memory_max").map(|(bytes, _)| bytes);
        said.unwrap_or((machine.memory_bytes / 4).max(BUFFER_BYTES_LEAST)) as usize
    }

    fn connections(&mut self, machine: &Machine) -> usize {
        let descriptors = machine.descriptors_max;
        let Some((said, _)) = self.layer.number("engine.max_connections") else {
            let left = descriptors.saturating_sub(DESCRIPTORS_RESERVED);
            if left == 0 {
                let message = format!(
                    "the hard limit of descriptors is {descriptors}, which leaves no connection beside {DESCRIPTORS_RESERVED} for other uses; raise it or say --max-connections"
                );
                self.faults.add(Place::Machine, message);
            }
            return left.min(CONNECTIONS_MAX) as usize;
        };
        let most = descriptors.saturating_sub(DESCRIPTORS_LEAST);
        if said > most {
            let message = format!(
                "{said} connections do not fit the hard limit of {descriptors} descriptors, of which {DESCRIPTORS_LEAST} are for other uses"
            );
            self.fault("engine.max_connections", message);
        }
        said as usize
    }

    fn limits(&mut self, engine: &EnginePlan) -> LimitsPlan {
        let large = self.layer.number("limits.large_frame_memory_max");
        let large = large.map_or(engine.buffer_memory_bytes_max / 2, |(bytes, _)| bytes as usize);
        if large > engine.buffer_memory_bytes_max {
            let message = format!(
                "{large} bytes are more than engine.buffer_memory_max ({} bytes)",
                engine.buffer_memory_bytes_max
            );
            self.fault("limits.large_frame_memory_max", message);
        }
        LimitsPlan {
            in_flight_max: self.size("limits.in_flight_max"),
            downstream_output_bytes_max: self.size("limits.downstream_output_max"),
            output_rate_min: self.size("limits.output_rate_min"),
            content_bytes_max: self.content_max(large),
            class_header_bytes_max: self.number("limits.class_header_max") as u32,
            crc_verify: self.switch("limits.crc_verify"),
            large_frame_bytes_max: large,
            frame_timeout_ms: self.number("limits.frame_timeout"),
            frame_rate_min: self.size("limits.frame_rate_min"),
            heartbeat_rate_max: self.number("limits.heartbeat_rate_max") as u32,
            tunnel_credit_bytes: self.size("limits.tunnel_credit"),
            http: self.http_limits(),
            http_body_rate_min: self.size("limits.http_body_rate_min"),
        }
    }

    /// A content that can never be reserved would wait for its deadline, so it may not be allowed; where nothing was
    /// said, a machine with little memory gets a smaller limit.
    fn content_max(&mut self, large: usize) -> u32 {
        let limit = self.number("limits.content_max");
        if self.layer.place("limits.content_max").is_none() {
            return limit.min(large as u64 / 4) as u32;
        }
        if limit > large as u64 {
            self.fault(
                "limits.content_max",
                format!("{limit} bytes are more than limits.large_frame_memory_max ({large} bytes)"),
            );
        }
        limit as u32
    }

    fn timeouts(&self) -> TimeoutsPlan {
        TimeoutsPlan {
            idle_ms: self.number("timeouts.idle"),
            client_fin_ms: self.number("timeouts.client_fin"),
            server_fin_ms: self.number("timeouts.server_fin"),
            tunnel_ms_max: self.layer.number("timeouts.tunnel_max").map(|(ms, _)| ms),
            http_head_ms: self.number("timeouts.http_head"),
            http_body_ms: self.number("timeouts.http_body"),
            websocket_answer_ms: self.number("timeouts.websocket_answer"),
        }
    }

    fn http_limits(&mut self) -> HttpLimits {
        let line = self.number("limits.http_line_max") as u32;
        let head = self.number("limits.http_head_max") as u32;
        if line > head {
            let message = format!("{line} bytes are more than limits.http_head_max ({head} bytes)");
            self.fault("limits.http_line_max", message);
        }
        HttpLimits {
            line_bytes_max: line,
            head_bytes_max: head,
            fields_max: self.number("limits.http_fields_max") as u32,
            extension_bytes_max: self.number("limits.http_extension_max") as u32,
            body_bytes_max: self.number("limits.http_body_max"),
            escaped_slash: match self.text("http.escaped_slash").as_str() {
                "keep" => EscapedSlash::Keep,
                _ => EscapedSlash::Refuse,
            },
            underscores: match self.text("http.underscores").as_str() {
                "keep" => Underscores::Keep,
                "refuse" => Underscores::Refuse,
                _ => Underscores::Drop,
            },
        }
    }

    fn forwarded(&mut self) -> ForwardedPlan {
        let via = self.layer.text("http.via").map(|(name, _)| name.to_owned());
        if let Some(name) = via.as_deref().filter(|name| !is_token(name)) {
            self.fault("http.via", format!("{name:?} is no word; write for example bowline"));
        }
        ForwardedPlan {
            mode: match self.text("http.forwarded").as_str() {
                "forwarded" => ForwardedMode::Forwarded,
                "both" => ForwardedMode::Both,
                "off" => ForwardedMode::Off,
                _ => ForwardedMode::XForwarded,
            },
            via,
            request_id: self.switch("http.request_id"),
            trusted: networks(self.layer.texts("http.trusted"), "http.trusted", self.faults),
        }
    }

    /// Routes are added once clusters are known.
    fn http(&mut self) -> HttpPlan {
        let error_reason = self.switch("http.error_reason");
        HttpPlan { routes: Vec::new(), forwarded: self.forwarded(), error_reason }
    }

    fn drain(&self) -> DrainPlan {
        DrainPlan { delay_ms: self.number("drain.delay"), deadline_ms: self.number("drain.deadline") }
    }

    fn log(&mut self) -> LogPlan {
        let file = self.layer.text("log.file").map(|(path, _)| PathBuf::from(path));
        if let Some(Err(message)) = file.as_deref().map(files::check_log) {
            self.fault("log.file", message);
        }
        LogPlan {
            level: self.text("log.level"),
            format: match self.text("log.format").as_str() {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
            access: self.switch("log.access"),
            file,
        }
    }

    fn refuse(&mut self, path: &'static str, why: &str) {
        if let Some(place) = self.layer.place(path) {
            self.faults.add(place.clone(), format!("{path} {why}"));
        }
    }

    /// A flag or a variable names its key itself; a position in a file does not.
    fn fault(&mut self, path: &'static str, message: String) {
        match self.layer.place(path) {
            Some(place @ (Place::Flag(_) | Place::Variable(_))) => self.faults.add(place.clone(), message),
            place => {
                let place = place.unwrap_or(&Place::Machine).clone();
                self.faults.add(place, format!("{path}: {message}"));
            }
        }
    }

    fn number(&self, path: &'static str) -> u64 {
        self.layer.number(path).map_or_else(|| default_number(path), |(number, _)| number)
    }

    fn size(&self, path: &'static str) -> usize {
        self.number(path) as usize
    }

    fn switch(&self, path: &'static str) -> bool {
        self.layer.switch(path).map_or_else(|| key(path).default == "true", |(on, _)| on)
    }

    fn text(&self, path: &'static str) -> String {
        self.layer.text(path).map_or(key(path).default, |(text, _)| text).to_owned()
    }
}

/// Kept for listeners, logs, epoll, the admin interface and upstream connections that are being replaced.
pub(crate) const DESCRIPTORS_RESERVED: u64 = 512;
/// The same where someone said how many connections there may be: what the process opens in any case.
const DESCRIPTORS_LEAST: u64 = 16;
/// A gateway with less cannot hold the largest frame.
const BUFFER_BYTES_LEAST: u64 = 16 << 20;
