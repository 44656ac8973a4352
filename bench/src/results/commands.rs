//! Owns how commands are shown on a page that others read: without the folders of one machine, and with a word where a number
//! differs from one start to the next. Equal commands are shown once. Called by `page`.

use std::fmt::Write;

use crate::results::figures::Figures;

/// A text without the folders of one machine: of each absolute path the last part stays, but for those that a
/// kernel or a gateway answers to.
pub fn portable(text: &str) -> String {
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn word(word: &str) -> String {
    let at = word.find('/').unwrap_or(word.len());
    let (before, path) = word.split_at(at);
    let is_absolute = before.chars().last().is_none_or(|last| "='\"(".contains(last));
    let is_kept = KEPT.iter().any(|folder| path.starts_with(folder));
    match path.rsplit_once('/') {
        Some((_, last)) if is_absolute && !is_kept => format!("{before}{last}"),
        _ => word.to_owned(),
    }
}

/// A command with PORT and PID where the kernel chose a number; of several PIDs one is shown.
fn normal(command: &str) -> String {
    let command = portable(command);
    let mut shown: Vec<String> = Vec::new();
    let mut words = command.split(' ');
    while let Some(word) = words.next() {
        if word != "--pid" {
            shown.push(without_port(word));
        } else if words.next().is_some() && !shown.iter().any(|word| word == "PID") {
            shown.extend(["--pid".to_owned(), "PID".into()]);
        }
    }
    shown.join(" ")
}

/// `127.0.0.1:4711` as `127.0.0.1:PORT`; port 0 lets the kernel choose, and stays.
fn without_port(word: &str) -> String {
    match word.rsplit_once(':') {
        Some((host, port)) if host.ends_with("127.0.0.1") && port != "0" => format!("{host}:PORT"),
        _ => word.to_owned(),
    }
}

/// All commands that were started, each once, with the windows in which it was.
pub fn section(figures: &Figures) -> String {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for window in &figures.windows {
        let place = format!("{} {}", window.window.scenario, window.window.window);
        for command in window.rows.iter().flat_map(|row| &row.commands) {
            let command = normal(command);
            let at = all.iter().position(|(known, _)| *known == command).unwrap_or_else(|| {
                all.push((command, Vec::new()));
                all.len() - 1
            });
            if all[at].1.last() != Some(&place) {
                all[at].1.push(place.clone());
            }
        }
    }
    let mut text =
        "## Commands\n\nWhat was started, with PORT and PID where the kernel chose a number.\n\n".to_owned();
    for (command, places) in &all {
        let _ = write!(text, "{}:\n\n    {command}\n\n", places.join(", "));
    }
    text
}

const KEPT: [&str; 4] = ["/proc", "/sys", "/metrics", "/connections"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::figures::tests::measured;
    use crate::results::figures::tests::run;
    use crate::results::figures::tests::window;
    use crate::scenario::record::MeasuredRecord;
    use crate::scenario::record::Record;

    #[test]
    fn folders_of_one_machine_are_not_shown() {
        for (text, shown) in [
            ("/srv/a/target/release/bowline run --listen x", "bowline run --listen x"),
            ("nginx -p /srv/a/nginx -c /srv/a/nginx/nginx.conf", "nginx -p nginx -c nginx.conf"),
            ("traefik --configFile=/srv/a/traefik.yaml", "traefik --configFile=traefik.yaml"),
            ("'no /srv/a/b'", "'no b'"),
            ("reading /proc/1/stat of bench-results/x", "reading /proc/1/stat of bench-results/x"),
        ] {
            assert_eq!(portable(text), shown);
        }
    }

    #[test]
    fn commands_that_differ_by_what_the_kernel_chose_are_shown_once() {
        let load = |round: usize, port: u16| {
            let command = format!("/x/bench load --to 127.0.0.1:{port} --pid {port} --pid 9 --pin 0");
            Record::Measured(MeasuredRecord { commands: vec![command], ..measured("c1", "raw", round, 1.0) })
        };
        let other = Record::Measured(MeasuredRecord {
            commands: vec!["/x/bench load --to 127.0.0.1:7 --pid 7 --pin 0".into()],
            ..measured("c2", "raw", 0, 1.0)
        });
        let figures =
            Figures::of(&[run(), window("c1"), load(0, 40_001), load(1, 40_002), window("c2"), other]);
        let text = section(&figures);
        assert_eq!(text.matches("bench load --to 127.0.0.1:PORT --pid PID --pin 0").count(), 1, "{text}");
        assert!(text.contains("small_rpc c1, small_rpc c2:"), "{text}");
    }
}
