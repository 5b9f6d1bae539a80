//! The cookie of a browser that is signed in, as pure functions of headers.
//!
//! It holds the caller's own token and lives as long as the browser runs, or until the token expires. Scripts cannot read it
//! (`HttpOnly`), other sites' pages do not send it (`SameSite=Strict`), and what changes something is taken with it only from
//! the gateway's own pages ([`is_own_page`]).

use axum::http::{HeaderMap, HeaderValue, Uri, header};

/// Browsers keep cookies of 4096 bytes, name and attributes included (RFC 6265, section 6.1).
pub const LONGEST_TOKEN: usize = 3800;

/// Whether the browser came over TLS: to the gateway, or to a proxy in front of it. The page that signs in says so itself, which
/// counts where no proxy tells, or one that has lost it. A caller that lies about it makes its own cookie stricter, nothing
/// else.
pub fn is_secure(https: bool, headers: &HeaderMap) -> bool {
    // The first of several proxies is the one that the browser came to.
    let forwarded = text(headers, "x-forwarded-proto").and_then(|schemes| schemes.split(',').next());
    let origin = text(headers, "origin").and_then(|origin| origin.split(':').next());
    https || [forwarded, origin].into_iter().flatten().any(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

/// The token in the cookies; whether the API server accepts it is not known yet. Where the browser came over TLS the name without
/// `__Host-` does not count: another host of the domain, or somebody on the way where no TLS is, can set that one too. `__Host-` always
/// counts: browsers take and send it over TLS only, and most of what they ask for does not say what [`is_secure`] goes by.
pub fn token(https: bool, headers: &HeaderMap) -> Option<&str> {
    let plain = (!is_secure(https, headers)).then(|| name(headers, false));
    let names = [Some(name(headers, true)), plain];
    let pairs = || {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
    };
    names
        .iter()
        .flatten()
        .find_map(|name| pairs().find(|(given, value)| given == name && !value.is_empty()))
        .map(|(_, v)| v)
}

/// `Set-Cookie` for a token.
pub fn set(headers: &HeaderMap, token: &str, secure: bool) -> Option<HeaderValue> {
    let attributes = if secure { "; Secure" } else { "" };
    let text = format!("{}={token}; Path=/; HttpOnly; SameSite=Strict{attributes}", name(headers, secure));
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `Set-Cookie` that removes it, in both of its forms.
pub fn removed(headers: &HeaderMap) -> impl Iterator<Item = HeaderValue> {
    let forms = [(true, "; Secure"), (false, "")];
    forms
        .map(|(secure, more)| format!("{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{more}", name(headers, secure)))
        .into_iter()
        .filter_map(|text| HeaderValue::try_from(text).ok())
}

/// Whether a request comes from a page of this gateway, as far as the browser says (Fetch Metadata; `Origin` from those that
/// do not send it, and from all of them where no TLS is). Scripts can set neither header, nor what the proxy says of the host
/// that the browser asked: for a page of another site that takes a leave which the gateway does not give (CORS).
pub fn is_own_page(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok()?.parse::<Uri>().ok());
    let origin = origin.as_ref().and_then(|origin| origin.authority());
    origin.is_some_and(|origin| is_asked_for(headers, origin.as_str()))
}

/// Whether this is the host that the browser asked for, port included: as `Host` has it, or the proxy in front, which may have a name
/// of its own for the gateway.
fn is_asked_for(headers: &HeaderMap, authority: &str) -> bool {
    // The first of several proxies is the one that the browser came to.
    let forwarded = text(headers, "x-forwarded-host").and_then(|hosts| hosts.split(',').next()).map(str::trim);
    [host(headers), forwarded].into_iter().flatten().any(|host| host.eq_ignore_ascii_case(authority))
}

/// Whether a browser says that another page made the request. Programs say nothing, and are none.
pub fn is_foreign_page(headers: &HeaderMap) -> bool {
    let is_browser = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN);
    is_browser && !is_own_page(headers)
}

/// Whether a browser says that it makes the request for a page of another site, which is none of those that may (`welcome`, the
/// origins of `--cors-origins`). A proxy that signs people in adds their token to such a request as to any other, so it is not
/// only cookies of ours that need this.
pub fn is_other_site(headers: &HeaderMap, welcome: &[String]) -> bool {
    let origin = text(headers, "origin");
    if origin.is_some_and(|origin| welcome.iter().any(|one| one.eq_ignore_ascii_case(origin))) {
        return false;
    }
    match text(headers, "sec-fetch-site") {
        Some(site) => site == "cross-site" || site == "same-site",
        // An older browser, or no TLS.
        None => origin.is_some_and(|origin| {
            let at = origin.split_once("://").map_or("", |(_, authority)| authority);
            !is_asked_for(headers, at)
        }),
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    text(headers, "host")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Cookies belong to a host whatever the port; two gateways on one host, as with two port-forwards, have one each. `__Host-`
/// binds the name to this very host and to TLS.
fn name(headers: &HeaderMap, secure: bool) -> String {
    let port = host(headers).and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
    let port = port.filter(|port| !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()));
    let prefix = if secure { "__Host-" } else { "" };
    port.map_or_else(|| format!("{prefix}whatsapp-operator"), |port| format!("{prefix}whatsapp-operator-{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let name = |name: &str| name.parse::<axum::http::HeaderName>().unwrap();
        pairs.iter().map(|(key, value)| (name(key), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_cookie_that_was_set_is_found_by_the_same_host_and_no_other() {
        for (host, secure) in
            [("a.example", true), ("a.example", false), ("127.0.0.1:8000", false), ("[::1]:8000", true)]
        {
            let asked = headers(&[("host", host)]);
            let value = set(&asked, "abc.d-e_f=", secure).unwrap();
            let text = value.to_str().unwrap();
            assert!(text.contains("; HttpOnly; SameSite=Strict") && text.contains("; Secure") == secure, "{text}");
            assert_eq!(text.starts_with("__Host-"), secure);
            assert!(value.is_sensitive(), "it must not be printed");
            let sent = format!("other=1; {}", text.split(';').next().unwrap());
            assert_eq!(token(secure, &headers(&[("host", host), ("cookie", &sent)])), Some("abc.d-e_f="));
            assert_eq!(token(secure, &headers(&[("host", "127.0.0.1:9"), ("cookie", &sent)])), None);
            assert_eq!(removed(&asked).count(), 2);
        }
        for none in ["", "whatsapp-operator", "whatsapp-operator=", "xwhatsapp-operator=a"] {
            assert_eq!(token(false, &headers(&[("host", "a.example"), ("cookie", none)])), None, "{none}");
        }
    }

    #[test]
    fn over_tls_only_the_cookie_counts_that_nobody_else_can_set() {
        let host = ("host", "a.example");
        let (plain, bound) = (("cookie", "whatsapp-operator=theirs"), ("cookie", "__Host-whatsapp-operator=ours"));
        let both = ("cookie", "whatsapp-operator=theirs; __Host-whatsapp-operator=ours");
        let found = |https, more: &[(&str, &str)]| token(https, &headers(&[&[host], more].concat())).map(str::to_owned);
        for (https, over) in [
            (true, None),
            (false, Some(("x-forwarded-proto", "https"))),
            (false, Some(("origin", "https://a.example"))),
        ] {
            let of = |cookie| found(https, &[Some(cookie), over].into_iter().flatten().collect::<Vec<_>>());
            assert_eq!(of(plain), None, "{over:?}");
            assert_eq!(of(bound).as_deref(), Some("ours"), "{over:?}");
            assert_eq!(of(both).as_deref(), Some("ours"), "{over:?}");
        }
        assert_eq!(found(false, &[plain]).as_deref(), Some("theirs"));
        // A proxy that does not tell of its TLS, and a page that only reads, which has no Origin.
        assert_eq!(found(false, &[bound]).as_deref(), Some("ours"));
        assert_eq!(found(false, &[both]).as_deref(), Some("ours"));
    }

    #[test]
    fn only_pages_of_this_gateway_are_its_own() {
        let host = ("host", "a.example:8000");
        for (more, own, foreign) in [
            (vec![("sec-fetch-site", "same-origin")], true, false),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], true, false),
            (vec![("sec-fetch-site", "same-site"), ("origin", "http://a.example:8000")], false, true),
            (vec![("sec-fetch-site", "cross-site")], false, true),
            (vec![("sec-fetch-site", "none")], false, true),
            (vec![("origin", "http://a.example:8000")], true, false),
            (vec![("origin", "http://a.example")], false, true),
            (vec![("origin", "null")], false, true),
            (vec![("origin", "http://wa.lan:81"), ("x-forwarded-host", "wa.lan:81")], true, false),
            (vec![("origin", "http://wa.lan:81"), ("x-forwarded-host", "WA.lan:81, inner")], true, false),
            (vec![("origin", "http://wa.lan:81"), ("x-forwarded-host", "wa.lan")], false, true),
            (vec![("sec-fetch-site", "cross-site"), ("origin", "http://b"), ("x-forwarded-host", "b")], false, true),
            (vec![], false, false),
        ] {
            let given = headers(&[vec![host], more.clone()].concat());
            assert_eq!((is_own_page(&given), is_foreign_page(&given)), (own, foreign), "{more:?}");
        }
    }

    #[test]
    fn programs_and_pages_that_may_are_no_other_site() {
        let (host, welcome) = (("host", "gateway.internal"), ["https://shop.example".to_owned()]);
        for (more, other) in [
            (vec![], false),
            (vec![("sec-fetch-site", "same-origin"), ("origin", "https://a.example")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")], true),
            (vec![("sec-fetch-site", "cross-site")], true),
            (vec![("sec-fetch-site", "same-site"), ("origin", "https://blog.a.example")], true),
            (vec![("sec-fetch-site", "cross-site"), ("origin", "https://shop.example")], false),
            (vec![("origin", "https://gateway.internal")], false),
            (vec![("origin", "https://a.example"), ("x-forwarded-host", "a.example")], false),
            (vec![("origin", "https://a.example"), ("x-forwarded-host", "a.example, gateway.internal")], false),
            (vec![("origin", "https://a.example")], true),
            (vec![("origin", "null")], true),
        ] {
            assert_eq!(is_other_site(&headers(&[vec![host], more.clone()].concat()), &welcome), other, "{more:?}");
        }
    }

    #[test]
    fn whoever_says_that_the_browser_came_over_tls_is_believed() {
        assert!(is_secure(true, &headers(&[])) && !is_secure(false, &headers(&[])));
        for (name, value, secure) in [
            ("x-forwarded-proto", "https", true),
            ("x-forwarded-proto", "https, http", true),
            ("x-forwarded-proto", "http", false),
            ("origin", "https://a.example", true),
            ("origin", "http://127.0.0.1:8000", false),
            ("origin", "null", false),
        ] {
            assert_eq!(is_secure(false, &headers(&[(name, value)])), secure, "{name}: {value}");
        }
        assert!(is_secure(false, &headers(&[("x-forwarded-proto", "http"), ("origin", "https://a.example")])));
    }
}
