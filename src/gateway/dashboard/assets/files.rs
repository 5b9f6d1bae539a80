//! Which files the page is made of. Each list holds path, media type and text.

/// The media type of a script.
pub const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The media type of the style.
pub const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! files {
    ($($(#[$about:meta])* $list:ident { $($kind:ident $name:literal),+ $(,)? })+) => {
        $($(#[$about])* pub const $list: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!(concat!("../web/", $name)))),+];)+
    };
}

files! {
    /// What the page needs before anything is seen.
    FIRST {
    PICTURE "icon.svg",
    SCRIPT "vendor/preact.js",
    SCRIPT "vendor/hooks.js",
    SCRIPT "vendor/htm.js",
    SCRIPT "html.js",
    SCRIPT "api.js",
    SCRIPT "stream.js",
    SCRIPT "state.js",
    SCRIPT "waiting.js",
    SCRIPT "store.js",
    SCRIPT "settings.js",
    SCRIPT "words.js",
    SCRIPT "parts/controls.js",
    SCRIPT "parts/toasts.js",
    SCRIPT "parts/window.js",
    SCRIPT "page/header.js",
    SCRIPT "page/home.js",
    SCRIPT "start.js",
    }
    /// What is loaded when it is wanted.
    LATER {
    SCRIPT "words/en.js",
    SCRIPT "words/de.js",
    SCRIPT "words/en_more.js",
    SCRIPT "words/de_more.js",
    SCRIPT "selection.js",
    SCRIPT "words/en_refusals.js",
    SCRIPT "words/de_refusals.js",
    SCRIPT "page/token.js",
    SCRIPT "page/cards.js",
    SCRIPT "page/status.js",
    SCRIPT "page/actions.js",
    SCRIPT "page/table.js",
    SCRIPT "page/bulk.js",
    SCRIPT "dialogs/add.js",
    SCRIPT "dialogs/events.js",
    SCRIPT "dialogs/qr.js",
    SCRIPT "dialogs/rename.js",
    SCRIPT "dialogs/remove.js",
    SCRIPT "dialogs/unlink.js",
    SCRIPT "dialogs/messages.js",
    SCRIPT "dialogs/compose.js",
    SCRIPT "dialogs/thread.js",
    SCRIPT "dialogs/help.js",
    SCRIPT "dialogs/sign_in.js",
    SCRIPT "parts/dialog.js",
    SCRIPT "parts/focus.js",
    SCRIPT "parts/code.js",
    SCRIPT "parts/copy.js",
    SCRIPT "parts/share.js",
    SCRIPT "link/start.js",
    }
}

/// The styles by the names of the files that browsers get: what is seen at first, and what comes later.
pub const STYLES: &[(&str, &str)] = &[
    ("style.css", concat!(include_str!("../web/style/base.css"), include_str!("../web/style/page.css"))),
    ("later.css", concat!(include_str!("../web/style/table.css"), include_str!("../web/style/dialogs.css"))),
];

/// The page, without the addresses of its files.
pub const PAGE: &str = include_str!("../web/page.html");
