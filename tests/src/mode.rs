//! Owns the matrix: the ways of running the gateway that must behave alike. CI runs every case in the first two and
//! marked cases in all four; `BOWLINE_MATRIX=full` runs every case in all four, `BOWLINE_MATRIX=raw,tokio` in those named.

/// One way of running the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The raw engine as it comes.
    Raw,
    /// The tokio engine.
    Tokio,
    /// The raw engine with `--dispatch handoff`.
    Handoff,
    /// The raw engine with one reactor and four workers, so that three only steal.
    OneByFour,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Raw, Self::Tokio, Self::Handoff, Self::OneByFour];

    /// Its name in `BOWLINE_MATRIX`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Tokio => "tokio",
            Self::Handoff => "handoff",
            Self::OneByFour => "1x4",
        }
    }

    /// The flags that select it.
    pub const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Raw => &["--engine", "raw"],
            Self::Tokio => &["--engine", "tokio"],
            Self::Handoff => &["--engine", "raw", "--dispatch", "handoff"],
            Self::OneByFour => &["--engine", "raw", "--reactors", "1", "--workers", "4"],
        }
    }

    fn chosen(marked: bool) -> Vec<Self> {
        match std::env::var("BOWLINE_MATRIX").as_deref() {
            Ok("full") => Self::ALL.to_vec(),
            Ok(names) => {
                Self::ALL.into_iter().filter(|mode| names.split(',').any(|n| n == mode.name())).collect()
            }
            Err(_) if marked => Self::ALL.to_vec(),
            Err(_) => vec![Self::Raw, Self::Tokio],
        }
    }
}

/// Runs a case in every mode of the matrix.
pub fn each_mode(case: impl Fn(Mode)) {
    run(Mode::chosen(false), case);
}

/// Runs a marked case: one of those that CI runs in all four modes.
pub fn each_mode_marked(case: impl Fn(Mode)) {
    run(Mode::chosen(true), case);
}

fn run(modes: Vec<Mode>, case: impl Fn(Mode)) {
    assert!(!modes.is_empty(), "BOWLINE_MATRIX names no mode");
    for mode in modes {
        // Captured by the test runner, and shown when the case fails.
        eprintln!("mode {}", mode.name());
        case(mode);
    }
}
