//! What is wrong with a configuration and where it was said. All faults found are kept, so that one run shows them
//! all, up to a bound. Holds no policy: readers and the loader add faults, the command line prints them.

use std::fmt;

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A flag, with its dashes.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A position in the configuration file; line and column count from one.
    File {
        /// The path as it was given.
        path: String,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// The configuration file as a whole.
    WholeFile(String),
    /// Nowhere: a value that depends on the machine, or one that is missing.
    Machine,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Flag(name) => formatter.write_str(name),
            Place::Variable(name) => formatter.write_str(name),
            Place::File { path, line, column } => write!(formatter, "{path}:{line}:{column}"),
            Place::WholeFile(path) => formatter.write_str(path),
            Place::Machine => formatter.write_str("bowline"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it was said.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong, in the order of finding; as an error never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds a fault; beyond [`FAULTS_MAX`] it is dropped.
    pub fn add(&mut self, place: Place, message: impl Into<String>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Fault { place, message: message.into() });
        }
    }

    /// The faults.
    pub fn list(&self) -> &[Fault] {
        &self.0
    }

    /// `value` if nothing is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Faults> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Faults {
        Faults(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        formatter.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// Nobody reads more than that.
pub const FAULTS_MAX: usize = 100;

/// The known word that is most like `word`, if any is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|one| (strsim::damerau_levenshtein(word, one), one));
    let (distance, one) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.chars().count().max(3) / 2)).then_some(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_bounded() {
        let mut faults = Faults::default();
        (0..FAULTS_MAX + 5).for_each(|n| faults.add(Place::Machine, n.to_string()));
        assert_eq!(faults.list().len(), FAULTS_MAX);
    }

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("listners", ["listeners", "limits"]), Some("listeners"));
        assert_eq!(nearest("tiemout", ["timeout", "cluster"]), Some("timeout"));
        assert_eq!(nearest("zebra", ["timeout", "cluster"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
