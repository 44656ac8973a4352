//! A root folder with made-up files, for tests of what is read from `/proc` and `/sys`. It exists in tests alone, and is
//! removed when they end.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// A folder with these files.
pub(crate) struct Tree(PathBuf);

impl Tree {
    /// `name` keeps tests of one process apart.
    pub(crate) fn with(name: &str, files: &[(&str, &str)]) -> Tree {
        let root = std::env::temp_dir().join(format!("bowline-tree-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).expect("a temporary folder");
        let tree = Tree(root);
        files.iter().for_each(|(path, text)| tree.write(path, text));
        tree
    }

    /// Writes one more file, or another text into one.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a temporary folder");
        fs::write(path, text).expect("a temporary file");
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
