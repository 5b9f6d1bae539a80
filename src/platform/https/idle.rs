//! Connections on which nothing comes and goes for a while are closed: half a request that is never finished would hold one for
//! ever, and a process may have so many open files only.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long nothing may come or go. Longer than a request may wait for its answer (60 s), than the pauses of event streams, and
/// than clients and most proxies keep a connection that they do not use (90 s in Go and in reqwest, 600 s in Google's load
/// balancers), so that none is closed on which a request is just being sent.
pub const LIMIT: Duration = Duration::from_secs(650);

/// Takes connections that are closed when they are idle for `limit`.
pub struct IdleListener<L> {
    listener: L,
    limit: Duration,
}

impl<L> IdleListener<L> {
    /// Those that `listener` takes.
    pub fn new(listener: L, limit: Duration) -> Self {
        Self { listener, limit }
    }
}

impl<L: Listener<Io: Unpin>> Listener for IdleListener<L> {
    type Io = Idle<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = self.listener.accept().await;
        (Idle::new(stream, self.limit), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when it is idle for too long.
pub struct Idle<S> {
    stream: S,
    limit: Duration,
    used: Instant,
    /// Set anew only when it has gone off: most connections are used again long before.
    alarm: Pin<Box<Sleep>>,
}

impl<S> Idle<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, used: Instant::now(), alarm: Box::pin(sleep(limit)) }
    }

    /// What came of a flush, which is no use of the connection when there was nothing to flush.
    fn judge_pending(&mut self, cx: &mut Context<'_>, came: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if came.is_pending() { self.judge(cx, came) } else { came }
    }

    /// What came of reading or writing: once nothing has for too long, an error.
    fn judge<T>(&mut self, cx: &mut Context<'_>, came: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if came.is_ready() {
            self.used = Instant::now();
            return came;
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let until = self.used + self.limit;
            if until <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(until);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Idle<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let came = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.judge(cx, came)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Idle<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let went = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, went)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let went = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.judge(cx, went)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge_pending(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge_pending(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use futures::stream;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    /// How long something that takes milliseconds may take on a busy machine.
    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn who_says_nothing_more_is_hung_up_on_and_who_still_gets_something_is_not() {
        let limit = Duration::from_millis(400);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        // A byte now and then, for several times the limit.
        let slowly = async || {
            let bytes = stream::unfold(0, async |sent| {
                sleep(Duration::from_millis(50)).await;
                (sent < 40).then_some((Ok::<_, io::Error>("a"), sent + 1))
            });
            Body::from_stream(bytes)
        };
        let router = Router::new().route("/", get(async || "answered")).route("/slowly", get(slowly));
        tokio::spawn(axum::serve(IdleListener::new(tcp, limit), router).into_future());

        let ends = async |sent: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let (began, mut answer) = (Instant::now(), Vec::new());
            let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection stays open");
            (began.elapsed(), String::from_utf8(answer).unwrap())
        };
        let (after, answer) = ends("GET / HTTP/1.1\r\nHost: a\r\n").await;
        assert!(after >= limit && answer.is_empty(), "{after:?} {answer}");
        let (after, answer) = ends("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(after >= limit && answer.ends_with("answered"), "{after:?} {answer}");
        let (after, answer) = ends("GET /slowly HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(after >= limit * 5 && answer.matches("\na\r").count() == 40, "{after:?} {answer}");
    }
}
