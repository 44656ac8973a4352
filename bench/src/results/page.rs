//! Owns the report: one page of Markdown with tables, verdicts, machine facts and exact commands, and its pictures. Says "no
//! difference" where the spread swallows one, and shows what was disturbed, broken or left out.

use std::fmt::Write;

use crate::results::commands;
use crate::results::explained;
use crate::results::figures::Figures;
use crate::results::figures::Metric;
use crate::results::figures::Row;
use crate::results::figures::WindowFigures;
use crate::results::goals;
use crate::results::goals::Verdict;
use crate::results::picture;
use crate::results::picture::Axes;
use crate::results::picture::Line;
use crate::results::published;
use crate::scenario::peer::Peer;
use crate::stats::Spread;
use crate::trouble::Trouble;

/// A page and the pictures that it shows, by file name.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Markdown.
    pub text: String,
    /// Names, as the page links to them, and SVG texts.
    pub pictures: Vec<(String, String)>,
}

/// Makes the page.
pub fn page(figures: &Figures) -> Result<Page, Trouble> {
    let mut page = Page::default();
    page.text += "# Results\n\n";
    page.text += "Median [lowest to highest] of the rounds of each target. A round that lost or mixed up an answer does \
                  not count. Targets were interleaved; rounds in which other processes took more than 12 % of a core \
                  were taken again.\n\n";
    page.text += &runs(figures);
    let verdicts = goals::verdicts(figures);
    page.text += &verdict_table(&verdicts);
    page.text += &not_reached(&verdicts);
    let mut scenario = "";
    for window in &figures.windows {
        if window.window.scenario != scenario {
            scenario = &window.window.scenario;
            let _ = write!(page.text, "## {scenario}\n\n");
        }
        page.window(window)?;
    }
    page.scale(figures)?;
    page.text += &published::mosn()?;
    page.text += &absent(figures);
    page.text += &skipped(figures);
    page.text += REPEAT;
    page.text += &commands::section(figures);
    Ok(page)
}

impl Page {
    fn window(&mut self, window: &WindowFigures) -> Result<(), Trouble> {
        let about = &window.window;
        let _ = write!(self.text, "### {}: {}\n\n", about.window, about.about);
        if window.rows.is_empty() {
            self.text += "It began, and the run was cut off before a round of it had ended.\n\n";
            return Ok(());
        }
        self.text += &table(window);
        self.text += &notes(window);
        let stem = format!("{}-{}", about.scenario, about.window);
        if let Some(metric) = window.headline() {
            let bars: Vec<_> = window
                .rows
                .iter()
                .filter_map(|row| Some((row.target.clone(), *row.metrics.get(&metric)?)))
                .collect();
            let title = format!("{} {}: {}", about.scenario, about.window, metric.label());
            self.show(&format!("{stem}-cost.svg"), &title, picture::bars(&title, metric.digits(), &bars)?);
        }
        let lines: Vec<_> =
            window.rows.iter().filter(|row| !row.curve.is_empty()).map(latency_line).collect();
        if !lines.is_empty() {
            let title = format!("{} {}: latency by percentile", about.scenario, about.window);
            let axes = Axes { title: &title, x: "percentile", y: "ms", x_label: &percentile_label };
            self.show(&format!("{stem}-latency.svg"), &title, picture::lines(axes, &lines)?);
        }
        self.text.push('\n');
        Ok(())
    }

    /// Cost against the number of connections, over the windows of `scale`.
    fn scale(&mut self, figures: &Figures) -> Result<(), Trouble> {
        let windows: Vec<_> = figures.windows.iter().filter(|one| one.window.scenario == "scale").collect();
        let mut lines: Vec<Line> = Vec::new();
        for window in &windows {
            for row in &window.rows {
                let Some(cpu) = row.metrics.get(&Metric::CpuPerRequest) else { continue };
                let at = lines.iter().position(|line| line.name == row.target).unwrap_or_else(|| {
                    lines.push(Line { name: row.target.clone(), points: Vec::new() });
                    lines.len() - 1
                });
                lines[at].points.push((window.window.connections as f64, cpu.median));
            }
        }
        if windows.len() > 1 && !lines.is_empty() {
            let title = "CPU us per request against the number of connections";
            let axes = Axes { title, x: "connections", y: "us", x_label: &|x| format!("{x:.0}") };
            self.show("scale-cost.svg", title, picture::lines(axes, &lines)?);
        }
        Ok(())
    }

    fn show(&mut self, name: &str, title: &str, svg: String) {
        let _ = write!(self.text, "![{title}](pictures/{name})\n\n");
        self.pictures.push((name.into(), svg));
    }
}

/// Percentiles by their nines, so that the slow end has room.
fn latency_line(row: &Row) -> Line {
    let place = |percentile: f64| -(1.0 - percentile / 100.0).max(HIGHEST).log10();
    let points = row.curve.iter().map(|(percentile, ms)| (place(*percentile), *ms)).collect();
    Line { name: row.target.clone(), points }
}

fn percentile_label(nines: f64) -> String {
    let percentile = 100.0 - 100.0 * 10f64.powf(-nines);
    let digits = (nines.ceil() - 2.0).clamp(0.0, 3.0) as usize;
    if nines >= -HIGHEST.log10() - 1e-9 { "max".into() } else { format!("{percentile:.digits$}") }
}

fn runs(figures: &Figures) -> String {
    let mut text = String::new();
    for run in &figures.runs {
        let machine = &run.machine;
        let _ = writeln!(
            text,
            "- `{}`\n  on {}, {} processors, {:.1} GiB, Linux {}, {} open files, load {} before it{}",
            commands::portable(&run.command),
            machine.processor,
            machine.cores,
            machine.memory_bytes as f64 / f64::from(1 << 30),
            machine.kernel.split('-').next().unwrap_or_default(),
            machine.descriptors,
            machine.load,
            run.gateway.as_ref().map_or_else(String::new, |gateway| format!("; gateway `{gateway}`"))
        );
    }
    text + "\n"
}

fn verdict_table(verdicts: &[Verdict]) -> String {
    let mut text = "## Targets\n\n| # | what | figure | at most | |\n|---|---|---|---|---|\n".to_owned();
    for Verdict { id, what, measured, at_least, reached } in verdicts {
        let Some((own, limit)) = measured else { continue };
        let word = if *reached { "reached" } else { "**missed**" };
        let least = if *at_least { "at least " } else { "" };
        let _ = writeln!(text, "| {id} | {what} | {own:.3} | {least}{limit:.3} | {word} |");
    }
    let open: Vec<_> = verdicts.iter().filter(|verdict| verdict.measured.is_none()).collect();
    if !open.is_empty() {
        let names: Vec<_> = open.iter().map(|verdict| format!("{} ({})", verdict.id, verdict.what)).collect();
        let _ = write!(text, "\nNot measured here: {}.\n", names.join("; "));
    }
    text + "\n"
}

/// What was missed, by how much, and where it is explained.
fn not_reached(verdicts: &[Verdict]) -> String {
    let missed = verdicts.iter().filter(|verdict| !verdict.reached);
    let lines = missed.filter_map(|Verdict { id, what, measured, at_least, .. }| {
        let (own, limit) = (*measured)?;
        let than = if *at_least { "too few" } else { "too much" };
        let by = (own - limit).abs();
        Some(format!("- {id}, {what}: {own:.3} against {limit:.3}, {by:.3} {than}; {}\n", explained::why(id)))
    });
    let lines: String = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("## Not reached\n\n{lines}\n")
}

fn table(window: &WindowFigures) -> String {
    let metrics = window.metrics();
    let heads: Vec<_> = metrics.iter().map(|metric| metric.label()).collect();
    let mut text =
        format!("| target | {} | rounds |\n|---|{}---|\n", heads.join(" | "), "---|".repeat(heads.len()));
    for row in &window.rows {
        let cells = metrics.iter().map(|metric| {
            row.metrics.get(metric).map_or_else(|| "-".into(), |spread| cell(*spread, metric.digits()))
        });
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            row.target,
            cells.collect::<Vec<_>>().join(" | "),
            rounds(row)
        );
    }
    text + "\n"
}

fn cell(Spread { median, low, high }: Spread, digits: usize) -> String {
    if low == high {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} [{low:.digits$} to {high:.digits$}]")
}

fn rounds(row: &Row) -> String {
    let mut text = row.rounds.to_string();
    if row.disturbed > 0 {
        let _ = write!(text, ", {} disturbed", row.disturbed);
    }
    if !row.broken.is_empty() {
        let _ = write!(text, ", **{} broken**", row.broken.len());
    }
    text
}

/// How the first target compares with each other one, what broke, and what moved.
fn notes(window: &WindowFigures) -> String {
    let mut text = String::new();
    for row in &window.rows {
        for why in &row.broken {
            let _ = writeln!(text, "- {} broke: {}", row.target, commands::portable(why));
        }
        for remark in &row.remarks {
            let _ = writeln!(text, "- {}: {remark}", row.target);
        }
        let moved =
            row.counters.iter().filter(|(name, _)| SHOWN_COUNTERS.iter().any(|one| name.contains(one)));
        let moved: Vec<_> = moved.map(|(name, count)| format!("{name} {count:.0}")).collect();
        if !moved.is_empty() {
            let _ = writeln!(text, "- {}: {}", row.target, moved.join(", "));
        }
    }
    let Some((first, others)) = window.rows.split_first() else { return text };
    for metric in [window.headline(), Some(Metric::TotalPerRequest), Some(Metric::P99)].into_iter().flatten()
    {
        let Some(own) = first.metrics.get(&metric) else { continue };
        let said = others.iter().filter_map(|other| {
            let spread = other.metrics.get(&metric)?;
            let how = compared(own, spread)?;
            Some(format!("{how} {}", other.target))
        });
        let said: Vec<_> = said.collect();
        if !said.is_empty() {
            let _ = writeln!(text, "- {}, {}: {}", metric.label(), first.target, said.join("; "));
        }
    }
    if text.is_empty() { text } else { text + "\n" }
}

/// In words; nothing where a ratio means nothing.
fn compared(own: &Spread, other: &Spread) -> Option<String> {
    if own.overlaps(other) {
        return Some("no difference to".into());
    }
    (own.median > 0.0 && other.median > 0.0).then(|| format!("{:.2} of", own.median / other.median))
}

fn skipped(figures: &Figures) -> String {
    if figures.skipped.is_empty() {
        return String::new();
    }
    let lines = figures
        .skipped
        .iter()
        .map(|skipped| format!("- {}: {}\n", skipped.what, commands::portable(&skipped.why)));
    format!("## Left out\n\n{}\n", lines.collect::<String>())
}

/// Proxies that have no figure here, with the reason.
fn absent(figures: &Figures) -> String {
    let measured = |name: &str| {
        let mut rows = figures.windows.iter().flat_map(|window| &window.rows);
        let peers = Peer::named(name).unwrap_or_default();
        rows.any(|row| peers.iter().any(|peer| peer.name() == row.target))
    };
    let skipped = |name: &str| figures.skipped.iter().find(|skipped| skipped.what == name);
    let mut text = String::new();
    for name in Peer::names().into_iter().filter(|name| !measured(name)) {
        let why = skipped(name).map_or("it was not asked for: --peer", |skipped| &skipped.why);
        let _ = writeln!(text, "- {name}: {}", commands::portable(why));
    }
    format!("## Proxies without a figure here\n\n{text}\n")
}

/// How a reader gets figures of his own.
const REPEAT: &str = "## How to repeat\n\n    scripts/bench.sh\n\n\
    builds the programs with profile-guided optimisation (`scripts/pgo.sh`: the gateway, the load, the server and the bare \
    relays alike), fetches the peers, runs every scenario (in at most 52 minutes on two processors with nothing else to do) and \
    writes the report; `scripts/bench.sh --resume` goes on after it was cut off. This page is then made by\n\n    \
    target/optimized/bowline-bench report bench-results --to bench\n\n\
    `bench/README.md` says how each figure is taken.\n\n";
/// Counters that explain a figure.
const SHOWN_COUNTERS: [&str; 2] = ["move", "stole"];
/// Where the maximum is drawn: behind the last percentile that a curve has.
const HIGHEST: f64 = 1e-5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::figures::tests::measured;
    use crate::results::figures::tests::run;
    use crate::results::figures::tests::window;
    use crate::scenario::record::MeasuredRecord;
    use crate::scenario::record::Record;

    fn page_of(records: &[Record]) -> Page {
        page(&Figures::of(records)).expect("it can be made")
    }

    fn two_targets(tokio_us: [f64; 2]) -> Vec<Record> {
        let mut records = vec![run(), window("c1")];
        for (round, us) in [8.0, 9.0].into_iter().enumerate() {
            records.push(Record::Measured(measured("c1", "raw", round, us)));
            records.push(Record::Measured(measured("c1", "tokio", round, tokio_us[round])));
        }
        records
    }

    #[test]
    fn a_page_has_tables_pictures_the_machine_and_the_commands() {
        let page = page_of(&two_targets([20.0, 22.0]));
        for part in [
            "# Results",
            "a processor",
            "bowline-bench run",
            "| raw | 8.50 [8.00 to 9.00]",
            "start tokio",
            "| C1 |",
        ] {
            assert!(page.text.contains(part), "{part}: {}", page.text);
        }
        assert!(page.text.contains("0.40 of tokio"), "{}", page.text);
        assert!(page.text.contains("moves_total"), "{}", page.text);
        let names: Vec<_> = page.pictures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["small_rpc-c1-cost.svg", "small_rpc-c1-latency.svg"]);
        assert!(names.iter().all(|name| page.text.contains(&format!("(pictures/{name})"))));
    }

    #[test]
    fn what_the_spread_swallows_is_no_difference() {
        let page = page_of(&two_targets([8.9, 30.0]));
        assert!(page.text.contains("CPU us/request, raw: no difference to tokio"), "{}", page.text);
    }

    #[test]
    fn what_broke_is_said() {
        let mut records = two_targets([20.0, 22.0]);
        let broken = MeasuredRecord { ok: false, trouble: None, ..measured("c1", "raw", 2, 1.0) };
        records.push(Record::Measured(broken));
        let page = page_of(&records);
        assert!(page.text.contains("**1 broken**") && page.text.contains("raw broke: an answer was lost"));
    }

    #[test]
    fn what_was_missed_says_by_how_much_and_where_that_is_explained() {
        let page = page_of(&two_targets([8.0, 9.0]));
        let line = page.text.lines().find(|line| line.starts_with("- C1, raw to 0.85 x tokio mode"));
        let line = line.expect("it was missed");
        assert!(line.contains("8.500 against 7.225, 1.275 too much; see"), "{line}");
        assert!(line.contains("(../docs/performance.md#cpu-and-latency)"), "{line}");
    }

    #[test]
    fn a_window_that_was_cut_off_says_so_instead_of_an_empty_table() {
        let page = page_of(&[run(), window("c1")]);
        assert!(
            page.text.contains("### c1: something\n\nIt began, and the run was cut off"),
            "{}",
            page.text
        );
        assert!(!page.text.contains("| target |"), "{}", page.text);
    }

    #[test]
    fn percentiles_are_named_by_their_nines() {
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0].map(percentile_label),
            ["0", "90", "99", "99.9", "99.99", "max"]
        );
    }
}
