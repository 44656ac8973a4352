//! Keeps the rules of style that a machine can check: module and crate direction, lengths, module docs, the fence
//! around unsafe, nothing left to do, no path of one machine. Every rule is a function from source text to findings, and
//! has a test that shows it a violation. Run by `cargo test`; exceptions stand in [`EXCEPTIONS`], each with its reason.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Lines of a file, its unit tests not counted.
const FILE_LINES_MAX: usize = 800;

/// Lines of a function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Where `unsafe` may stand.
const UNSAFE_FENCE: [&str; 3] = ["engine/src/sys", "engine/src/buf", "engine/src/slot"];

/// Which crates of the workspace a crate may use.
const CRATE_DIRECTION: [(&str, &[&str]); 5] = [
    ("engine", &[]),
    ("protocols", &[]),
    ("gateway", &["bowline-engine", "bowline-protocols"]),
    ("bench", &["bowline-engine", "bowline-protocols", "bowline-gateway"]),
    ("tests", &["bowline-engine", "bowline-protocols", "bowline-gateway", "bowline-bench"]),
];

/// What may break a rule: the rule's name, the beginning of the finding, the reason.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

#[test]
fn every_file_says_what_it_owns() {
    check("module docs", module_docs);
}

#[test]
fn files_are_short() {
    check("file length", file_length);
}

#[test]
fn functions_are_short() {
    check("function length", function_length);
}

#[test]
fn unsafe_stays_inside_its_fence() {
    check("unsafe", unsafe_outside);
}

#[test]
fn nothing_is_left_to_do() {
    check("left to do", left_to_do);
}

#[test]
fn modules_use_only_those_declared_above_them() {
    let mut findings = Vec::new();
    for (krate, _) in CRATE_DIRECTION {
        let source = root().join(krate).join("src");
        let files = rust_files(&source).into_iter().map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is text");
            (path.strip_prefix(&source).expect("it is below src").to_path_buf(), text)
        });
        let direction = Direction::of(files.collect());
        findings.extend(direction.findings().into_iter().map(|finding| format!("{krate}: {finding}")));
    }
    report("module direction", findings);
}

#[test]
fn crates_use_only_those_below_them() {
    let findings = CRATE_DIRECTION.iter().flat_map(|(krate, allowed)| {
        let manifest =
            fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("every crate has one");
        crate_direction(krate, allowed, &manifest)
    });
    report("crate direction", findings.collect());
}

#[test]
fn no_path_of_one_machine_stands_anywhere() {
    let findings = text_files(&root()).into_iter().flat_map(|path| {
        let text = fs::read_to_string(&path).unwrap_or_default();
        machine_paths(&relative(&path), &text)
    });
    report("machine paths", findings.collect());
}

/// Runs one rule over every Rust file of the repository.
fn check(rule: &str, findings: impl Fn(&str, &str) -> Vec<String>) {
    let files = rust_files(&root());
    assert!(files.len() > 20, "the sources are found");
    let all = files.iter().flat_map(|path| {
        let text = fs::read_to_string(path).expect("a source file is text");
        findings(&relative(path), &text)
    });
    report(rule, all.collect());
}

fn report(rule: &str, findings: Vec<String>) {
    let excepted =
        |finding: &str| EXCEPTIONS.iter().any(|(r, start, _)| *r == rule && finding.starts_with(start));
    let left: Vec<_> = findings.iter().filter(|finding| !excepted(finding)).collect();
    for (_, start, reason) in EXCEPTIONS.iter().filter(|(r, _, _)| *r == rule) {
        let needed = findings.iter().any(|finding| finding.starts_with(start));
        assert!(needed, "the exception {start:?} ({reason}) is no longer needed");
    }
    assert!(left.is_empty(), "{rule}:\n{left:#?}");
}

fn module_docs(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().take_while(|line| line.starts_with("//!")).count();
    if lines == 0 { vec![format!("{path}: does not open with //!")] } else { Vec::new() }
}

fn file_length(path: &str, text: &str) -> Vec<String> {
    let tests: usize = parse(path, text).items.iter().filter(|item| is_test(item)).map(lines_of).sum();
    let lines = text.lines().count() - tests;
    if lines <= FILE_LINES_MAX || is_test_file(path) {
        return Vec::new();
    }
    vec![format!("{path}: {lines} lines without tests, at most {FILE_LINES_MAX}")]
}

fn function_length(path: &str, text: &str) -> Vec<String> {
    let mut functions = Functions(Vec::new());
    functions.visit_file(&parse(path, text));
    let long = functions.0.into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
    long.map(|(name, lines)| format!("{path}: {name} has {lines} lines, at most {FUNCTION_LINES_MAX}"))
        .collect()
}

fn unsafe_outside(path: &str, text: &str) -> Vec<String> {
    if UNSAFE_FENCE.iter().any(|fence| path.starts_with(fence)) {
        return Vec::new();
    }
    let tokens = tokens(path, text);
    let found = flat(tokens).into_iter().any(|token| token == "unsafe");
    if found { vec![format!("{path}: unsafe outside of {UNSAFE_FENCE:?}")] } else { Vec::new() }
}

fn left_to_do(path: &str, text: &str) -> Vec<String> {
    let flat = flat(tokens(path, text));
    let mut findings = Vec::new();
    for window in flat.windows(3) {
        let [a, b, c] = window else { unreachable!("windows of three") };
        if (a == "todo" || a == "unimplemented") && b == "!" {
            findings.push(format!("{path}: {a}!"));
        }
        if a == "#" && b == "[" && c == "ignore" {
            findings.push(format!("{path}: an ignored test"));
        }
    }
    findings
}

fn machine_paths(path: &str, text: &str) -> Vec<String> {
    // Taken apart, so that this file passes its own rule.
    let names = [["/wo", "rk"].concat(), ["/ro", "ot"].concat(), ["/ho", "me"].concat()];
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for name in &names {
            for (at, _) in line.match_indices(name.as_str()) {
                let before = line[..at].chars().next_back();
                let after = line[at + name.len()..].chars().next();
                let starts = before.is_none_or(|c| !c.is_alphanumeric() && !"._-)}*".contains(c));
                if starts && after.is_none_or(|c| c == '/' || c.is_whitespace() || "\"'`".contains(c)) {
                    findings.push(format!("{path}:{}: {name}", number + 1));
                }
            }
        }
    }
    findings
}

fn crate_direction(krate: &str, allowed: &[&str], manifest: &str) -> Vec<String> {
    let named = manifest.lines().filter(|line| line.starts_with("bowline-"));
    let names = named.filter_map(|line| line.split([' ', '.', '=']).next());
    let wrong = names.filter(|name| !allowed.contains(name));
    wrong.map(|name| format!("{krate} must not use {name}")).collect()
}

/// Collects every function with its length.
struct Functions(Vec<(String, usize)>);

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.0.push((item.sig.ident.to_string(), length(item.sig.span(), item.block.span())));
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.0.push((item.sig.ident.to_string(), length(item.sig.span(), item.block.span())));
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.0.push((item.sig.ident.to_string(), length(item.sig.span(), block.span())));
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

/// The modules of one crate in the order of their declaration, and who uses whom.
struct Direction {
    /// Children of each module, lowest first.
    children: HashMap<Vec<String>, Vec<String>>,
    /// What a module re-exports: (module, name) leads to a path.
    exports: HashMap<(Vec<String>, String), Vec<String>>,
    /// A module and a path that it uses, both from the crate's root.
    uses: Vec<(Vec<String>, Vec<String>)>,
}

impl Direction {
    fn of(files: Vec<(PathBuf, String)>) -> Self {
        let mut direction = Self { children: HashMap::new(), exports: HashMap::new(), uses: Vec::new() };
        for (path, text) in &files {
            let module = module_of(path);
            let file = parse(&path.to_string_lossy(), text);
            direction.read(&module, &file.items);
        }
        direction
    }

    fn read(&mut self, module: &[String], items: &[syn::Item]) {
        let items = || items.iter().filter(|item| !is_test(item));
        let children = items().filter_map(|item| match item {
            syn::Item::Mod(child) => Some((child.ident.to_string(), &child.content)),
            _ => None,
        });
        let children: Vec<_> = children.collect();
        let names = children.iter().map(|(name, _)| name.clone());
        self.children.entry(module.to_vec()).or_default().extend(names);
        for (name, content) in children {
            if let Some((_, items)) = content {
                self.read(&[module, &[name]].concat(), items);
            }
        }
        for item in items() {
            match item {
                syn::Item::Mod(_) => {}
                syn::Item::Use(used) => self.read_use(module, used),
                other => self.read_paths(module, other),
            }
        }
    }

    fn read_use(&mut self, module: &[String], used: &syn::ItemUse) {
        let mut paths = Vec::new();
        use_paths(&used.tree, &mut Vec::new(), &mut paths);
        for (path, name) in paths {
            let Some(target) = self.absolute(module, &path) else { continue };
            if !matches!(used.vis, syn::Visibility::Inherited) {
                self.exports.insert((module.to_vec(), name), target.clone());
            }
            self.uses.push((module.to_vec(), target));
        }
    }

    /// Paths in expressions, types and macros, by their tokens: macros are not parsed.
    fn read_paths(&mut self, module: &[String], item: &syn::Item) {
        let flat = flat(quote::ToTokens::to_token_stream(item));
        for start in 0..flat.len() {
            if !matches!(flat[start].as_str(), "crate" | "super") || start > 0 && flat[start - 1] == ":" {
                continue;
            }
            let mut path = vec![flat[start].clone()];
            let mut at = start + 1;
            while at + 2 < flat.len() && flat[at] == ":" && flat[at + 1] == ":" {
                path.push(flat[at + 2].clone());
                at += 3;
            }
            // `pub(crate)` and `pub(super)` are no paths.
            if path.len() > 1
                && let Some(target) = self.absolute(module, &path)
            {
                self.uses.push((module.to_vec(), target));
            }
        }
    }

    /// A path as written in `module`, from the crate's root; nothing for a path into another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut base = module.to_vec();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
                return Some([&base, rest].concat());
            }
            child if self.children.get(module).is_some_and(|all| all.iter().any(|one| one == child)) => {
                return Some([&base, rest].concat());
            }
            _ => return None,
        }
        Some([&base, &rest[1..]].concat())
    }

    fn findings(&self) -> Vec<String> {
        let mut findings: Vec<_> =
            self.uses.iter().filter_map(|(module, path)| self.finding(module, path)).collect();
        findings.sort();
        findings.dedup();
        findings
    }

    fn finding(&self, module: &[String], path: &[String]) -> Option<String> {
        let target = self.through_exports(path);
        let common = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
        let siblings = self.children.get(&module[..common])?;
        let position = |name: Option<&String>| siblings.iter().position(|one| Some(one) == name);
        let (user, used) = (position(module.get(common))?, position(target.get(common))?);
        (user < used).then(|| {
            let (module, target) = (module.join("::"), target.join("::"));
            format!("{module} uses {target}, which is declared below it")
        })
    }

    /// Follows re-exports, so that `crate::Name` counts as the module that `Name` comes from.
    fn through_exports(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let hit = (1..=path.len()).find_map(|length| {
                let key = (path[..length - 1].to_vec(), path[length - 1].clone());
                Some((length, self.exports.get(&key)?))
            });
            match hit {
                Some((length, target)) if path[..length] != target[..] => {
                    path = [target, &path[length..]].concat();
                }
                _ => break,
            }
        }
        path
    }
}

/// The module of a file below `src`.
fn module_of(path: &Path) -> Vec<String> {
    let stem = path.with_extension("");
    let mut parts: Vec<_> = stem.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Every path of a `use` and the name under which it is seen.
fn use_paths(tree: &syn::UseTree, prefix: &mut Vec<String>, into: &mut Vec<(Vec<String>, String)>) {
    match tree {
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            use_paths(&path.tree, prefix, into);
            prefix.pop();
        }
        syn::UseTree::Name(name) => push_path(prefix, &name.ident, &name.ident, into),
        syn::UseTree::Rename(rename) => push_path(prefix, &rename.ident, &rename.rename, into),
        syn::UseTree::Glob(_) => into.push((prefix.clone(), "*".to_owned())),
        syn::UseTree::Group(group) => group.items.iter().for_each(|item| use_paths(item, prefix, into)),
    }
}

fn push_path(prefix: &[String], last: &syn::Ident, seen: &syn::Ident, into: &mut Vec<(Vec<String>, String)>) {
    let last = last.to_string();
    let path = if last == "self" { prefix.to_vec() } else { [prefix, &[last]].concat() };
    into.push((path, seen.to_string()));
}

fn is_test(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        let words = flat(quote::ToTokens::to_token_stream(attribute));
        words.iter().any(|word| word == "cfg") && words.iter().any(|word| word == "test")
    })
}

/// A file that holds nothing but tests.
fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn lines_of(item: &syn::Item) -> usize {
    length(item.span(), item.span())
}

fn length(from: proc_macro2::Span, to: proc_macro2::Span) -> usize {
    to.end().line - from.start().line + 1
}

fn parse(path: &str, text: &str) -> syn::File {
    syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn tokens(path: &str, text: &str) -> TokenStream {
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All tokens in one row, groups opened, literals left out.
fn flat(tokens: TokenStream) -> Vec<String> {
    let mut row = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    _ => ("(", ")"),
                };
                row.push(open.to_owned());
                row.extend(flat(group.stream()));
                row.push(close.to_owned());
            }
            TokenTree::Ident(ident) => row.push(ident.to_string()),
            TokenTree::Punct(punct) => row.push(punct.as_char().to_string()),
            TokenTree::Literal(_) => row.push("\"\"".to_owned()),
        }
    }
    row
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository").to_path_buf()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("it is in the repository").to_string_lossy().into_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    files(folder, &["rs"])
}

fn text_files(folder: &Path) -> Vec<PathBuf> {
    files(folder, &["rs", "toml", "md", "sh", "java", "js", "json", "yaml", "yml", "xml"])
}

fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !FOREIGN.contains(&name.as_str()) {
            found.extend(files(&path, endings));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Folders of what is not written by us: most are what a build or a run of the bench leaves, and git ignores them.
const FOREIGN: [&str; 7] =
    ["target", "node_modules", "corpus", "artifacts", ".git", ".peers", "bench-results"];

mod each_rule_notices {
    use super::*;

    #[test]
    fn a_file_without_docs() {
        assert_eq!(module_docs("a.rs", "use x;\n//! late").len(), 1);
        assert!(module_docs("a.rs", "//! Owns a.\n").is_empty());
    }

    #[test]
    fn a_long_file_but_not_its_tests() {
        let body = "fn f() {}\n".repeat(FILE_LINES_MAX);
        assert!(file_length("a/src/b.rs", &body).is_empty());
        assert_eq!(file_length("a/src/b.rs", &format!("{body}fn g() {{}}\n")).len(), 1);
        assert!(file_length("a/src/b.rs", &format!("{body}#[cfg(test)]\nmod tests {{\n}}\n")).is_empty());
    }

    #[test]
    fn a_long_function_wherever_it_stands() {
        let long = |lines: usize| format!("struct A; impl A {{ fn f() {{\n{}}} }}", "g();\n".repeat(lines));
        assert!(function_length("a.rs", &long(FUNCTION_LINES_MAX - 2)).is_empty());
        assert_eq!(function_length("a.rs", &long(FUNCTION_LINES_MAX)).len(), 1);
    }

    #[test]
    fn unsafe_outside_of_the_fence_and_in_macros() {
        assert_eq!(unsafe_outside("engine/src/timer.rs", "m! { unsafe { f() } }").len(), 1);
        assert!(unsafe_outside("engine/src/sys/epoll.rs", "unsafe fn f() {}").is_empty());
        assert!(unsafe_outside("a.rs", "// unsafe\nconst A: &str = \"unsafe\";").is_empty());
    }

    #[test]
    fn what_is_left_to_do() {
        assert_eq!(left_to_do("a.rs", "fn f() { todo!() }").len(), 1);
        assert_eq!(left_to_do("a.rs", "fn f() { unimplemented!() }").len(), 1);
        assert_eq!(left_to_do("a.rs", "#[test] #[ignore = \"slow\"] fn f() {}").len(), 1);
        assert!(left_to_do("a.rs", "fn ignore() { todo(1); }").is_empty());
    }

    #[test]
    fn a_path_of_one_machine() {
        let path = |folder: &str| format!("\"{folder}/a\"");
        assert_eq!(machine_paths("a.rs", &path(&["/wo", "rk"].concat())).len(), 1);
        assert_eq!(machine_paths("a.rs", &path(&["/ro", "ot"].concat())).len(), 1);
        assert!(machine_paths("a.rs", &path(&["./a/wo", "rk"].concat())).is_empty());
        assert!(machine_paths("a.rs", &path(&["/ro", "otless"].concat())).is_empty());
    }

    #[test]
    fn a_crate_above() {
        let manifest = "[dependencies]\nbowline-gateway = { path = \"../gateway\" }\nnix = \"1\"\n";
        assert_eq!(crate_direction("engine", &[], manifest).len(), 1);
        assert!(crate_direction("bench", &["bowline-gateway"], manifest).is_empty());
    }

    fn direction(files: &[(&str, &str)]) -> Vec<String> {
        Direction::of(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
            .findings()
    }

    #[test]
    fn a_module_that_uses_one_below() {
        let lib = ("lib.rs", "mod low; mod high; pub use high::Top;");
        assert!(direction(&[lib, ("high.rs", "use crate::low::A;")]).is_empty());
        assert_eq!(direction(&[lib, ("low.rs", "use crate::high::A;")]).len(), 1);
        assert_eq!(direction(&[lib, ("low.rs", "use super::{high as h};")]).len(), 1);
        assert_eq!(direction(&[lib, ("low.rs", "fn f() { m!(crate::high::a()) }")]).len(), 1);
        assert_eq!(direction(&[lib, ("low.rs", "use crate::Top;")]).len(), 1, "through a re-export");
        assert!(direction(&[lib, ("low.rs", "#[cfg(test)] mod tests { use crate::high::A; }")]).is_empty());
    }

    #[test]
    fn the_same_inside_a_folder() {
        let files = [("lib.rs", "mod a;"), ("a/mod.rs", "mod low; mod high; pub(crate) fn f() {}")];
        let with = |path, text| direction(&[files[0], files[1], (path, text)]);
        assert_eq!(with("a/low.rs", "use super::high::A;").len(), 1);
        assert!(with("a/high.rs", "use super::low::A; use super::f;").is_empty());
    }
}
