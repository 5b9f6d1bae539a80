//! Holds the source to what `lib.rs` says: rooms depend one way, and no two neighbouring modules depend on each other,
//! not even through others.
//!
//! It reads `use` declarations and paths as text. Test modules may import what they like.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The rooms from the ground up. A room may use those of the floors below its own, and `platform` from anywhere.
const FLOORS: &[&[&str]] = &[
    &["model"],
    &["api"],
    &["rules"],
    &["bridge_api"],
    &["drivers"],
    &["admission", "controller", "gateway", "plugin"],
    &["cli"],
    &["run"],
];

/// A module's path from the crate's root, such as `["controller", "decide"]`.
type Module = Vec<String>;

/// One crate's modules: what each of them mentions, and what their `mod.rs` re-exports.
struct Source {
    modules: BTreeMap<Module, Vec<Module>>,
    reexports: BTreeMap<Module, Module>,
}

impl Source {
    /// Reads the crate below `root`, without the folders in `except`.
    fn read(root: &Path, except: &[&str]) -> Self {
        let mut source = Self { modules: BTreeMap::new(), reexports: BTreeMap::new() };
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
                let relative = entry.strip_prefix(root).unwrap().to_path_buf();
                if entry.is_dir() {
                    if !except.iter().any(|name| relative == Path::new(name)) {
                        folders.push(entry);
                    }
                } else if let Some(module) = module(&relative) {
                    source.add(module, &fs::read_to_string(&entry).unwrap());
                }
            }
        }
        source
    }

    fn add(&mut self, module: Module, text: &str) {
        let text = without_tests(text);
        let mut mentions = Vec::new();
        for path in paths(&text) {
            let exported = path.first().is_some_and(|word| word == "pub");
            let path = if exported { path[1..].to_vec() } else { path };
            let Some(absolute) = absolute(&module, &path) else { continue };
            if exported && let Some(name) = absolute.last() {
                let mut shown = module.clone();
                shown.push(name.clone());
                if shown != absolute {
                    self.reexports.insert(shown, absolute.clone());
                }
            }
            mentions.push(absolute);
        }
        self.modules.insert(module, mentions);
    }

    /// The module that a path leads to, through re-exports.
    fn resolve(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let known = (1..=path.len()).rev().find_map(|end| Some((end, self.reexports.get(&path[..end])?)));
            let Some((end, target)) = known else { break };
            path = target.iter().chain(&path[end..]).cloned().collect();
        }
        while !path.is_empty() && !self.modules.contains_key(&path) {
            path.pop();
        }
        path
    }

    /// Which modules each module uses.
    fn uses(&self) -> BTreeSet<(Module, Module)> {
        let mut uses = BTreeSet::new();
        for (module, mentions) in &self.modules {
            for mention in mentions {
                let target = self.resolve(mention);
                if target != *module {
                    uses.insert((module.clone(), target));
                }
            }
        }
        uses
    }
}

/// The module a file holds; none for programs, tests and fixtures.
fn module(file: &Path) -> Option<Module> {
    let name = file.file_stem()?.to_str()?;
    let is_test =
        |name: &str| name.ends_with("tests") || ["fixtures", "testing", "properties", "structure"].contains(&name);
    let mut module: Module = file.parent()?.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if file.extension()? != "rs" || is_test(name) || module.iter().any(|part| is_test(part)) {
        return None;
    }
    match name {
        "main" | "lib" if module.is_empty() => return None,
        _ if module.first().is_some_and(|first| first == "bin") => return None,
        "mod" => {}
        name => module.push(name.to_owned()),
    }
    Some(module)
}

/// The text without comments and without what is compiled for tests only.
fn without_tests(text: &str) -> String {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.split(" // ").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n");
    // By convention the tests of a file stand at its end.
    match code.find("#[cfg(test)]\nmod tests {") {
        Some(end) => code[..end].to_owned(),
        None => code.replace("#[cfg(test)]\nuse ", "#[cfg(test)]\n_ "),
    }
}

/// Every path that starts at `crate`, `self` or `super`, those of `use` trees spelled out; `pub` in front when re-exported.
fn paths(text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let words = words(text);
    let mut at = 0;
    while at < words.len() {
        let exported = at >= 2 && words[at - 1] == "use" && (words[at - 2] == "pub" || words[at - 2] == ")");
        let starts = ["crate", "self", "super"].contains(&words[at].as_str())
            && words.get(at + 1).is_some_and(|next| next == "::");
        let local = exported && words.get(at + 1).is_some_and(|next| next == "::");
        if starts || local {
            let prefix = if exported { vec!["pub".to_owned()] } else { Vec::new() };
            let prefix = if local && !starts { [prefix, vec!["self".to_owned()]].concat() } else { prefix };
            at = tree(&words, at, &prefix, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// One `use` tree or path from `at`; where it ends.
fn tree(words: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Module>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match words.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while words.get(at).is_some_and(|word| word != "}") {
                    at = tree(words, at, &path, found);
                    if words.get(at).is_some_and(|word| word == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some(word) if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => path.push(word.to_owned()),
            _ => {}
        }
        at += 1;
        if words.get(at).is_none_or(|word| word != "::") {
            break;
        }
        at += 1;
    }
    if path.last().is_some_and(|last| last == "self") && path.len() > prefix.len().max(1) {
        path.pop();
    }
    found.push(path);
    if words.get(at).is_some_and(|word| word == "as") { at + 2 } else { at }
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            words.push(rest[..end].to_owned());
        }
        rest = &rest[end..];
    }
    words
}

/// A path as seen from the crate's root.
fn absolute(module: &[String], path: &[String]) -> Option<Module> {
    let mut base = module.to_vec();
    let mut path = path.iter();
    match path.next()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => drop(base.pop()),
        _ => return None,
    }
    let mut rest: Vec<String> = Vec::new();
    for word in path {
        if word == "super" && rest.is_empty() {
            base.pop();
        } else {
            rest.push(word.clone());
        }
    }
    Some([base, rest].concat())
}

/// The circles among neighbours: for two modules below different children of one parent, what they use counts as used by the children.
fn circles(uses: &BTreeSet<(Module, Module)>) -> Vec<String> {
    let mut edges: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (from, to) in uses {
        let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if from.len() > common && to.len() > common {
            edges.entry(from[..=common].to_vec()).or_default().insert(to[..=common].to_vec());
        }
    }
    let reach = |start: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(module) = next.pop() {
            for target in edges.get(&module).into_iter().flatten() {
                if seen.insert(target.clone()) {
                    next.push(target.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = edges.keys().map(|module| (module.clone(), reach(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, targets) in &reached {
        if targets.contains(module) {
            let others = targets.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(module)));
            let names: Vec<_> = others.map(|module| module.join("::")).collect();
            circles.insert(names.join(" <-> "));
        }
    }
    circles.into_iter().collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn rooms_depend_one_way() {
    let uses = Source::read(&root(), &["bridge"]).uses();
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let mut wrong = Vec::new();
    for (from, to) in &uses {
        let (Some(here), Some(there)) = (from.first(), to.first()) else { continue };
        let allowed = here == there
            || match (floor(here), floor(there)) {
                (Some(above), Some(below)) => below < above,
                // Platform serves any of them and knows none of them.
                (Some(_), None) => there == "platform",
                (None, _) => false,
            };
        if !allowed {
            wrong.push(format!("{} uses {}", from.join("::"), to.join("::")));
        }
    }
    assert!(wrong.is_empty(), "see FLOORS in src/structure.rs and the map in src/lib.rs:\n{}", wrong.join("\n"));
}

#[test]
fn neighbours_do_not_depend_on_each_other_in_circles() {
    let library = circles(&Source::read(&root(), &["bridge"]).uses());
    let bridge = circles(&Source::read(&root().join("bridge"), &[]).uses());
    let all = [library, bridge].concat();
    assert!(all.is_empty(), "import circles:\n{}", all.join("\n"));
}

#[test]
fn a_circle_through_a_reexport_is_seen() {
    let mut source = Source { modules: BTreeMap::new(), reexports: BTreeMap::new() };
    let module = |name: &str| -> Module { name.split("::").map(str::to_owned).collect() };
    source.add(module("room"), "pub use a::{Thing, other::Name as Alias};\nmod a;\nmod b;");
    source.add(module("room::a"), "use super::b::Part;");
    source.add(module("room::b"), "use crate::room::Thing;\nfn f(t: &Thing) {}");
    source.add(module("room::c"), "use super::{a, b};\n#[cfg(test)]\nmod tests {\n use super::super::c;\n}");
    assert_eq!(circles(&source.uses()), ["room::a <-> room::b"]);
}
