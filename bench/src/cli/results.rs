//! Owns the flags of what reads raw results: the report, and the estimate of capacity.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::suite::RESULTS;
use super::values::count_up_to;
use super::values::rate;
use crate::host;
use crate::results::capacity;
use crate::results::capacity::CapacityOptions;
use crate::results::figures::Figures;
use crate::results::page;
use crate::scenario::record;
use crate::scenario::window::make_folder;
use crate::trouble::Trouble;

#[derive(Debug, Args)]
pub(super) struct ReportFlags {
    /// Folders of results, or files of raw results, all in one report.
    #[arg(default_value = "bench-results")]
    results: Vec<PathBuf>,
    /// Folder for report.md and pictures/; the first one of the results by default.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Name of the page.
    #[arg(long, default_value = "report.md")]
    name: String,
    /// Folder for RESULTS.md and pictures/, to be kept with the source; pictures of an earlier page there are removed.
    #[arg(long, conflicts_with_all = ["out", "name"])]
    to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct CapacityFlags {
    /// Folders of results, or files of raw results.
    #[arg(default_value = "bench-results")]
    results: Vec<PathBuf>,
    /// Whose figures.
    #[arg(long, default_value = "raw")]
    target: String,
    /// Requests per second on each connection.
    #[arg(long, default_value = "0.01", value_parser = rate)]
    rate_per_connection: f64,
    /// Percent of all processors that may be busy.
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u32).range(1..=100))]
    busy_percent: u32,
    /// Percent of the machine's memory that connections may take.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    memory_percent: u32,
    /// Gateway processes that share a port.
    #[arg(long, default_value_t = 1, value_parser = count_up_to::<1_000>)]
    processes: usize,
}

pub(super) fn report(flags: &ReportFlags) -> Result<(), Trouble> {
    let page = page::page(&figures(&flags.results)?)?;
    let first = flags.results.first().map(PathBuf::as_path).unwrap_or(Path::new("."));
    let beside = if first.is_dir() { first } else { first.parent().unwrap_or(Path::new(".")) };
    let out = flags.to.as_deref().or(flags.out.as_deref()).unwrap_or(beside);
    let name = if flags.to.is_some() { KEPT_PAGE } else { &flags.name };
    make_folder(&out.join(PICTURES))?;
    if flags.to.is_some() {
        remove_pictures(&out.join(PICTURES))?;
    }
    let path = out.join(name);
    write(&path, &page.text)?;
    for (name, svg) in &page.pictures {
        write(&out.join(PICTURES).join(name), svg)?;
    }
    println!("{}", json!({ "event": "report", "page": path, "pictures": page.pictures.len() }));
    Ok(())
}

/// Those of an earlier page, which may have had other windows.
fn remove_pictures(folder: &Path) -> Result<(), Trouble> {
    let doing = || format!("removing the pictures in {}", folder.display());
    for entry in fs::read_dir(folder).map_err(Trouble::doing(doing()))?.flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "svg") {
            fs::remove_file(entry.path()).map_err(Trouble::doing(doing()))?;
        }
    }
    Ok(())
}

pub(super) fn capacity(flags: &CapacityFlags) -> Result<(), Trouble> {
    let options = CapacityOptions {
        target: flags.target.clone(),
        rate_per_connection: flags.rate_per_connection,
        busy_percent: f64::from(flags.busy_percent),
        memory_percent: f64::from(flags.memory_percent),
        processes: flags.processes,
    };
    let capacity = capacity::capacity(&figures(&flags.results)?, &host::facts()?, &options)?;
    println!("{}", json!(capacity));
    eprintln!("{}", capacity.summary());
    Ok(())
}

fn figures(results: &[PathBuf]) -> Result<Figures, Trouble> {
    let mut records = Vec::new();
    for path in results {
        let file = if path.is_dir() { path.join(RESULTS) } else { path.clone() };
        records.extend(record::read(&file)?);
    }
    Ok(Figures::of(&records))
}

const PICTURES: &str = "pictures";
/// The page that is kept with the source.
const KEPT_PAGE: &str = "RESULTS.md";

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    fs::write(path, text).map_err(Trouble::doing(format!("writing {}", path.display())))
}
