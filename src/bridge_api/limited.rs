//! What a bridge says, read with a limit: whoever answers at a shard's address must not be able to fill our memory.

use std::collections::VecDeque;

use futures::{Stream, StreamExt, stream};
use reqwest::Response;

use super::{BridgeError, LONGEST_BATCH, LONGEST_TEXT};
pub use crate::platform::server_sent::Event as Message;
use crate::platform::server_sent::Reader;

/// A session, or what the bridge says of itself, is at most a few kilobytes.
pub const ANSWER: usize = 64 * 1024;
/// A message with the longest text, every character of which may take six bytes in JSON.
pub const MESSAGE: usize = 6 * LONGEST_TEXT + ANSWER;
/// What became of a batch's messages: each as it came, and a few hundred bytes.
pub const BATCH: usize = 2 * LONGEST_BATCH;
/// A list of 60,000 sessions as they usually are; a shard is made for a thousand.
pub const LIST: usize = 32 * 1024 * 1024;
/// An event holds one session.
const EVENT: usize = ANSWER;

/// The whole body of an answer.
pub async fn body(mut answer: Response, limit: usize) -> Result<Vec<u8>, BridgeError> {
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| BridgeError::of_transport(&error))? {
        if body.len() + part.len() > limit {
            return Err(BridgeError::Malformed { status });
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The server-sent events in a stream of bytes. Ends after its first error.
pub fn messages<B: AsRef<[u8]>>(
    bytes: impl Stream<Item = Result<B, BridgeError>> + Unpin,
) -> impl Stream<Item = Result<Message, BridgeError>> {
    let start = (bytes, Reader::new(EVENT), VecDeque::new());
    stream::try_unfold(start, |(mut bytes, mut reader, mut ready)| async move {
        loop {
            if let Some(message) = ready.pop_front() {
                return Ok(Some((message, (bytes, reader, ready))));
            }
            let Some(part) = bytes.next().await else { return Ok(None) };
            reader.read(part?.as_ref(), &mut ready).map_err(|_| BridgeError::Malformed { status: 200 })?;
        }
    })
}
