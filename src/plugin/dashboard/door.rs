//! Who may come in: a code that works once, exchanged for a cookie of this program's own. Pure, but for the system's randomness.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue, Method, header};

use crate::{platform::random, plugin::error::PluginError};

/// The path that the code follows.
const ENTER: &str = "/enter/";
/// How long the code may wait to be used. Until then it stands in a process list while the browser is started.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Random bytes of the code, and of the cookie.
const BYTES: usize = 24;

/// The way in, for one browser.
pub struct Door {
    host: String,
    code: String,
    secret: String,
    opened: Instant,
    used: bool,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is passed on.
    Pass,
    /// The code was right, for the first time: the browser gets the cookie.
    Enter,
    /// The code was right, and has been used or has waited too long; or there is no such code.
    Over,
    /// No cookie of ours.
    Stranger,
    /// It asks for another host, whose name was made to lead to this machine (DNS rebinding).
    OtherHost,
    /// Another page wants something changed.
    CrossSite,
}

impl Door {
    /// A new one, for requests to this address.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(address: SocketAddr, now: Instant) -> Result<Self, PluginError> {
        Ok(Self { host: address.to_string(), code: random()?, secret: random()?, opened: now, used: false })
    }

    /// The address to open, once.
    pub fn address(&self) -> String {
        format!("http://{}{ENTER}{}", self.host, self.code)
    }

    /// Decides about a request.
    pub fn ask(&mut self, method: &Method, path: &str, headers: &HeaderMap, now: Instant) -> Answer {
        if headers.get(header::HOST).is_none_or(|host| host != self.host.as_str()) {
            return Answer::OtherHost;
        }
        if let Some(code) = path.strip_prefix(ENTER) {
            // A browser that loads pages ahead has not shown this one yet.
            let ahead = headers.contains_key("sec-purpose") || headers.contains_key("purpose");
            if ahead || self.used || code != self.code || now.duration_since(self.opened) > PATIENCE {
                return Answer::Over;
            }
            self.used = true;
            return Answer::Enter;
        }
        if !self.has_cookie(headers) && !is_for_anybody(method, path) {
            return Answer::Stranger;
        }
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        if changes && !self.is_own_page(headers) { Answer::CrossSite } else { Answer::Pass }
    }

    /// `Set-Cookie` of whoever came in: for this browser as long as it runs, out of reach of scripts and other sites.
    pub fn cookie(&self) -> Option<HeaderValue> {
        let text = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.name(), self.secret);
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Cookies belong to a host whatever the port.
    fn name(&self) -> String {
        format!("kubectl-whatsapp-{}", self.host.rsplit(':').next().unwrap_or_default())
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == self.name() && value == self.secret)
    }

    /// Whether the browser says that a page of ours asks. A page on another port of this machine is of the same site, so
    /// that the cookie alone does not tell.
    fn is_own_page(&self, headers: &HeaderMap) -> bool {
        match headers.get("sec-fetch-site") {
            Some(site) => site == "same-origin",
            None => headers.get(header::ORIGIN).is_some_and(|origin| *origin == format!("http://{}", self.host)),
        }
    }
}

/// Whether it is about a linking link, which is for people without an account: its page, that page's files, and the code behind it.
/// The gateway needs no token for them. Nothing may be taken for one of them that, once its dots are resolved, is another.
fn is_for_anybody(method: &Method, path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    let is_file = || path.starts_with("/dashboard/assets/") && path.bytes().all(plain) && !path.contains("..");
    match *method {
        Method::GET | Method::HEAD => path == "/dashboard/link" || is_file(),
        Method::POST => path == "/api/v1/linking-code",
        _ => false,
    }
}

fn random() -> Result<String, PluginError> {
    random::secret::<BYTES>()
        .map_err(|_| PluginError::Ended("the system gave no randomness for the dashboard's address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Door {
        Door::new("127.0.0.1:4000".parse().unwrap(), Instant::now()).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let host = [("host", "127.0.0.1:4000")];
        let all = host.iter().chain(pairs);
        all.map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn enter(door: &mut Door, more: &[(&'static str, &str)], later: Duration) -> Answer {
        let (path, now) = (format!("{ENTER}{}", door.code), door.opened + later);
        door.ask(&Method::GET, &path, &headers(more), now)
    }

    #[test]
    fn the_code_works_once_and_not_for_long() {
        let mut used = door();
        assert_eq!(enter(&mut used, &[("sec-purpose", "prefetch")], Duration::ZERO), Answer::Over);
        assert_eq!(enter(&mut used, &[], Duration::ZERO), Answer::Enter);
        assert_eq!(enter(&mut used, &[], Duration::ZERO), Answer::Over);
        let mut late = door();
        assert_eq!(enter(&mut late, &[], PATIENCE + Duration::from_secs(1)), Answer::Over);
        assert_eq!(late.ask(&Method::GET, "/enter/guess", &headers(&[]), late.opened), Answer::Over);
        let (one, other) = (door(), door());
        assert!(one.code != other.code && one.secret != other.secret && one.code != one.secret);
        assert!(one.address().starts_with("http://127.0.0.1:4000/enter/") && one.code.len() == 2 * BYTES);
    }

    #[test]
    fn only_whoever_came_in_is_passed_on_and_only_for_a_page_of_ours() {
        let mut door = door();
        let set = door.cookie().unwrap();
        assert!(set.is_sensitive() && set.to_str().unwrap().ends_with("; Path=/; HttpOnly; SameSite=Strict"));
        let own = format!("other=1; {}", set.to_str().unwrap().split(';').next().unwrap());
        let own = ("cookie", own.as_str());
        let same = ("sec-fetch-site", "same-origin");
        for (method, more, answer) in [
            (Method::GET, vec![own], Answer::Pass),
            (Method::GET, vec![("cookie", "kubectl-whatsapp-4000=guess")], Answer::Stranger),
            (Method::GET, vec![], Answer::Stranger),
            (Method::POST, vec![own, same], Answer::Pass),
            (Method::POST, vec![own, ("origin", "http://127.0.0.1:4000")], Answer::Pass),
            (Method::POST, vec![own], Answer::CrossSite),
            (
                Method::POST,
                vec![own, ("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:4000")],
                Answer::CrossSite,
            ),
            (Method::DELETE, vec![own, ("origin", "http://127.0.0.1:4001")], Answer::CrossSite),
            (Method::POST, vec![same], Answer::Stranger),
        ] {
            assert_eq!(door.ask(&method, "/dashboard", &headers(&more), door.opened), answer, "{method} {more:?}");
        }
        for (method, path, answer) in [
            (Method::GET, "/dashboard/link", Answer::Pass),
            (Method::GET, "/dashboard/assets/0a1b/parts/code.js", Answer::Pass),
            (Method::POST, "/api/v1/linking-code", Answer::Pass),
            (Method::GET, "/dashboard/assets/../../api/v1/me", Answer::Stranger),
            (Method::GET, "/dashboard/assets/%2e%2e/x", Answer::Stranger),
            (Method::POST, "/dashboard/assets/x", Answer::Stranger),
            (Method::GET, "/dashboard/link/", Answer::Stranger),
            (Method::GET, "/api/v1/linking-code", Answer::Stranger),
        ] {
            assert_eq!(door.ask(&method, path, &headers(&[same]), door.opened), answer, "{method} {path}");
        }
        let other = headers(&[("sec-fetch-site", "same-site")]);
        assert_eq!(door.ask(&Method::POST, "/api/v1/linking-code", &other, door.opened), Answer::CrossSite);
        let renamed: HeaderMap = [(header::HOST, "evil.example:4000".parse().unwrap())].into_iter().collect();
        let path = format!("{ENTER}{}", door.code);
        assert_eq!(door.ask(&Method::GET, &path, &renamed, door.opened), Answer::OtherHost);
        assert_eq!(door.ask(&Method::GET, "/", &HeaderMap::new(), door.opened), Answer::OtherHost);
    }
}
