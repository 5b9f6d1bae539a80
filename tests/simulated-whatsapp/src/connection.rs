//! One client connection: a single task that owns the socket, the Noise ciphers and their counters.

use crate::faults::{HelloFault, Live, Silence};
use crate::handshake::{self, AwaitingFinish, Established, Hello};
use crate::iq::Session;
use crate::listener::ResetSwitch;
use crate::login::{self, Intent};
use crate::pair_code;
use crate::pairing::Pairing;
use crate::registry::DeviceKey;
use crate::stanza;
use crate::world::{Mode, World, now};
use anyhow::Context as _;
use axum::extract::ws::{Message, WebSocket};
use bytes::BytesMut;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::marshal::{marshal_auto, unmarshal_ref};
use wacore_noise::NoiseCipher;
use wacore_noise::framing::{FrameDecoder, encode_frame};

/// A client that has not finished its handshake by then is closed.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(20);

/// How long a client that was told why its connection ends has to hang up itself. A server that closes in the same
/// breath makes clients lose that last stanza.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the rest of the server can ask of a connection.
pub enum Command {
    /// Send a stanza.
    Send(Node),
    /// Send a last stanza and close.
    SendThenClose(Node),
    /// Close without a word.
    Close,
    /// Something goes wrong.
    Act(Live),
}

/// The way to a connection. Unbounded: one slow test client must not hold up the others, and nothing here floods.
pub type Outbox = mpsc::UnboundedSender<Command>;

enum Phase {
    Intro(BytesMut),
    Hello,
    Finish(Box<AwaitingFinish>),
    Linking(Arc<Pairing>),
    Open(Session),
}

struct Ciphers {
    inbound: NoiseCipher,
    received: u32,
    outbound: NoiseCipher,
    sent: u32,
}

/// A connection's state, apart from its socket.
struct Connection {
    world: Arc<World>,
    number: u64,
    outbox: Outbox,
    phase: Phase,
    frames: FrameDecoder,
    ciphers: Option<Ciphers>,
    /// Bytes to write before the next read.
    pending: Vec<Vec<u8>>,
    closing: bool,
    /// Whether the client was told why.
    told: bool,
    reset: ResetSwitch,
    silence: Option<Silence>,
}

/// Serves one WebSocket until either side closes it.
pub async fn serve(world: Arc<World>, mut socket: WebSocket, reset: ResetSwitch) {
    let number = world.counters.connections.fetch_add(1, Ordering::Relaxed);
    let (outbox, mut inbox) = mpsc::unbounded_channel();
    let mut mode = world.mode();
    let mut connection = Connection {
        world,
        number,
        outbox,
        phase: Phase::Intro(BytesMut::new()),
        frames: FrameDecoder::new(),
        ciphers: None,
        pending: Vec::new(),
        closing: false,
        told: false,
        reset,
        silence: None,
    };
    let deadline = tokio::time::sleep(HANDSHAKE_DEADLINE);
    tokio::pin!(deadline);
    let mut stalled = *mode.borrow_and_update() == Mode::Stall;
    tracing::debug!(connection = number, "connection opened");
    while !connection.closing {
        let outcome = tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(_)) if stalled || connection.silence.is_some() => Ok(()),
                Some(Ok(Message::Binary(bytes))) => connection.receive(&bytes),
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => Ok(()),
            },
            Some(command) = inbox.recv() => if stalled { Ok(()) } else { connection.obey(command) },
            changed = mode.changed() => {
                let now = *mode.borrow_and_update();
                // A stalled connection has lost stanzas, so it cannot go on when the stall ends.
                if changed.is_err() || matches!(now, Mode::Refuse | Mode::Gone) || (stalled && now != Mode::Stall) {
                    break;
                }
                stalled = now == Mode::Stall;
                Ok(())
            }
            () = &mut deadline, if !stalled && connection.ciphers.is_none() => Err(anyhow::anyhow!("the handshake took too long")),
        };
        if let Err(error) = outcome {
            tracing::info!(connection = number, "connection closed: {error:#}");
            connection.closing = true;
        }
        for bytes in std::mem::take(&mut connection.pending) {
            if socket.send(Message::Binary(bytes.into())).await.is_err() {
                connection.closing = true;
                break;
            }
        }
    }
    connection.leave();
    if connection.reset.is_set() {
        return;
    }
    if connection.told {
        let hang_up = async { while !matches!(socket.recv().await, Some(Ok(Message::Close(_)) | Err(_)) | None) {} };
        let _ = tokio::time::timeout(FAREWELL, hang_up).await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.send(Message::Close(None))).await;
    tracing::debug!(connection = number, "connection over");
}

impl Connection {
    fn receive(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if let Phase::Intro(buffer) = &mut self.phase {
            buffer.extend_from_slice(bytes);
            let routed = handshake::is_routed(buffer);
            if !handshake::take_intro(buffer)? {
                return Ok(());
            }
            if routed {
                self.world.counters.routed.fetch_add(1, Ordering::Relaxed);
                let refused = self.world.faults.newcomers().hello == Some(HelloFault::RoutedRefused);
                anyhow::ensure!(!refused, "there is no route to where this connection wants to be routed to");
            }
            let rest = std::mem::take(buffer);
            self.phase = Phase::Hello;
            self.frames.feed(&rest);
        } else {
            self.frames.feed(bytes);
        }
        while !self.closing
            && let Some(frame) = self.frames.decode_frame()
        {
            self.frame(frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, mut frame: BytesMut) -> anyhow::Result<()> {
        if let Some(ciphers) = &mut self.ciphers {
            ciphers
                .inbound
                .decrypt_in_place_with_counter(ciphers.received, &mut frame)
                .context("a frame cannot be decrypted")?;
            ciphers.received = ciphers.received.checked_add(1).context("too many frames")?;
            return self.stanza(&frame);
        }
        match std::mem::replace(&mut self.phase, Phase::Hello) {
            Phase::Finish(awaiting) => {
                let established = awaiting.finish(&frame)?;
                self.established(established)
            }
            _ => match self.answer_hello(&frame)? {
                None => Ok(()),
                Some(answer) => self.greet(answer),
            },
        }
    }

    /// What a client's first message is answered with; nothing, by some rules.
    fn answer_hello(&mut self, frame: &[u8]) -> anyhow::Result<Option<Hello>> {
        let identity = &self.world.identity;
        match self.world.faults.newcomers().hello {
            Some(HelloFault::IkRefused) if handshake::is_ik(frame)? => anyhow::bail!("no short handshake here"),
            Some(HelloFault::IkIgnored) if handshake::is_ik(frame)? => {
                self.silence = Some(Silence::Everything);
                Ok(None)
            }
            Some(HelloFault::OnlyXx) => Ok(Some(handshake::answer_every_hello_by_xx(identity, frame)?)),
            _ => Ok(Some(handshake::answer_hello(identity, frame)?)),
        }
    }

    fn greet(&mut self, answer: Hello) -> anyhow::Result<()> {
        match answer {
            Hello::AwaitingFinish { reply, awaiting, fallback } => {
                let counters = &self.world.counters;
                if fallback { &counters.fallback } else { &counters.xx }.fetch_add(1, Ordering::Relaxed);
                self.phase = Phase::Finish(awaiting);
                self.hello(&reply)
            }
            Hello::Established { reply, established } => {
                self.world.counters.ik.fetch_add(1, Ordering::Relaxed);
                self.hello(&reply)?;
                if self.closing || self.silence.is_some() { Ok(()) } else { self.established(*established) }
            }
        }
    }

    /// Sends the server hello, whole or as the rules have it. After half a hello nothing else comes.
    fn hello(&mut self, reply: &[u8]) -> anyhow::Result<()> {
        match self.world.faults.take_hello_fault() {
            None
            | Some(HelloFault::IkRefused | HelloFault::IkIgnored | HelloFault::OnlyXx | HelloFault::RoutedRefused) => {
                self.write(reply)
            }
            Some(HelloFault::ThenHangUp) => {
                self.closing = true;
                self.write(reply)
            }
            Some(HelloFault::Truncated) => {
                self.silence = Some(Silence::Everything);
                self.write(&reply[..reply.len() / 2])
            }
            Some(HelloFault::HalfFrame) => {
                self.silence = Some(Silence::Everything);
                self.write_half(reply)
            }
        }
    }

    fn established(&mut self, established: Established) -> anyhow::Result<()> {
        let Established { client_static, payload, inbound, outbound } = established;
        self.ciphers = Some(Ciphers { inbound, received: 0, outbound, sent: 0 });
        match login::intent(&payload).context("the client payload cannot be read")? {
            Intent::Register => {
                if let Some(failure) = self.world.faults.take_newcomer_refusal() {
                    return self.obey(Command::SendThenClose(failure));
                }
                let fault = self.world.faults.newcomers().references;
                let pairing = Arc::new(Pairing::new(Instant::now(), client_static, self.outbox.clone(), fault));
                self.world.open_pairing(&pairing);
                let announcement = pairing.announcement();
                self.phase = Phase::Linking(pairing);
                self.send(&announcement)
            }
            Intent::Login(key) => match self.admit(key, &client_static) {
                Ok(success) => {
                    self.world.open_session(key, self.number, self.outbox.clone());
                    self.phase = Phase::Open(Session::new(key, self.number, self.outbox.clone()));
                    self.end_later(key.phone);
                    self.send(&success)
                }
                Err(failure) => self.obey(Command::SendThenClose(failure)),
            },
        }
    }

    fn admit(&self, key: DeviceKey, client_static: &[u8; 32]) -> Result<Node, Node> {
        let outcome = login::admit(&self.world, key, client_static, now());
        self.world.logins.note(key, outcome.is_ok());
        outcome
    }

    fn end_later(&self, phone: u64) {
        let Some((after, last)) = self.world.faults.take_end(phone) else { return };
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = outbox.send(last.map_or(Command::Close, Command::SendThenClose));
        });
    }

    fn stanza(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let unpacked = wacore_binary::util::unpack(bytes).context("a stanza cannot be unpacked")?;
        let node = unmarshal_ref(&unpacked).context("a stanza cannot be read")?;
        match &mut self.phase {
            Phase::Open(session) => session.handle(&self.world, &node),
            Phase::Linking(pairing) if node.tag == "iq" => {
                let pairing = Arc::clone(pairing);
                let kind = stanza::attr(&node, "type").unwrap_or_default();
                if matches!(kind.as_str(), "get" | "set") {
                    let refusal = self.world.faults.take_code_refusal(&node);
                    let answer = refusal.or_else(|| pair_code::answer(&pairing, &node));
                    let answer = answer.unwrap_or_else(|| stanza::result(&node, []));
                    return self.send(&answer);
                }
                if pairing.answered(&self.world, &node) {
                    self.world.counters.registrations.fetch_add(1, Ordering::Relaxed);
                    // A freshly linked client is told to come back with its new name.
                    return self.obey(Command::SendThenClose(stanza::stream_error(515)));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Send(_) if self.silence == Some(Silence::Everything) => Ok(()),
            Command::Act(live) => self.act(live),
            Command::Send(node) => self.send(&node),
            Command::SendThenClose(node) => {
                self.closing = true;
                self.told = true;
                self.send(&node)
            }
            Command::Close => {
                self.closing = true;
                Ok(())
            }
        }
    }

    fn act(&mut self, live: Live) -> anyhow::Result<()> {
        match live {
            Live::End(ending) => self.obey(ending.node().map_or(Command::Close, Command::SendThenClose)),
            Live::StreamError(error) => error.node().map_or(Ok(()), |node| self.send(&node)),
            Live::Route => self.send(&stanza::route(b"somewhere")),
            Live::DamagedFrame => {
                // Not sealed at all: it takes no number of the server's count of frames, but one of a client that counts
                // what it cannot read, and such a client can read nothing that follows.
                self.write(&[0xab; 48])
            }
            Live::HalfFrame => {
                let Some(bytes) = self.seal(&anything())? else { return Ok(()) };
                self.write_half(&bytes)
            }
            Live::Reset => {
                self.reset.set();
                self.closing = true;
                Ok(())
            }
            Live::Silent { about } => {
                self.silence = Some(about);
                Ok(())
            }
        }
    }

    fn send(&mut self, node: &Node) -> anyhow::Result<()> {
        match self.seal(node)? {
            Some(bytes) => self.write(&bytes),
            None => Ok(()),
        }
    }

    /// The encrypted stanza; `None` before the handshake is over.
    fn seal(&mut self, node: &Node) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(ciphers) = &mut self.ciphers else { return Ok(None) };
        let mut bytes = marshal_auto(node).context("a stanza cannot be written")?;
        ciphers
            .outbound
            .encrypt_in_place_with_counter(ciphers.sent, &mut bytes)
            .context("a frame cannot be encrypted")?;
        ciphers.sent = ciphers.sent.checked_add(1).context("too many frames")?;
        Ok(Some(bytes))
    }

    /// Announces the whole frame and writes half of it.
    fn write_half(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        let mut framed = encode_frame(frame, None)?;
        framed.truncate(framed.len() - frame.len().div_ceil(2));
        self.pending.push(framed);
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        self.pending.push(encode_frame(frame, None)?);
        Ok(())
    }

    fn leave(&mut self) {
        match &self.phase {
            Phase::Linking(pairing) => {
                self.world.close_pairing(pairing);
                pairing.abandon();
            }
            Phase::Open(session) => self.world.close_session(session.key, self.number),
            _ => {}
        }
    }
}

/// A stanza that means nothing to a client.
fn anything() -> Node {
    NodeBuilder::new("ib").children([NodeBuilder::new("thread_metadata").build()]).build()
}
