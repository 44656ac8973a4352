//! The program `bowline`: reads the command line and hands over. It owns exit codes and standard streams, and decides
//! nothing else.

use std::io;
use std::io::Write;
use std::process::ExitCode;

use bowline_gateway::call;
use bowline_gateway::cli;
use bowline_gateway::cli::CheckArguments;
use bowline_gateway::cli::Command;
use bowline_gateway::cli::DoctorArguments;
use bowline_gateway::config::load;
use bowline_gateway::config::machine::Machine;
use bowline_gateway::doctor;
use bowline_gateway::error::EXIT_CONFIG;
use bowline_gateway::error::EXIT_FAILURE;
use bowline_gateway::error::EXIT_OK;
use bowline_gateway::run;

/// The one that the engine asks to give memory back.
#[global_allocator]
static ALLOCATOR: bowline_engine::Allocator = bowline_engine::Allocator;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(ended) => return ended.print(),
    };
    match command {
        Command::Check(arguments) => check(&arguments),
        Command::Doctor(arguments) => examine(&arguments),
        Command::Version(arguments) => say(&cli::version(arguments.json)),
        Command::Run(arguments) => match run::run(&arguments.said(), &load::environment()) {
            Ok(()) => ExitCode::from(EXIT_OK),
            Err(trouble) => complain(&trouble, trouble.code),
        },
        Command::Call(arguments) => match call::call(&arguments, &mut io::stdout().lock()) {
            Ok(()) => ExitCode::from(EXIT_OK),
            Err(failure) => complain(&failure, EXIT_FAILURE),
        },
    }
}

fn complain(trouble: &dyn std::error::Error, code: u8) -> ExitCode {
    // Faults of a configuration name their place, one a line; nobody is left to tell when standard error is closed.
    let prefix = if code == EXIT_CONFIG { "" } else { "bowline: " };
    drop(writeln!(io::stderr(), "{prefix}{trouble}"));
    ExitCode::from(code)
}

fn check(arguments: &CheckArguments) -> ExitCode {
    let path = arguments.path();
    match load::plan_of_file(path, &Machine::read()) {
        Ok(_) => say(&format!("{path}: ok")),
        Err(faults) => complain(&faults, EXIT_CONFIG),
    }
}

/// A limit that is in the way is a failure of the machine, so that scripts notice.
fn examine(arguments: &DoctorArguments) -> ExitCode {
    let report = match doctor::doctor(arguments.connections, arguments.config.as_deref()) {
        Ok(report) => report,
        Err(faults) => return complain(&faults, EXIT_CONFIG),
    };
    let said = say(&if arguments.json { report.json() } else { report.text() });
    if report.bites() { ExitCode::from(EXIT_FAILURE) } else { said }
}

fn say(line: &str) -> ExitCode {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => ExitCode::from(EXIT_OK),
        // Whoever reads may have had enough, and knows it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(EXIT_FAILURE),
        Err(error) => {
            drop(writeln!(io::stderr(), "bowline: cannot write to standard output: {error}"));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
