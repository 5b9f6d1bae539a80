use std::{collections::BTreeSet, fs, path};

use axum::{
    extract::Path,
    http::{HeaderMap, header},
    response::Response,
};

use super::{
    super::{super::edge, ASSETS, file, page},
    *,
};

fn web() -> std::path::PathBuf {
    path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway/dashboard/web")
}

/// The files below a folder, by their paths from it.
fn below(folder: &path::Path, found: &mut BTreeSet<String>, root: &path::Path) {
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
    let styles = ["style/base.css", "style/page.css", "style/table.css", "style/dialogs.css"];
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
        let mut path = path::Path::new(name).parent().unwrap().to_path_buf();
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
    assert!(STYLES.iter().all(|(_, text)| text.lines().all(whole)), "a comment of the styles is longer than its line");
    let assets = Assets::pack();
    let start = String::from_utf8(assets.get("start.js").unwrap().plain.clone()).unwrap();
    assert!(start.starts_with("import "), "{start}");
}

/// The keys of what is said in a language, as `t` takes them: one for each text and each list.
fn words(language: &str) -> BTreeSet<String> {
    words_of_language(language).iter().flat_map(|file| keys(file)).collect()
}

/// The files of a language: what is said at first, later, and when something is refused.
fn words_of_language(language: &str) -> [String; 3] {
    ["", "_more", "_refusals"].map(|which| format!("words/{language}{which}.js"))
}

/// The keys of the texts and lists in a file of words, which is one JavaScript object: of texts, lists and such objects.
fn keys(file: &str) -> BTreeSet<String> {
    let (_, _, mut rest) = *LATER.iter().find(|(name, ..)| *name == file).unwrap();
    let (mut found, mut around, mut key) = (BTreeSet::new(), Vec::new(), None::<String>);
    while let Some(first) = rest.chars().next() {
        let begin = rest;
        let word = match first {
            _ if rest.starts_with("//") => {
                rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
                continue;
            }
            '\'' | '"' | '`' => {
                rest = after_text(rest);
                &begin[1..begin.len() - rest.len() - 1]
            }
            '[' => {
                while !rest.starts_with(']') {
                    rest = if rest.starts_with(['\'', '"', '`']) { after_text(rest) } else { &rest[1..] };
                }
                ""
            }
            letter if letter.is_alphanumeric() => {
                rest = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
                &begin[..begin.len() - rest.len()]
            }
            other => {
                match other {
                    '{' => around.push(key.take()),
                    '}' => drop(around.pop()),
                    _ => {}
                }
                rest = &rest[other.len_utf8()..];
                continue;
            }
        };
        if rest.trim_start().starts_with(':') {
            key = Some(word.to_owned());
        } else if let Some(key) = key.take_if(|_| !first.is_alphanumeric()) {
            let path: Vec<String> = around.iter().flatten().cloned().chain([key]).collect();
            found.insert(path.join("."));
        }
    }
    found
}

/// What follows the text in quotes at the beginning.
fn after_text(text: &str) -> &str {
    let quote = &text[..1];
    let mut rest = &text[1..];
    while !rest.starts_with(quote) {
        let length = rest.chars().take(if rest.starts_with('\\') { 2 } else { 1 }).map(char::len_utf8).sum::<usize>();
        rest = &rest[length..];
    }
    &rest[1..]
}

/// What looks like a key in a script: what is in single quotes, wherever it stands, and what a template begins with.
fn quoted(script: &str) -> impl Iterator<Item = &str> {
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    script.match_indices(['\'', '`']).filter_map(move |(at, quote)| {
        let text = &script[at + 1..];
        let end = text.find(|c: char| !is_key(c))?;
        (text[end..].starts_with(quote) || text[end..].starts_with("${")).then_some(&text[..end])
    })
}

#[test]
fn every_reason_for_a_disconnection_has_words() {
    use crate::bridge_api::SessionReason as Reason;
    let english = words("en");
    let before_a_link = [Reason::CoexistenceNotSupported, Reason::PairingFailed, Reason::PairingCodesUnusable];
    for reason in Reason::ALL.into_iter().filter(|reason| !before_a_link.contains(reason)) {
        assert!(english.contains(&format!("disconnects.{reason:?}")), "{reason:?} has no words");
    }
}

#[test]
fn every_code_of_a_refusal_has_words() {
    let english = words("en");
    for entry in crate::gateway::code::ALL {
        assert!(english.contains(&format!("refusals.{}", entry.word)), "{} has no words", entry.word);
    }
}

#[test]
fn every_language_says_all_that_is_asked_for() {
    let english = words("en");
    assert!(english.len() > 250, "{english:?}");
    // Each of an object on one line, of the two of a count, and a list.
    for key in ["header.themes.dark", "summary.shown.one", "qr.steps", "actions.refresh-qr", "close"] {
        assert!(english.contains(key), "{key} is not found");
    }
    assert_eq!(english, words("de"));
    // A key, or what has several below it: the two of a count, and all that a template may end with.
    let is_said = |key: &str| {
        let below = format!("{}.", key.trim_end_matches('.'));
        english.contains(key) || english.iter().any(|said| said.starts_with(&below))
    };
    let groups: BTreeSet<&str> = english.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    let mut asked = BTreeSet::new();
    let ours = |name: &str| !name.starts_with("words/") && !name.starts_with("vendor/");
    for (name, _, text) in FIRST.iter().chain(LATER).filter(|(name, ..)| ours(name)) {
        let grouped = quoted(text).filter(|key| key.split_once('.').is_some_and(|(group, _)| groups.contains(group)));
        let called = text.match_indices("t('").filter(|(at, _)| !text[..*at].ends_with(char::is_alphanumeric));
        let called = called.map(|(at, begin)| text[at + begin.len()..].split('\'').next().unwrap());
        for key in grouped.chain(called) {
            assert!(is_said(key), "{name} says {key}, which has no words");
            asked.insert(key);
        }
    }
    // What is seen first is said with the words that are there first. Whether there are words of a refusal is asked before.
    let first = keys("words/en.js");
    let at_first = with_imports(&["start.js", "page/token.js"]);
    for (name, _, text) in FIRST.iter().chain(LATER).filter(|(name, ..)| at_first.contains(*name) && ours(name)) {
        let grouped = quoted(text).filter(|key| key.split_once('.').is_some_and(|(group, _)| groups.contains(group)));
        for key in grouped.filter(|key| *key != "refusals.") {
            let below = format!("{}.", key.trim_end_matches('.'));
            let is_there = first.contains(key) || first.iter().any(|said| said.starts_with(&below));
            assert!(is_there, "{name} says {key} before it has the words");
        }
    }
    // One behind a condition, and one out of a list.
    for key in ["events.resume", "events.pause", "messages.notLinked", "messages.status."] {
        assert!(asked.contains(key), "{key} is not looked at");
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

/// Bytes of an answer with its head, as HTTP/1.1 has it, with the headers that every answer gets on its way and those of the server.
async fn on_the_wire(response: Response, added: &[&[(&str, &str)]]) -> usize {
    let mut head = "HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 10:32:11 GMT\r\ncontent-length: 12345\r\n\r\n".len();
    let own = response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let added = added.iter().copied().flatten().copied();
    for (name, value) in own.chain(added) {
        head += format!("{name}: {value}\r\n").len();
    }
    head + axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().len()
}

/// Bytes of the answer that says who is signed in, or that nobody is: with its head, some 600.
const ACCOUNT: usize = 1_000;

#[tokio::test]
async fn the_first_paint_is_small() {
    let assets = Assets::pack();
    let libraries: usize =
        assets.files.iter().filter(|file| file.name.starts_with("vendor/")).map(|file| file.packed.len()).sum();
    println!("libraries {libraries} B");
    assert!(libraries < 8_000, "the libraries are {libraries} B");
    let gzip: HeaderMap = [(header::ACCEPT_ENCODING, "gzip".parse().unwrap())].into_iter().collect();
    let asset = async |name: &str| {
        let answer = file(Path((ASSETS.version.clone(), name.to_owned())), gzip.clone()).await.unwrap();
        on_the_wire(answer, &[edge::HEADERS]).await
    };
    for language in ["en", "de"] {
        let words = words_of_language(language);
        let [words, more, _] = words.each_ref().map(String::as_str);
        for (paint, shown, scripts, styles) in [
            ("the instances", &ASSETS.page, vec!["start.js", words], &["style.css"][..]),
            ("the form to sign in", &ASSETS.page, vec!["start.js", words, "page/token.js"], &["style.css"]),
            (
                "the page of a linking link",
                &ASSETS.link,
                vec!["link/start.js", words, more],
                &["style.css", "later.css"],
            ),
        ] {
            let document = page(shown, gzip.clone());
            let id = [("x-request-id", "0123456789abcdef0123456789abcdef")];
            let mut all = on_the_wire(document, &[edge::HEADERS, edge::HEADERS_OF_DOCUMENTS, &id]).await + ACCOUNT;
            let scripts = with_imports(&scripts);
            for name in scripts.iter().map(String::as_str).chain(styles.iter().copied()).chain(["icon.svg"]) {
                all += asset(name).await;
            }
            println!("{paint}, {language}: {all} B in {} files", scripts.len() + styles.len() + 1);
            assert!(all < 40_000, "the first paint of {paint} takes {all} B");
        }
    }
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
