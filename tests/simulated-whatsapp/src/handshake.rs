//! The responder's half of WhatsApp's Noise handshake: XX for a first meeting, IK when the client already knows our
//! static key, XX-fallback when it knows an older one. Pure: bytes in, bytes out.

use crate::certificates::ServerIdentity;
use crate::keys::Key;
use bytes::{Buf, BytesMut};
use wacore_binary::consts::{NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK, WA_CONN_HEADER};
use wacore_noise::{HandshakeError as NoiseFailure, NoiseCipher, NoiseHandshake};
use waproto::whatsapp::{
    HandshakeMessage,
    handshake_message::{ClientHello, ServerHello},
};

/// The optional block in front of the connection header: `ED 00 01`, three length bytes, routing data.
const EDGE_ROUTING: &[u8; 4] = b"ED\x00\x01";

/// Why a handshake cannot go on. The connection is closed without an answer, as WhatsApp does.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are not WhatsApp's.
    #[error("the connection does not start with the WhatsApp header for dictionary version {}", WA_CONN_HEADER[3])]
    Header,
    /// A handshake message lacks a field, or a field has the wrong length.
    #[error("a handshake message is incomplete")]
    Incomplete,
    /// The message is not a handshake message.
    #[error("a handshake message cannot be decoded")]
    Decode(#[from] buffa::DecodeError),
    /// Decryption or key agreement failed.
    #[error("the handshake cryptography failed")]
    Noise(#[from] NoiseFailure),
}

/// Takes the connection header (and an edge routing block before it) off the buffer; false while bytes are missing.
///
/// # Errors
/// [`HandshakeError::Header`] when the bytes are something else.
pub fn take_intro(buffer: &mut BytesMut) -> Result<bool, HandshakeError> {
    let mut skip = 0;
    if buffer.first() == Some(&EDGE_ROUTING[0]) {
        if buffer.len() < 7 {
            return Ok(false);
        }
        if !buffer.starts_with(EDGE_ROUTING) {
            return Err(HandshakeError::Header);
        }
        skip = 7 + (usize::from(buffer[4]) << 16 | usize::from(buffer[5]) << 8 | usize::from(buffer[6]));
    }
    if buffer.len() < skip + WA_CONN_HEADER.len() {
        return Ok(false);
    }
    if buffer[skip..skip + WA_CONN_HEADER.len()] != WA_CONN_HEADER {
        return Err(HandshakeError::Header);
    }
    buffer.advance(skip + WA_CONN_HEADER.len());
    Ok(true)
}

/// Whether what a connection begins with has a routing block, as far as it has come.
#[must_use]
pub fn is_routed(buffer: &[u8]) -> bool {
    buffer.starts_with(EDGE_ROUTING)
}

/// A finished handshake.
pub struct Established {
    /// The client's Noise static key: what a paired device is recognised by.
    pub client_static: [u8; 32],
    /// The encoded `ClientPayload`.
    pub payload: Vec<u8>,
    /// Decrypts what the client sends.
    pub inbound: NoiseCipher,
    /// Encrypts what we send.
    pub outbound: NoiseCipher,
}

/// What to do after the client's first message.
pub enum Hello {
    /// IK: send `reply`, and the handshake is over.
    Established { reply: Vec<u8>, established: Box<Established> },
    /// XX, or XX-fallback after an IK hello: send `reply` and wait for the client's finish.
    AwaitingFinish { reply: Vec<u8>, awaiting: Box<AwaitingFinish>, fallback: bool },
}

/// An XX handshake between our hello and the client's finish.
pub struct AwaitingFinish {
    noise: NoiseHandshake,
    ephemeral: Key,
}

/// Answers a client hello.
///
/// # Errors
/// See [`HandshakeError`]. An IK hello for a key we no longer have is no error: it gets an XX-fallback hello.
pub fn answer_hello(identity: &ServerIdentity, message: &[u8]) -> Result<Hello, HandshakeError> {
    let (hello, client_ephemeral) = read_hello(message)?;
    let (Some(sealed_static), Some(sealed_payload)) = (hello.r#static, hello.payload) else {
        return open_xx(identity, NOISE_PATTERN_XX, &client_ephemeral);
    };
    match accept_ik(identity, &client_ephemeral, &sealed_static, &sealed_payload) {
        Ok(accepted) => Ok(accepted),
        Err(_) => open_xx(identity, NOISE_PATTERN_XXFALLBACK, &client_ephemeral),
    }
}

/// Answers a client hello as a server does that knows XX alone: what an IK hello has besides is not looked at.
///
/// # Errors
/// See [`HandshakeError`].
pub fn answer_every_hello_by_xx(identity: &ServerIdentity, message: &[u8]) -> Result<Hello, HandshakeError> {
    let (_, client_ephemeral) = read_hello(message)?;
    open_xx(identity, NOISE_PATTERN_XX, &client_ephemeral)
}

/// Whether a client hello is one of IK.
///
/// # Errors
/// See [`HandshakeError`].
pub fn is_ik(message: &[u8]) -> Result<bool, HandshakeError> {
    let (hello, _) = read_hello(message)?;
    Ok(hello.r#static.is_some() && hello.payload.is_some())
}

fn read_hello(message: &[u8]) -> Result<(ClientHello, [u8; 32]), HandshakeError> {
    let hello = waproto::codec::handshake_message_decode(message)?
        .client_hello
        .into_option()
        .ok_or(HandshakeError::Incomplete)?;
    let ephemeral = hello.ephemeral.as_deref().and_then(|key| key.try_into().ok()).ok_or(HandshakeError::Incomplete)?;
    Ok((hello, ephemeral))
}

fn open_xx(identity: &ServerIdentity, pattern: &str, client_ephemeral: &[u8; 32]) -> Result<Hello, HandshakeError> {
    let mut noise = NoiseHandshake::new(pattern, &WA_CONN_HEADER)?;
    noise.authenticate(client_ephemeral);
    let ephemeral = Key::generate();
    noise.authenticate(&ephemeral.public());
    noise.mix_shared_secret(ephemeral.private(), client_ephemeral)?;
    let sealed_static = noise.encrypt(&identity.noise.public())?;
    noise.mix_shared_secret(identity.noise.private(), client_ephemeral)?;
    let sealed_chain = noise.encrypt(&identity.chain.0)?;
    let reply = server_hello(&ephemeral, Some(sealed_static), sealed_chain);
    let fallback = pattern == NOISE_PATTERN_XXFALLBACK;
    Ok(Hello::AwaitingFinish { reply, awaiting: Box::new(AwaitingFinish { noise, ephemeral }), fallback })
}

fn accept_ik(
    identity: &ServerIdentity,
    client_ephemeral: &[u8; 32],
    sealed_static: &[u8],
    sealed_payload: &[u8],
) -> Result<Hello, HandshakeError> {
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER)?;
    noise.authenticate(&identity.noise.public());
    noise.authenticate(client_ephemeral);
    noise.mix_shared_secret(identity.noise.private(), client_ephemeral)?;
    let client_static = key(noise.decrypt(sealed_static)?)?;
    noise.mix_shared_secret(identity.noise.private(), &client_static)?;
    let payload = noise.decrypt(sealed_payload)?;
    let ephemeral = Key::generate();
    noise.authenticate(&ephemeral.public());
    noise.mix_shared_secret(ephemeral.private(), client_ephemeral)?;
    noise.mix_shared_secret(ephemeral.private(), &client_static)?;
    let sealed_chain = noise.encrypt(&identity.chain.0)?;
    let (inbound, outbound) = noise.finish()?;
    let reply = server_hello(&ephemeral, None, sealed_chain);
    Ok(Hello::Established { reply, established: Box::new(Established { client_static, payload, inbound, outbound }) })
}

impl AwaitingFinish {
    /// Reads the client's finish.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn finish(mut self, message: &[u8]) -> Result<Established, HandshakeError> {
        let finish = waproto::codec::handshake_message_decode(message)?
            .client_finish
            .into_option()
            .ok_or(HandshakeError::Incomplete)?;
        let client_static = key(self.noise.decrypt(&finish.r#static.ok_or(HandshakeError::Incomplete)?)?)?;
        self.noise.mix_shared_secret(self.ephemeral.private(), &client_static)?;
        let payload = self.noise.decrypt(&finish.payload.ok_or(HandshakeError::Incomplete)?)?;
        let (inbound, outbound) = self.noise.finish()?;
        Ok(Established { client_static, payload, inbound, outbound })
    }
}

fn server_hello(ephemeral: &Key, sealed_static: Option<Vec<u8>>, sealed_chain: Vec<u8>) -> Vec<u8> {
    waproto::codec::handshake_message_to_vec(&HandshakeMessage {
        server_hello: buffa::MessageField::some(ServerHello {
            ephemeral: Some(ephemeral.public().to_vec()),
            r#static: sealed_static,
            payload: Some(sealed_chain),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn key(bytes: Vec<u8>) -> Result<[u8; 32], HandshakeError> {
    bytes.try_into().map_err(|_| HandshakeError::Incomplete)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore_noise::{IkHandshakeState, IkServerHelloOutcome, XxFallbackHandshakeState, XxHandshakeState};

    fn talk(ours: &Established, theirs: (NoiseCipher, NoiseCipher)) {
        let mut up = theirs.0.encrypt_with_counter(0, b"up").unwrap();
        ours.inbound.decrypt_in_place_with_counter(0, &mut up).unwrap();
        let mut down = ours.outbound.encrypt_with_counter(0, b"down").unwrap();
        theirs.1.decrypt_in_place_with_counter(0, &mut down).unwrap();
        assert_eq!((&up[..], &down[..]), (&b"up"[..], &b"down"[..]));
    }

    #[test]
    fn xx_completes_with_a_real_initiator() {
        let identity = ServerIdentity::generate(1_800_000_000).unwrap();
        let client = Key::generate();
        let mut initiator = XxHandshakeState::new(client.0.clone(), b"payload".to_vec(), &WA_CONN_HEADER).unwrap();
        let Hello::AwaitingFinish { reply, awaiting, fallback: false } =
            answer_hello(&identity, &initiator.build_client_hello().unwrap()).unwrap()
        else {
            panic!("XX must wait for a finish")
        };
        let finish = initiator.read_server_hello_and_build_client_finish(&reply).unwrap();
        let ours = awaiting.finish(&finish).unwrap();
        let theirs = initiator.finish().unwrap();
        assert_eq!(ours.client_static, client.public());
        assert_eq!(ours.payload, b"payload");
        talk(&ours, (theirs.write_cipher, theirs.read_cipher));
    }

    #[test]
    fn ik_completes_in_one_message() {
        let identity = ServerIdentity::generate(1_800_000_000).unwrap();
        let client = Key::generate();
        let mut initiator =
            IkHandshakeState::new(client.0.clone(), identity.noise.public(), b"login".to_vec(), &WA_CONN_HEADER)
                .unwrap();
        let Hello::Established { reply, established } =
            answer_hello(&identity, &initiator.build_client_hello().unwrap()).unwrap()
        else {
            panic!("IK must be accepted")
        };
        assert_eq!(established.client_static, client.public());
        assert_eq!(established.payload, b"login");
        let IkServerHelloOutcome::Continue(theirs) = initiator.read_server_hello(&reply).unwrap() else {
            panic!("no fallback expected")
        };
        talk(&established, (theirs.write_cipher, theirs.read_cipher));
    }

    #[test]
    fn ik_for_an_older_key_falls_back_to_xx() {
        let (older, identity) = (ServerIdentity::generate(1).unwrap(), ServerIdentity::generate(1).unwrap());
        let client = Key::generate();
        let mut initiator =
            IkHandshakeState::new(client.0.clone(), older.noise.public(), b"login".to_vec(), &WA_CONN_HEADER).unwrap();
        let Hello::AwaitingFinish { reply, awaiting, fallback: true } =
            answer_hello(&identity, &initiator.build_client_hello().unwrap()).unwrap()
        else {
            panic!("an unreadable IK hello must be answered with XX-fallback")
        };
        let IkServerHelloOutcome::Fallback(inputs) = initiator.read_server_hello(&reply).unwrap() else {
            panic!("fallback expected")
        };
        let mut fallback = XxFallbackHandshakeState::from_ik_failure(*inputs, &WA_CONN_HEADER).unwrap();
        let ours = awaiting.finish(&fallback.build_client_finish().unwrap()).unwrap();
        let theirs = fallback.finish().unwrap();
        assert_eq!(ours.payload, b"login");
        assert_eq!(theirs.server_cert_chain.leaf_key, identity.noise.public());
        talk(&ours, (theirs.write_cipher, theirs.read_cipher));
    }

    #[test]
    fn the_intro_may_arrive_in_pieces_and_behind_edge_routing() {
        for routing in [None, Some(&b"route"[..])] {
            let (header, _) = wacore_noise::build_handshake_header(routing);
            let mut buffer = BytesMut::new();
            for byte in &header[..header.len() - 1] {
                buffer.extend_from_slice(&[*byte]);
                assert!(!take_intro(&mut buffer).unwrap());
            }
            buffer.extend_from_slice(&[header[header.len() - 1], 9, 9]);
            assert!(take_intro(&mut buffer).unwrap());
            assert_eq!(&buffer[..], [9, 9]);
        }
        assert!(take_intro(&mut BytesMut::from(&b"GET /"[..])).is_err());
        assert!(take_intro(&mut BytesMut::from(&b"EDGE\x00\x00\x00"[..])).is_err());
    }

    #[test]
    fn garbage_is_refused_without_a_panic() {
        let identity = ServerIdentity::generate(1).unwrap();
        for message in [&b""[..], b"\xff\xff", &[0x12, 0x02, 0x0a, 0x00]] {
            assert!(answer_hello(&identity, message).is_err());
        }
    }
}
