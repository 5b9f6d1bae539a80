//! The files of the page: part of the program, packed once when the first is asked for.

mod files;
#[cfg(test)]
mod tests;

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

use self::files::{FIRST, LATER, PAGE, SCRIPT, STYLE, STYLES};
use crate::platform::hex::hex;

/// One file as browsers get it.
pub struct Asset {
    /// Its path.
    name: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// As it is.
    pub plain: Vec<u8>,
    /// With gzip.
    pub packed: Vec<u8>,
    /// Its strong entity tag.
    pub tag: String,
}

/// All files.
pub struct Assets {
    /// A digest of all of them; a part of their addresses, so that they may be kept for ever.
    pub version: String,
    /// The page that loads them.
    pub page: Asset,
    /// The page of a linking link.
    pub link: Asset,
    files: Vec<Asset>,
}

impl Assets {
    /// Packs everything: about 100 kB, a few milliseconds.
    pub fn pack() -> Self {
        let mut all = Sha256::new();
        let styles = STYLES.iter().map(|(name, text)| (*name, STYLE, *text));
        let texts: Vec<_> = FIRST
            .iter()
            .chain(LATER)
            .copied()
            .chain(styles)
            .map(|(name, kind, text)| (name, kind, lean(name, kind, text)))
            .collect();
        for (name, text) in texts.iter().map(|(name, _, text)| (*name, text.as_str())).chain([("page.html", PAGE)]) {
            all.update(format!("{name}\0{text}\0"));
        }
        let version = short(&all.finalize());
        let place = |name: &str| format!("/dashboard/assets/{version}/{name}");
        // Without it, browsers would ask for each script only when the one that imports it has come.
        let links: String = FIRST
            .iter()
            .filter(|(_, kind, _)| *kind == SCRIPT)
            .map(|(name, ..)| format!("<link rel=\"modulepreload\" href=\"{}\">\n", place(name)))
            .collect();
        let page = PAGE.replace("/dashboard/assets/version/", &place(""));
        let more = format!("<link rel=\"stylesheet\" href=\"{}\">\n", place("later.css"));
        let link = page.replace("<!-- scripts -->\n", "").replace("<script", &format!("{more}<script"));
        let link = link.replace(&place("start.js"), &place("link/start.js"));
        let page = page.replace("<!-- scripts -->\n", &links);
        let whole = |name, text: &str| Asset::of(name, "text/html; charset=utf-8", text);
        let files = texts.iter().map(|(name, kind, text)| Asset::of(name, kind, text)).collect();
        Self { version, page: whole("page.html", &page), link: whole("link.html", &link), files }
    }

    /// The file with this path.
    pub fn get(&self, name: &str) -> Option<&Asset> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl Asset {
    fn of(name: &'static str, kind: &'static str, text: &str) -> Self {
        let plain = text.as_bytes().to_vec();
        let tag = format!("\"{}\"", short(&Sha256::digest(&plain)));
        Self { name, kind, packed: packed(&plain), plain, tag }
    }
}

/// A script or a style sheet without the lines that are nothing but comment, which are for readers of the sources. Libraries stay
/// as they were fetched.
fn lean(name: &str, kind: &str, text: &str) -> String {
    let begins = match kind {
        STYLE => "/*",
        SCRIPT if !name.starts_with("vendor/") => "//",
        _ => return text.to_owned(),
    };
    let is_kept = |line: &&str| !line.trim_start().starts_with(begins);
    text.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect()
}

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let _ = packer.write_all(plain);
    packer.finish().unwrap_or_default()
}

fn short(digest: &[u8]) -> String {
    hex(digest.get(..8).unwrap_or(digest))
}
