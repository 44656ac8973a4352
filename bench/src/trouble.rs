//! Owns the ways in which a run can end without a figure, kept apart since they have different remedies: flags that
//! make no sense, a world that failed, a peer that broke its word. Every module returns it; the exit code comes from it.

use std::fmt;
use std::io;

/// Why there is no figure.
#[derive(Debug)]
pub enum Trouble {
    /// The caller asked for something that cannot be done; says what to change.
    Asked(String),
    /// The machine failed us.
    World {
        /// What was being done.
        doing: String,
        /// What came of it.
        source: io::Error,
    },
    /// Someone wants it to end.
    Interrupted,
    /// What was measured lost, mixed up or refused something, or did not do what was waited for.
    Broken(String),
}

impl Trouble {
    /// Wraps an error of the system; for `map_err`.
    pub fn doing<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::World { doing: what.into(), source: source.into() }
    }

    /// The exit code of the process.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Broken(_) | Self::Interrupted => 1,
            Self::Asked(_) => 2,
            Self::World { .. } => 3,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(what) | Self::Broken(what) => formatter.write_str(what),
            Self::Interrupted => formatter.write_str("interrupted"),
            Self::World { doing, source } => write!(formatter, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for Trouble {}
