//! Addresses to listen on: how they are written, and what is opened for them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait until they are taken, as many as tokio's own listeners have.
const BACKLOG: i32 = 1024;

/// Reads an address to listen on. `:8080` is every address of this machine, of IPv4 and of IPv6, and `[::]:8080` is the same.
///
/// # Errors
/// When it is none, with a sentence that says what it must be.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let everywhere = text.strip_prefix(':').map(|port| format!("[::]:{port}"));
    everywhere.as_deref().unwrap_or(text).parse().map_err(|_| {
        "it must be a port such as :8080, for all addresses of IPv4 and IPv6, or an IP address and a port, for example \
         127.0.0.1:0 or [::1]:8080"
            .into()
    })
}

/// Listens on an address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_with(address, |domain| Socket::new(domain, Type::STREAM, Some(Protocol::TCP)))
}

/// The same, with sockets that `make` makes.
fn bind_with(address: SocketAddr, make: impl Fn(Domain) -> io::Result<Socket>) -> io::Result<TcpListener> {
    let only = |address| opened(make(Domain::for_address(address))?, address);
    if !(address.is_ipv6() && address.ip().is_unspecified()) {
        return only(address);
    }
    let all_of_ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    // Said in any case: a machine may be set to have such a socket take IPv6 alone (net.ipv6.bindv6only).
    let both = make(Domain::IPV6).and_then(|socket| socket.set_only_v6(false).map(|()| socket));
    // A kernel without IPv6 has no such socket, or no such address. Whatever else fails, fails for IPv4 as well.
    let Ok(both) = both else { return only(all_of_ipv4) };
    match opened(both, address) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => only(all_of_ipv4),
        opened => opened,
    }
}

fn opened(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    // As everywhere else: a program that is started again must not wait until the connections of the one before are forgotten.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// Whether a connection to a listener's port at this address is taken.
    async fn is_reached(listener: &TcpListener, ip: &str) -> bool {
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(SocketAddr::new(ip.parse().unwrap(), port)).await.is_ok()
    }

    #[test]
    fn a_port_alone_is_all_addresses_of_both_families() {
        assert_eq!(address(":8080"), Ok("[::]:8080".parse().unwrap()));
        for exact in ["0.0.0.0:8080", "127.0.0.1:0", "[::1]:8080", "[::]:8080"] {
            assert_eq!(address(exact), Ok(exact.parse().unwrap()));
        }
        for bad in ["", ":", "8080", "::8080", "::1", ":port", ":70000", "localhost:8080", "127.0.0.1"] {
            assert!(address(bad).unwrap_err().contains(":8080"), "{bad}");
        }
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families_and_others_are_what_they_say() {
        let loopback = TcpListener::bind("[::1]:0").await;
        loopback.expect("this machine has no ::1, which the tests need: switch IPv6 on for its loopback interface");
        let both = bind(address(":0").unwrap()).unwrap();
        assert!(is_reached(&both, "::1").await && is_reached(&both, "127.0.0.1").await);
        for (exact, other) in [("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("0.0.0.0", "::1")] {
            let one = bind(SocketAddr::new(exact.parse().unwrap(), 0)).unwrap();
            let own = if exact == "0.0.0.0" { "127.0.0.1" } else { exact };
            assert!(is_reached(&one, own).await && !is_reached(&one, other).await, "{exact}");
        }
        // A port that is taken is not had by leaving out a family.
        let taken = both.local_addr().unwrap();
        assert_eq!(bind(taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn a_machine_without_ipv6_is_listened_on_by_ipv4() {
        let without = |domain| match domain {
            Domain::IPV6 => Err(io::Error::other("Address family not supported by protocol")),
            domain => Socket::new(domain, Type::STREAM, None),
        };
        let listener = bind_with(address(":0").unwrap(), without).unwrap();
        assert_eq!(listener.local_addr().unwrap().ip(), Ipv4Addr::UNSPECIFIED);
        assert!(is_reached(&listener, "127.0.0.1").await);
        assert!(bind_with(address("[::1]:0").unwrap(), without).is_err());
    }
}
