//! The command line: `bowline run|check|doctor|call|version|help`. It knows words and flags; what their values mean is the table of
//! keys, which also gives the help. Whatever is wrong ends with 78. Called by the program's `main` alone.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;
use clap::error::ErrorKind;

use crate::config::keys::CONNECTIONS_MAX;
use crate::config::keys::key_of_flag;
use crate::config::keys::variable_of;
use crate::config::plan::Protocol;
use crate::config::said::CONFIG_FLAG;
use crate::config::said::LISTEN_FLAG;
use crate::config::said::UPSTREAM_FLAG;
use crate::config::units::parse_duration_ms;
use crate::config::url::Url;
use crate::error::EXIT_CONFIG;
use crate::error::EXIT_OK;

/// A gateway for long-lived connections.
#[derive(Clone, Debug, Parser)]
#[command(name = "bowline", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Runs the gateway; with nothing else said it listens on 127.0.0.1:12200 for Bolt and 127.0.0.1:12280 for HTTP, and answers from an embedded echo upstream
    Run(Box<RunArguments>),
    /// Says what is wrong with a configuration file, without binding anything; ends with 0 or 78
    Check(CheckArguments),
    /// Says what the operating system allows, what that means and how to raise it; ends with 0, or 1 if something will bite
    Doctor(DoctorArguments),
    /// Sends requests of Bolt or HTTP and prints their answers
    Call(CallArguments),
    /// Says which version this is
    Version(VersionArguments),
}

/// The flags of `bowline run`, as text: the table of keys reads them. A flag stands over its environment variable, that
/// over the file.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArguments {
    #[arg(long, value_name = "URL", help = help_of(LISTEN_FLAG))]
    listen: Vec<String>,
    #[arg(long, value_name = "URL", help = help_of(UPSTREAM_FLAG))]
    upstream: Vec<String>,
    #[arg(long, value_name = "FILE", help = help_of(CONFIG_FLAG))]
    config: Option<String>,
    #[arg(long, value_name = "ENGINE", help = help_of("--engine"))]
    engine: Option<String>,
    #[arg(long, value_name = "WAY", help = help_of("--dispatch"))]
    dispatch: Option<String>,
    #[arg(long, value_name = "COUNT", help = help_of("--reactors"))]
    reactors: Option<String>,
    #[arg(long, value_name = "COUNT", help = help_of("--workers"))]
    workers: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help = help_of("--pin-cores"))]
    pin_cores: Option<String>,
    #[arg(long, value_name = "SIZE", help = help_of("--read-budget"))]
    read_budget: Option<String>,
    #[arg(long, value_name = "SIZE", help = help_of("--buffer-memory-max"))]
    buffer_memory_max: Option<String>,
    #[arg(long, value_name = "COUNT", help = help_of("--max-connections"))]
    max_connections: Option<String>,
    #[arg(long, value_name = "COUNT", help = help_of("--max-connections-per-source"))]
    max_connections_per_source: Option<String>,
    #[arg(long, value_name = "DURATION", help = help_of("--idle-timeout"))]
    idle_timeout: Option<String>,
    #[arg(long, value_name = "COUNT", help = help_of("--upstream-connections"))]
    upstream_connections: Option<String>,
    #[arg(long, value_name = "MODE", help = help_of("--upstream-mode"))]
    upstream_mode: Option<String>,
    #[arg(long, value_name = "WAY", help = help_of("--accept"))]
    accept: Option<String>,
    #[arg(long, value_name = "WHETHER", help = help_of("--rebalance"))]
    rebalance: Option<String>,
    #[arg(long, value_name = "ADDRESS", help = help_of("--admin"))]
    admin: Option<String>,
    #[arg(long, value_name = "DURATION", help = help_of("--drain-delay"))]
    drain_delay: Option<String>,
    #[arg(long, value_name = "DURATION", help = help_of("--drain-deadline"))]
    drain_deadline: Option<String>,
    #[arg(long, value_name = "FILTER", help = help_of("--log-level"))]
    log_level: Option<String>,
    #[arg(long, value_name = "FORMAT", help = help_of("--log-format"))]
    log_format: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help = help_of("--access-log"))]
    access_log: Option<String>,
}

impl RunArguments {
    /// The flags that were said, with their values, for [`crate::config::load::plan`].
    pub fn said(&self) -> Vec<(&'static str, String)> {
        let listen = self.listen.iter().map(|url| (LISTEN_FLAG, Some(url)));
        let upstream = self.upstream.iter().map(|url| (UPSTREAM_FLAG, Some(url)));
        let single = [
            (CONFIG_FLAG, &self.config),
            ("--engine", &self.engine),
            ("--dispatch", &self.dispatch),
            ("--reactors", &self.reactors),
            ("--workers", &self.workers),
            ("--pin-cores", &self.pin_cores),
            ("--read-budget", &self.read_budget),
            ("--buffer-memory-max", &self.buffer_memory_max),
            ("--max-connections", &self.max_connections),
            ("--max-connections-per-source", &self.max_connections_per_source),
            ("--idle-timeout", &self.idle_timeout),
            ("--upstream-connections", &self.upstream_connections),
            ("--upstream-mode", &self.upstream_mode),
            ("--accept", &self.accept),
            ("--rebalance", &self.rebalance),
            ("--admin", &self.admin),
            ("--drain-delay", &self.drain_delay),
            ("--drain-deadline", &self.drain_deadline),
            ("--log-level", &self.log_level),
            ("--log-format", &self.log_format),
            ("--access-log", &self.access_log),
        ];
        let single = single.into_iter().map(|(flag, text)| (flag, text.as_ref()));
        let all = listen.chain(upstream).chain(single);
        all.filter_map(|(flag, text)| Some((flag, text?.clone()))).collect()
    }
}

/// The flags of `bowline check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArguments {
    /// The file to look at: YAML or JSON
    #[arg(value_name = "FILE", required_unless_present = "config", conflicts_with = "config")]
    file: Option<String>,
    /// The same, as `run` takes it
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

impl CheckArguments {
    /// The file to look at.
    pub fn path(&self) -> &str {
        self.file
            .as_deref()
            .or(self.config.as_deref())
            .expect("the command line is refused without one of both")
    }
}

/// The flags of `bowline doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArguments {
    /// How many clients the machine should hold [default: what the file says, or the limit of descriptors leaves]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    pub connections: Option<u64>,
    /// The configuration that it should run: its listeners, clusters, limits and buffers [default: that of a bare `run`]
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// The flags of `bowline call`.
#[derive(Args, Clone, Debug)]
pub struct CallArguments {
    /// Where to: bolt://HOST:PORT or http://HOST:PORT/PATH
    #[arg(value_name = "URL", value_parser = call_url)]
    pub url: CallUrl,
    /// The method [default: GET, or POST with data]; HTTP only
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// A field of the request, as `Name: value`; repeat it for more; HTTP only
    #[arg(long, value_name = "FIELD", value_parser = field)]
    pub header: Vec<(String, String)>,
    /// The value of the header `service` [default: demo]; Bolt only
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// The content to send; @FILE sends what is in a file of at most 256 MiB
    #[arg(long, value_name = "TEXT|@FILE", default_value = "")]
    pub data: String,
    /// How many requests, one after the other on one connection
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// How long each answer, and the connect, may take: 500ms, 3s, 1m
    #[arg(long = "timeout", value_name = "DURATION", default_value = "3s", value_parser = timeout_ms)]
    pub timeout_ms: u64,
    /// Speaks Bolt v2 instead of v1; Bolt only
    #[arg(long)]
    pub v2: bool,
    /// Ends each frame with a CRC32; needs --v2; Bolt only
    #[arg(long, requires = "v2")]
    pub crc: bool,
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallUrl {
    /// To a Bolt server.
    Bolt(Url),
    /// To an HTTP server: the URL as it was said.
    Http(String),
}

/// The flags of `bowline version`.
#[derive(Args, Clone, Debug)]
pub struct VersionArguments {
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is nothing to do: help was asked for, or the command line is wrong.
#[derive(Debug)]
pub struct Ended {
    error: clap::Error,
}

impl Ended {
    /// Help goes to standard output and ends with 0, complaints to standard error and with 78.
    pub fn print(&self) -> ExitCode {
        // Nobody is left to tell when standard error is closed.
        drop(self.error.print());
        ExitCode::from(self.code())
    }

    /// The status the program ends with.
    pub fn code(&self) -> u8 {
        if self.error.use_stderr() { EXIT_CONFIG } else { EXIT_OK }
    }

    /// What is printed.
    pub fn text(&self) -> String {
        self.error.render().to_string()
    }
}

/// Reads a command line, the program's name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Ended> {
    match Arguments::try_parse_from(arguments) {
        Ok(Arguments { command: Command::Call(call) }) => match call.misplaced_flag() {
            None => Ok(Command::Call(call)),
            Some(flag) => {
                let why = format!("{flag} has no effect on a call of this protocol");
                Err(Ended { error: Arguments::command().error(ErrorKind::ArgumentConflict, why) })
            }
        },
        Ok(arguments) => Ok(arguments.command),
        Err(error) => Err(Ended { error }),
    }
}

impl CallArguments {
    /// A flag of one protocol that was said in a call of the other.
    fn misplaced_flag(&self) -> Option<&'static str> {
        let (http, bolt) = (
            [(self.method.is_some(), "--method"), (!self.header.is_empty(), "--header")],
            [(self.v2, "--v2"), (self.service.is_some(), "--service")],
        );
        let misplaced = if matches!(self.url, CallUrl::Bolt(_)) { http } else { bolt };
        misplaced.into_iter().find_map(|(is_said, flag)| is_said.then_some(flag))
    }
}

/// What `bowline version` prints.
pub fn version(json: bool) -> String {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), option_env!("BOWLINE_COMMIT"));
    if !json {
        return commit.map_or(format!("bowline {version}"), |commit| format!("bowline {version} ({commit})"));
    }
    let mut said = serde_json::json!({
        "version": version,
        "features": ["bolt", "http1", "websocket", "tcp", "engine-raw", "engine-tokio"],
    });
    if let Some(commit) = commit {
        said["commit"] = commit.into();
    }
    said.to_string()
}

fn help_of(flag: &'static str) -> String {
    if flag == CONFIG_FLAG {
        let variable = variable_of(flag);
        return format!(
            "The configuration file, YAML or JSON; flags stand over it [path] [default: none] [env: {variable}]"
        );
    }
    key_of_flag(flag).flag_help()
}

fn call_url(text: &str) -> Result<CallUrl, String> {
    if text.starts_with("http://") {
        let uri: ureq::http::Uri = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(format!("{text:?}: no user can be named in it"));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("{text:?}: the host is missing"))?;
        return match authority.strip_prefix(host) {
            Some(rest) if !rest.is_empty() && uri.port_u16().is_none() => {
                Err(format!("{text:?}: {:?} is no port", rest.trim_start_matches(':')))
            }
            _ => Ok(CallUrl::Http(text.to_owned())),
        };
    }
    let url = Url::parse(text)?;
    if url.protocol != Protocol::Bolt {
        return Err(format!("{text:?} is no bolt:// or http:// URL"));
    }
    url.endpoint().map(|_| CallUrl::Bolt(url))
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is no field; write for example Accept: */*"))?;
    let (name, value) = (name.trim(), value.trim());
    if FRAMING_FIELDS.iter().any(|framing| framing.eq_ignore_ascii_case(name)) {
        return Err(format!("{name} is said by the client itself: it frames what --data sends"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Fields that the client writes by what it sends.
const FRAMING_FIELDS: [&str; 2] = ["Content-Length", "Transfer-Encoding"];

fn timeout_ms(text: &str) -> Result<u64, String> {
    match parse_duration_ms(text)? {
        ms @ 1..=86_400_000 => Ok(ms),
        _ => Err(format!("{text} is not in the range 1ms to 24h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;

    fn parsed(words: &[&str]) -> Result<Command, Ended> {
        parse([&["bowline"], words].concat().into_iter().map(OsString::from))
    }

    fn refused(words: &[&str]) -> String {
        let ended = parsed(words).expect_err("it is refused");
        assert_eq!(ended.code(), EXIT_CONFIG, "{}", ended.text());
        ended.text()
    }

    fn run(words: &[&str]) -> RunArguments {
        match parsed(&[&["run"], words].concat()) {
            Ok(Command::Run(arguments)) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_table_is_a_flag_of_run_and_reaches_the_loader() {
        for flag in KEYS.iter().filter_map(|key| key.flag) {
            assert_eq!(run(&[&format!("{flag}=x")]).said(), [(flag, "x".to_owned())]);
        }
        assert_eq!(run(&["--config", "f"]).said(), [(CONFIG_FLAG, "f".to_owned())]);
    }

    #[test]
    fn run_has_no_flag_that_the_table_lacks() {
        let command = Arguments::command();
        let run = command.find_subcommand("run").expect("it is there");
        for argument in run.get_arguments().filter_map(|argument| argument.get_long()) {
            let flag = format!("--{argument}");
            let known = KEYS.iter().any(|key| key.flag == Some(&flag)) || flag == CONFIG_FLAG;
            assert!(known || flag == "--help", "{flag}");
        }
    }

    #[test]
    fn a_switch_needs_no_value_and_lists_repeat() {
        let said = run(&["--pin-cores", "--access-log=false", "--listen", "a", "--listen", "b"]).said();
        let expected =
            [("--listen", "a"), ("--listen", "b"), ("--pin-cores", "true"), ("--access-log", "false")];
        assert_eq!(said, expected.map(|(flag, text)| (flag, text.to_owned())));
    }

    #[test]
    fn help_names_default_unit_cost_and_variable() {
        let ended = parsed(&["run", "--help"]).expect_err("it ends");
        let help = ended.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(ended.code(), EXIT_OK);
        for part in [
            "longer costs memory",
            "[duration, 100ms to 720h]",
            "[default: 15m]",
            "[env: BOWLINE_IDLE_TIMEOUT]",
        ] {
            assert!(help.contains(part), "{part}: {help}");
        }
    }

    #[test]
    fn the_file_to_check_is_a_word_or_a_flag() {
        for words in [&["check", "f.yaml"][..], &["check", "--config", "f.yaml"]] {
            match parsed(words) {
                Ok(Command::Check(arguments)) => assert_eq!(arguments.path(), "f.yaml"),
                other => panic!("{words:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_is_a_command_and_a_flag() {
        for [word, flag] in [[&["help"][..], &["--help"]], [&["help", "call"], &["call", "--help"]]] {
            let (word, flag) = (parsed(word).expect_err("it ends"), parsed(flag).expect_err("it ends"));
            assert_eq!((word.code(), word.text()), (EXIT_OK, flag.text()));
        }
    }

    #[test]
    fn wrong_words_end_with_78() {
        assert!(refused(&[]).contains("Usage: bowline <COMMAND>"));
        assert!(refused(&["fly"]).contains("unrecognized subcommand 'fly'"));
        assert!(refused(&["run", "--no-such-flag"]).contains("'--no-such-flag'"));
        assert!(refused(&["run", "stray"]).contains("'stray'"));
        assert!(
            refused(&["run", "--workers", "1", "--workers", "2"]).contains("cannot be used multiple times")
        );
        assert!(refused(&["check"]).contains("<FILE>"));
        assert!(refused(&["check", "a", "--config", "b"]).contains("cannot be used with"));
        assert!(refused(&["help", "fly"]).contains("unrecognized subcommand 'fly'"));
        assert!(refused(&["call"]).contains("<URL>"));
        assert!(refused(&["call", "tcp://h:1"]).contains("\"tcp://h:1\" is no bolt:// or http:// URL"));
        assert!(refused(&["call", "bolt://h:0"]).contains("port 0"));
        assert!(refused(&["call", "bolt://h:1", "--timeout", "0s"]).contains("0s is not in the range"));
        assert!(refused(&["call", "bolt://h:1", "--count", "0"]).contains("--count"));
        assert!(refused(&["call", "bolt://h:1", "--crc"]).contains("--v2"));
    }

    #[test]
    fn the_doctor_needs_no_word_and_counts_connections() {
        let Ok(Command::Doctor(bare)) = parsed(&["doctor"]) else { panic!("it is the doctor") };
        assert_eq!((bare.connections, bare.config, bare.json), (None, None, false));
        let words = ["doctor", "--connections", "100000", "--config", "f.yaml", "--json"];
        let Ok(Command::Doctor(full)) = parsed(&words) else { panic!("it is the doctor") };
        assert_eq!(
            (full.connections, full.config.as_deref(), full.json),
            (Some(100_000), Some("f.yaml"), true)
        );
        for wrong in ["0", "-1", "x", "16777217"] {
            assert!(
                refused(&["doctor", &format!("--connections={wrong}")]).contains("--connections"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_call_has_defaults() {
        let Ok(Command::Call(call)) = parsed(&["call", "bolt://h:1", "--data", "@x", "--v2", "--crc"]) else {
            panic!("it is a call")
        };
        assert_eq!((call.service, call.data.as_str()), (None, "@x"));
        assert_eq!((call.count, call.timeout_ms, call.v2, call.crc), (1, 3_000, true, true));
        assert_eq!(call.url, CallUrl::Bolt(Url::parse("bolt://h:1").unwrap()));
        let Ok(Command::Call(call)) = parsed(&["call", "http://h:1/a", "--header", "A: b:c"]) else {
            panic!("it is a call")
        };
        assert_eq!(call.url, CallUrl::Http("http://h:1/a".to_owned()));
        assert_eq!(call.header, [("A".to_owned(), "b:c".to_owned())]);
        for url in ["http://127.0.0.1:1/a?b", "http://[::1]:1/", "http://[::1]/", "http://a"] {
            assert!(parsed(&["call", url]).is_ok(), "{url}");
        }
        assert!(refused(&["call", "http://127.0.0.1:99999/"]).contains("\"99999\" is no port"));
        assert!(refused(&["call", "http://user@h:1/"]).contains("no user can be named"));
    }

    #[test]
    fn a_call_refuses_flags_of_the_other_protocol_and_fields_that_are_the_clients() {
        for (url, flags) in
            [("http://h:1/", ["--v2", "--service=a"]), ("bolt://h:1", ["--method=GET", "--header=A: b"])]
        {
            for flag in flags {
                let name = flag.split('=').next().unwrap();
                assert!(refused(&["call", url, flag]).contains(&format!("{name} has no effect")), "{flag}");
            }
        }
        for field in ["content-length: 1", "Transfer-Encoding: chunked"] {
            let said = refused(&["call", "http://h:1/", "--header", field]);
            assert!(said.contains("is said by the client itself"), "{said}");
        }
        let said = refused(&["call", "tcp://h:1"]);
        assert!(said.contains("is no bolt:// or http:// URL"), "{said}");
    }

    #[test]
    fn the_version_is_json_when_asked() {
        let said: serde_json::Value = serde_json::from_str(&version(true)).unwrap();
        assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
        assert!(
            said["features"]
                .as_array()
                .is_some_and(|features| features.iter().any(|one| one == "engine-raw"))
        );
        assert!(version(false).starts_with("bowline 0."));
    }
}
