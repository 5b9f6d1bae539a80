use std::{collections::BTreeSet, fs, path::Path};

use super::*;

fn web() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway/dashboard/web")
}

/// The files below a folder, by their paths from it.
fn below(folder: &Path, found: &mut BTreeSet<String>, root: &Path) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            below(&path, found, root);
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

#[test]
fn every_file_is_served_and_every_import_leads_to_one() {
    let mut found = BTreeSet::new();
    below(&web(), &mut found, &web());
    let served: BTreeSet<String> = FIRST.iter().chain(LATER).map(|(name, ..)| (*name).to_owned()).collect();
    let others = ["page.html", "vendor/fetch", "vendor/pinned", "vendor/LICENSES"];
    let styles = ["style/base.css", "style/page.css", "style/dialogs.css"];
    let others = others.iter().chain(&styles).map(|name| (*name).to_owned()).collect();
    assert_eq!(found.difference(&others).collect::<Vec<_>>(), served.iter().collect::<Vec<_>>());
    for (name, kind, _) in FIRST.iter().chain(LATER).filter(|(_, kind, _)| *kind == SCRIPT) {
        for (target, _) in imports(name) {
            assert!(served.contains(&target), "{name} ({kind}) imports {target}");
        }
    }
}

/// What a script imports, by its path; and whether it does so before it runs.
fn imports(name: &str) -> Vec<(String, bool)> {
    let (_, _, text) = FIRST.iter().chain(LATER).find(|(one, ..)| *one == name).unwrap();
    let place = |target: &str| {
        let mut path = Path::new(name).parent().unwrap().to_path_buf();
        for part in target.split('/') {
            match part {
                "." => {}
                ".." => drop(path.pop()),
                part => path.push(part),
            }
        }
        path.to_str().unwrap().to_owned()
    };
    let mut found = Vec::new();
    for line in text.lines() {
        let is_first = line.starts_with("import ") || line.contains("} from '");
        if is_first || line.contains("import('") {
            let targets = line.split('\'').skip(1).step_by(2).filter(|target| target.starts_with('.'));
            found.extend(targets.map(|target| (place(target), is_first)));
        }
    }
    found
}

/// These scripts, and all that must have come before they run.
fn with_imports(scripts: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut next: Vec<String> = scripts.iter().map(|&name| name.to_owned()).collect();
    while let Some(name) = next.pop() {
        if all.insert(name.clone()) {
            next.extend(imports(&name).into_iter().filter(|(_, is_first)| *is_first).map(|(target, _)| target));
        }
    }
    all
}

#[test]
fn the_page_is_drawn_with_nothing_of_what_is_loaded_later() {
    let first: BTreeSet<String> =
        FIRST.iter().filter(|(_, kind, _)| *kind == SCRIPT).map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(with_imports(&["start.js"]), first);
}

#[test]
fn comments_are_for_whoever_reads_the_sources() {
    let script = "// Why.\nconst way = 'https://'; // here\n  // and there\n  go();\n";
    assert_eq!(lean("a.js", SCRIPT, script), "const way = 'https://'; // here\n  go();\n");
    assert_eq!(lean("vendor/a.js", SCRIPT, script), script);
    assert_eq!(lean("a.css", STYLE, "/* Why. */\np { margin: 0; } /* here */\n"), "p { margin: 0; } /* here */\n");
    // One that goes on in the next line would leave half of itself.
    let whole = |line: &str| !line.trim_start().starts_with("/*") || line.trim_end().ends_with("*/");
    assert!(STYLES.lines().all(whole), "a comment of the styles is longer than its line");
    let assets = Assets::pack();
    let start = String::from_utf8(assets.get("start.js").unwrap().plain.clone()).unwrap();
    assert!(start.starts_with("import "), "{start}");
}

/// The keys of what is said in a language, as `t` takes them; of an object on one line, its own.
fn words(language: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in [format!("words/{language}.js"), format!("words/{language}_windows.js")] {
        let (_, _, text) = LATER.iter().find(|(name, ..)| *name == file).unwrap();
        let mut path: Vec<&str> = Vec::new();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let Some((key, _)) = line.split_once(':').filter(|(key, _)| key.starts_with("  ")) else { continue };
            path.truncate((key.len() - key.trim_start().len()) / 2 - 1);
            path.push(key.trim().trim_matches('\''));
            found.insert(path.join("."));
        }
    }
    found
}

#[test]
fn every_language_says_all_that_is_asked_for() {
    let english = words("en");
    assert!(english.len() > 200, "{english:?}");
    assert_eq!(english, words("de"));
    let ours = |name: &str| !name.starts_with("words/") && !name.starts_with("vendor/");
    for (name, _, text) in FIRST.iter().chain(LATER).filter(|(name, ..)| ours(name)) {
        let asked = text.split("t('").collect::<Vec<_>>();
        for pair in asked.windows(2) {
            // The end of another function's name.
            if pair[0].ends_with(char::is_alphanumeric) {
                continue;
            }
            let key = pair[1].split('\'').next().unwrap();
            let around = key.rsplit_once('.').map_or(key, |(around, _)| around);
            assert!(english.contains(key) || english.contains(around), "{name} says {key}, which has no words");
        }
    }
}

#[test]
fn the_libraries_are_those_that_were_fetched() {
    let pinned = fs::read_to_string(web().join("vendor/pinned")).unwrap();
    let mut count = 0;
    for line in pinned.lines().filter(|line| line.starts_with("file ")) {
        let [_, name, digest] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let text = fs::read(web().join("vendor").join(name)).unwrap();
        let found: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest, "{name} is not what vendor/fetch made; run it");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn the_first_paint_is_small() {
    let assets = Assets::pack();
    let libraries: usize =
        assets.files.iter().filter(|file| file.name.starts_with("vendor/")).map(|file| file.packed.len()).sum();
    let size = |name: &str| assets.get(name).unwrap().packed.len();
    assert!(libraries < 8_000, "the libraries are {libraries} B");
    for language in ["en", "de"] {
        let words = [format!("words/{language}.js"), format!("words/{language}_windows.js")];
        let [words, of_windows] = words.each_ref().map(String::as_str);
        for (paint, page, scripts) in [
            ("the instances", &assets.page, vec!["start.js", words]),
            ("the form to sign in", &assets.page, vec!["start.js", words, "page/token.js"]),
            ("the page of a linking link", &assets.link, vec!["link/start.js", words, of_windows]),
        ] {
            let scripts: usize = with_imports(&scripts).iter().map(|name| size(name)).sum();
            let all = scripts + size("icon.svg") + size("style.css") + page.packed.len();
            println!("{paint}, {language}: {all} B");
            assert!(all < 40_000, "the first paint of {paint} takes {all} B");
        }
    }
    println!("libraries {libraries} B");
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_has_nothing_inline() {
    let assets = Assets::pack();
    let page = String::from_utf8(assets.page.plain).unwrap();
    assert!(!page.contains("assets/version/") && page.contains(&assets.version));
    assert!(!page.contains("http") && !page.contains(" style=") && !page.contains("<style"), "{page}");
    assert!(page.matches("<script").count() == page.matches("<script type=\"module\" src=").count());
    for (name, _, text) in FIRST.iter().chain(LATER).filter(|(name, ..)| !name.starts_with("vendor/")) {
        for bad in ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", "dangerouslySet", "https://"] {
            assert!(!text.contains(bad), "{name} has {bad}");
        }
    }
}
