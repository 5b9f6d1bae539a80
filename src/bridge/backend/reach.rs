//! Connecting to a host that has several addresses, some of which may not work.
//!
//! In a cluster with two networks, IPv4 and IPv6, one of them often leads nowhere: what is sent there is lost without a word. So all
//! addresses are tried, by turns of both families, each with a short start before the next one, and the first that answers is taken
//! (RFC 8305, "happy eyeballs").

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{net::TcpStream, time::sleep};

use super::names::Names;

/// How long an address is tried alone before the next one is tried as well.
const HEAD_START: Duration = Duration::from_millis(250);

/// A host and a port as they stand in a URL: an IPv6 address is in brackets.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Connects to a host. No limit of time: whoever dials has one.
///
/// # Errors
/// When it has no address, or none that answers; then what the last one said.
pub async fn connect(host: &str, port: u16, names: &Names) -> io::Result<TcpStream> {
    let socket = race(names.addresses(host, port).await?).await?;
    // Without it everything works, only slower.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}

async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = by_turns(addresses);
    let mut tried = FuturesUnordered::new();
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    loop {
        tried.extend(waiting.pop_front().map(TcpStream::connect));
        tokio::select! {
            answered = tried.next() => match answered {
                Some(Ok(socket)) => return Ok(socket),
                Some(Err(error)) => failed = error,
                None => return Err(failed),
            },
            () = sleep(HEAD_START), if !waiting.is_empty() => {}
        }
    }
}

/// In the order of the system, which knows what this machine prefers, but no family twice in a row while there are both.
fn by_turns(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let mut turns = VecDeque::new();
    loop {
        let pair = [first.next(), other.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::time::timeout;

    use super::*;

    /// An address at which nothing answers, neither yes nor no: the queue of its listener is full.
    async fn black_hole(domain: Domain, address: &str) -> (Socket, Vec<TcpStream>, SocketAddr) {
        let listener = Socket::new(domain, Type::STREAM, None).unwrap();
        listener.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(socket) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queue.push(socket.unwrap());
        }
        (listener, queue, address)
    }

    #[tokio::test]
    async fn addresses_that_lead_nowhere_cost_no_more_than_a_moment_each() {
        let (_four, _queue, four) = black_hole(Domain::IPV4, "127.0.0.1:0").await;
        let (_six, _queued, six) = black_hole(Domain::IPV6, "[::1]:0").await;
        for there in ["127.0.0.1:0", "[::1]:0"] {
            let good = tokio::net::TcpListener::bind(there).await.unwrap();
            let address = good.local_addr().unwrap();
            // All that a name may have, in an order in which the one that works comes last.
            let race = race(vec![four, four, four, six, six, six, address]);
            let socket =
                timeout(Duration::from_secs(15), race).await.expect("one after the other takes for ever").unwrap();
            assert_eq!(socket.peer_addr().unwrap(), address);
        }
    }

    #[tokio::test]
    async fn a_refusal_gives_the_turn_to_the_next_at_once_and_is_told_when_it_is_the_last() {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = {
            let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        assert!(race(vec![free, taken.local_addr().unwrap()]).await.is_ok());
        assert_eq!(race(vec![free, free]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(race(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn families_take_turns_and_what_the_system_prefers_begins() {
        let of = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect::<Vec<SocketAddr>>();
        for (found, tried) in [
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"][..],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"][..],
            ),
            (&["1.1.1.1:1", "[::1]:1", "[::2]:1"], &["1.1.1.1:1", "[::1]:1", "[::2]:1"]),
            (&["[::1]:1", "[::2]:1"], &["[::1]:1", "[::2]:1"]),
        ] {
            assert_eq!(by_turns(of(found)), of(tried));
        }
        assert_eq!((authority("::1", 443), authority("localhost", 80)), ("[::1]:443".into(), "localhost:80".into()));
    }
}
