//! Through which proxy the API server is reached, if through one: pure, and as kubectl decides it.
//!
//! The kubeconfig's `proxy-url` wins, whatever the address. Else it is `HTTPS_PROXY` (for an API server of plain http:
//! `HTTP_PROXY`), unless the API server is on this machine or `NO_PROXY` covers it. The user and password that an
//! address may hold are never shown.

use std::net::{IpAddr, SocketAddr};

use axum::http::Uri;
use thiserror::Error;

/// What the environment says of proxies. An empty variable is none, and one in capitals comes first.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    https: Option<String>,
    http: Option<String>,
    /// Who is reached without one.
    none: String,
}

/// A proxy that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProxyError {
    /// The text is none, or has a part that does not belong there.
    #[error("{origin} is not the address of a proxy; one looks like http://proxy.example.com:3128")]
    NoAddress {
        /// Where it is set.
        origin: &'static str,
    },
    /// Another protocol.
    #[error("{origin} names a proxy of scheme \"{scheme}\"; known are http, https and socks5")]
    Scheme {
        /// Where it is set.
        origin: &'static str,
        /// Its scheme.
        scheme: String,
    },
    /// Kube's client cannot send them.
    #[error(
        "{origin} has a user and password for a SOCKS proxy, which cannot be sent; use one of http or https, or one without"
    )]
    SocksCredentials {
        /// Where it is set.
        origin: &'static str,
    },
}

impl Environment {
    /// That of this process.
    pub fn read() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    /// That in which a variable has this value.
    pub fn of(value: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&str; 2]| names.into_iter().filter_map(&value).find(|value| !value.trim().is_empty());
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            http: first(["HTTP_PROXY", "http_proxy"]),
            none: first(["NO_PROXY", "no_proxy"]).unwrap_or_default(),
        }
    }

    /// The proxy to this API server. `stated` is the kubeconfig's `proxy-url`.
    ///
    /// # Errors
    /// When the one that counts cannot be used.
    pub fn proxy(&self, server: &Uri, stated: Option<&str>) -> Result<Option<Uri>, ProxyError> {
        if let Some(stated) = stated.filter(|stated| !stated.is_empty()) {
            return address(stated, "proxy-url of the kubeconfig").map(Some);
        }
        let plain = server.scheme_str() == Some("http");
        let (set, origin) = if plain { (&self.http, "HTTP_PROXY") } else { (&self.https, "HTTPS_PROXY") };
        let (Some(set), Some(host)) = (set, server.host()) else { return Ok(None) };
        let port = server.port_u16().unwrap_or(if plain { 80 } else { 443 });
        if is_here(host) || is_covered(&self.none, bare(host), port) {
            Ok(None)
        } else {
            address(set, origin).map(Some)
        }
    }
}

/// A proxy's address, whole: with its scheme and port.
fn address(text: &str, origin: &'static str) -> Result<Uri, ProxyError> {
    let wrong = || ProxyError::NoAddress { origin };
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => ("http", 80),
        "https" => ("https", 443),
        // Names are looked up by the proxy in both cases.
        "socks5" | "socks5h" => ("socks5", 1080),
        other => return Err(ProxyError::Scheme { origin, scheme: other.to_owned() }),
    };
    let given: Uri = format!("{scheme}://{rest}").parse().map_err(|_| wrong())?;
    let authority = given.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
    if scheme == "socks5" && authority.as_str().contains('@') {
        return Err(ProxyError::SocksCredentials { origin });
    }
    let authority = match authority.port_u16() {
        Some(_) => authority.to_string(),
        None => format!("{}:{port}", authority.as_str().trim_end_matches(':')),
    };
    Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build().map_err(|_| wrong())
}

/// Whether a host is this machine, by its name or address.
pub fn is_here(host: &str) -> bool {
    let host = bare(host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A host without the brackets of an IPv6 address.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether a list such as `NO_PROXY` has this host: by name (which covers what is below it), `.suffix`, address, network or `*`, each
/// but networks with or without a port.
fn is_covered(list: &str, host: &str, port: u16) -> bool {
    let address = host.parse::<IpAddr>().ok();
    let host = host.to_ascii_lowercase();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return address.is_some_and(|address| is_within(address, network, bits));
        }
        let (name, wanted) = split(&entry);
        if wanted.is_some_and(|wanted| wanted != port) {
            return false;
        }
        match name.parse::<IpAddr>() {
            Ok(one) => address == Some(one),
            Err(_) => {
                let name = name.strip_prefix('*').unwrap_or(name);
                let below = if name.starts_with('.') { name.to_owned() } else { format!(".{name}") };
                !name.is_empty() && (host == name || host.ends_with(&below))
            }
        }
    })
}

/// An entry's host and port.
fn split(entry: &str) -> (&str, Option<u16>) {
    if let Ok(socket) = entry.parse::<SocketAddr>() {
        return (bare(entry.rsplit_once(':').map_or(entry, |(host, _)| host)), Some(socket.port()));
    }
    match entry.split_once(':') {
        // More than one colon is an IPv6 address.
        Some((host, port)) if !port.contains(':') => port.parse().map_or((host, None), |port| (host, Some(port))),
        _ => (bare(entry), None),
    }
}

fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    // What is left of the network's bits when those of the host are gone; a shift by all of them is none at all.
    match (address, network.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) if bits <= 32 => {
            (address.to_bits() ^ network.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) if bits <= 128 => {
            (address.to_bits() ^ network.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// An address as it may be shown: without user and password.
pub fn shown(address: &Uri) -> String {
    let Some(authority) = address.authority() else { return address.to_string() };
    let host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
    format!("{}://{host}{}", address.scheme_str().unwrap_or("https"), address.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(server: &str, stated: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<String>, ProxyError> {
        let value = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let proxy = Environment::of(value).proxy(&server.parse().unwrap(), stated)?;
        Ok(proxy.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn the_kubeconfig_wins_then_the_variable_of_the_scheme_in_capitals_first() {
        let server = "https://k8s.example.com:6443";
        let both =
            [("HTTPS_PROXY", "http://upper:1"), ("https_proxy", "http://lower:1"), ("HTTP_PROXY", "http://plain:1")];
        for (server, stated, variables, expected) in [
            (server, None, &[][..], None),
            (server, Some(""), &[], None),
            (server, None, &both, Some("http://upper:1/")),
            (server, None, &both[1..], Some("http://lower:1/")),
            (server, None, &both[2..], None),
            (server, None, &[("HTTPS_PROXY", ""), ("https_proxy", "http://lower:1")], Some("http://lower:1/")),
            (server, Some("http://stated:1"), &both, Some("http://stated:1/")),
            // A tunnel to a machine behind it: kubectl goes through it to that machine's own loopback.
            ("https://127.0.0.1:6443", Some("socks5://localhost:1080"), &both, Some("socks5://localhost:1080/")),
            (server, Some("http://stated:1"), &[("NO_PROXY", "*")], Some("http://stated:1/")),
            ("http://k8s.example.com", None, &both, Some("http://plain:1/")),
            ("http://k8s.example.com", None, &both[..2], None),
        ] {
            assert_eq!(
                decided(server, stated, variables).unwrap().as_deref(),
                expected,
                "{server} {stated:?} {variables:?}"
            );
        }
    }

    #[test]
    fn this_machine_and_what_no_proxy_covers_is_reached_without_one() {
        for (server, none, direct) in [
            ("https://127.0.0.1:6443", "", true),
            ("https://127.1.2.3", "", true),
            ("https://localhost:6443", "", true),
            ("https://LocalHost:6443", "", true),
            ("https://[::1]:6443", "", true),
            ("https://localhost.example.com", "", false),
            ("https://10.0.0.1", "*", true),
            ("https://10.0.0.1", "a, *", true),
            // An empty entry, and one that is no network, covers nothing and breaks nothing.
            ("https://10.0.0.1", ",10.0.0.0/33,, :,10.0.0.1,", true),
            ("https://10.0.0.1", ",10.0.0.0/33,, :,", false),
            ("https://10.0.0.1:6443", "10.0.0.1", true),
            ("https://10.0.0.1:6443", "10.0.0.1:6443", true),
            ("https://10.0.0.1", "10.0.0.1:6443", false),
            ("https://10.1.255.1", "10.1.0.0/16", true),
            ("https://10.2.0.1", "10.1.0.0/16", false),
            ("https://10.2.0.1", "0.0.0.0/0", true),
            ("https://10.2.0.1", "10.2.0.1/32", true),
            ("https://10.2.0.1", "::/0", false),
            ("https://[fd00::5]:6443", "fd00::/8", true),
            ("https://[fe00::5]:6443", "fd00::/8", false),
            ("https://[fd00::5]:6443", "fd00::5", true),
            ("https://[fd00::5]:6443", "[fd00::5]", true),
            ("https://[fd00::5]:6443", "[fd00::5]:6443", true),
            ("https://[fd00::5]:6443", "[fd00::5]:443", false),
            ("https://k8s.example.com", "example.com", true),
            ("https://K8s.Example.com", "EXAMPLE.com", true),
            ("https://example.com", "example.com", true),
            ("https://k8s.example.com", ".example.com", true),
            ("https://k8s.example.com", "*.example.com", true),
            ("https://k8s.badexample.com", "example.com", false),
            ("https://k8s.example.com", "example.com:443", true),
            ("https://k8s.example.com:6443", "example.com:443", false),
            ("https://k8s.example.com", "10.0.0.0/8", false),
        ] {
            let proxy = decided(server, None, &[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", none)]).unwrap();
            assert_eq!(proxy.is_none(), direct, "{server} with NO_PROXY={none}");
            let lower = decided(server, None, &[("HTTPS_PROXY", "http://proxy:3128"), ("no_proxy", none)]).unwrap();
            assert_eq!(lower, proxy, "{server} with no_proxy={none}");
        }
        // In Go a name itself is covered by `.name` only with the leading dot left out.
        assert!(
            decided("https://example.com", None, &[("HTTPS_PROXY", "http://p"), ("NO_PROXY", ".example.com")])
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn an_address_is_made_whole_and_one_that_is_none_is_refused_without_showing_it() {
        let proxy = |text: &str| decided("https://k8s.example.com", None, &[("HTTPS_PROXY", text)]);
        for (text, whole) in [
            ("proxy", "http://proxy:80/"),
            ("proxy:3128", "http://proxy:3128/"),
            (" HTTP://proxy:3128/ ", "http://proxy:3128/"),
            ("https://proxy", "https://proxy:443/"),
            ("socks5h://proxy", "socks5://proxy:1080/"),
            ("http://anna:s%40cret@proxy", "http://anna:s%40cret@proxy:80/"),
            ("http://[fd00::1]:3128", "http://[fd00::1]:3128/"),
        ] {
            assert_eq!(proxy(text).unwrap().as_deref(), Some(whole), "{text}");
        }
        for text in [
            "http://",
            "http://anna:s^cret@pro xy",
            "ftp://anna:s^cret@proxy",
            "socks5://anna:s^cret@proxy",
            "socks5://anna:scret@proxy",
        ] {
            let error = proxy(text).unwrap_err().to_string();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("cret"), "{error}");
        }
        let error = decided("https://k8s", Some("nonsense://x"), &[]).unwrap_err().to_string();
        assert!(error.contains("proxy-url of the kubeconfig") && error.contains("nonsense"), "{error}");
        assert_eq!(shown(&"http://anna:s%40cret@proxy:3128/".parse().unwrap()), "http://proxy:3128/");
        assert_eq!(shown(&"https://k8s:6443/at/path".parse().unwrap()), "https://k8s:6443/at/path");
    }
}
