//! The program `bowline-bench`: parses the command line, runs it, turns trouble into an exit code.

use std::process::ExitCode;

use clap::Parser;

use bowline_bench::cli;
use bowline_bench::cli::Cli;
use bowline_bench::trouble::Trouble;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let bench = std::env::current_exe().map_err(Trouble::doing("finding this program"));
    match bench.and_then(|bench| cli::run(&cli, &bench, &arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("bowline-bench: {trouble}");
            ExitCode::from(trouble.exit_code())
        }
    }
}
