//! What a configuration needs of the files that it is in and that it names: their kind, and that the text is text. It
//! refuses what is no file before opening it, since opening a pipe waits for its other end. Called by the loader.

use std::fmt;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::config::document::Mark;
use crate::config::fault::Fault;
use crate::config::fault::Place;

/// The text of a configuration file. What is wrong is said at `place`, which is where the file was named, or in it.
pub(crate) fn read_text(path: &str, place: &Place) -> Result<String, Fault> {
    // The place is the file's name already, unless a flag or a variable named it.
    let name = if matches!(place, Place::WholeFile(_)) { "it" } else { path };
    let fault = |why: &dyn fmt::Display| Fault {
        place: place.clone(),
        message: format!("cannot read {name}: {why}"),
    };
    if !fs::metadata(path).map_err(|error| fault(&error))?.is_file() {
        return Err(fault(&"it is no regular file"));
    }
    let bytes = fs::read(path).map_err(|error| fault(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let right = error.utf8_error().valid_up_to();
        let mark = end_of(&String::from_utf8_lossy(&error.as_bytes()[..right]));
        Fault { place: mark.place(path), message: "this byte is not UTF-8".to_owned() }
    })
}

/// Where the text would go on.
fn end_of(text: &str) -> Mark {
    let line = text.rsplit_once('\n').map_or(text, |(_, line)| line);
    Mark { line: text.matches('\n').count() + 1, column: line.chars().count() + 1 }
}

/// Whether lines can be appended to a file of that name, as far as that can be said without opening it.
pub(crate) fn check_log(path: &Path) -> Result<(), String> {
    if let Ok(found) = fs::metadata(path).map(|found| found.file_type()) {
        let right = found.is_file() || found.is_char_device();
        return if right {
            Ok(())
        } else {
            Err(format!("{} is no regular file and no character device", path.display()))
        };
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() { Ok(()) } else { Err(format!("there is no folder {}", folder.display())) }
}
