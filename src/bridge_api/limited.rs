//! What a bridge says, read with a limit: whoever answers at a shard's address must not be able to fill our memory.

use std::collections::VecDeque;

use futures::{Stream, StreamExt, stream};
use reqwest::Response;

use super::{BridgeError, LONGEST_TEXT};

/// A session, or what the bridge says of itself, is at most a few kilobytes.
pub const ANSWER: usize = 64 * 1024;
/// A message with the longest text, every character of which may take six bytes in JSON.
pub const MESSAGE: usize = 6 * LONGEST_TEXT + ANSWER;
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

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The resume point behind it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it tells.
    pub data: Vec<u8>,
}

/// The server-sent events in a stream of bytes. Ends after its first error.
pub fn messages<B: AsRef<[u8]>>(
    bytes: impl Stream<Item = Result<B, BridgeError>> + Unpin,
) -> impl Stream<Item = Result<Message, BridgeError>> {
    let start = (bytes, Reader::default(), VecDeque::new());
    stream::try_unfold(start, |(mut bytes, mut reader, mut ready)| async move {
        loop {
            if let Some(message) = ready.pop_front() {
                return Ok(Some((message, (bytes, reader, ready))));
            }
            let Some(part) = bytes.next().await else { return Ok(None) };
            reader.read(part?.as_ref(), &mut ready)?;
        }
    })
}

/// Puts events together from the pieces they come in.
#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    draft: Message,
}

impl Reader {
    fn read(&mut self, bytes: &[u8], ready: &mut VecDeque<Message>) -> Result<(), BridgeError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() + self.draft.data.len() > EVENT {
                return Err(BridgeError::Malformed { status: 200 });
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                ready.extend(self.end_of_line(line.strip_suffix(b"\r").unwrap_or(line)));
            }
        }
        Ok(())
    }

    /// An empty line ends an event; one that starts with a colon is a comment, which keeps the connection alive.
    fn end_of_line(&mut self, line: &[u8]) -> Option<Message> {
        if line.is_empty() {
            let next = Message { id: self.draft.id.clone(), ..Message::default() };
            return Some(std::mem::replace(&mut self.draft, next)).filter(|message| !message.data.is_empty());
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"id" => self.draft.id = String::from_utf8_lossy(value).into_owned(),
            b"event" => self.draft.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if !self.draft.data.is_empty() {
                    self.draft.data.push(b'\n');
                }
                self.draft.data.extend_from_slice(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<Message>, BridgeError> {
        let (mut reader, mut ready) = (Reader::default(), VecDeque::new());
        for piece in pieces {
            reader.read(piece, &mut ready)?;
        }
        Ok(ready.into())
    }

    fn message(id: &str, name: &str, data: &str) -> Message {
        Message { id: id.into(), name: name.into(), data: data.into() }
    }

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let text = ":\n\nid: 1\nevent: session\ndata: {\"a\":\"\u{e4}\"}\n\n:still here\n\ndata:one\r\ndata: two\r\nretry: 5\r\n\r\nid: 2\n\n";
        let expected = [message("1", "session", "{\"a\":\"\u{e4}\"}"), message("1", "", "one\ntwo")];
        assert_eq!(read(&[text.as_bytes()]).unwrap(), expected);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), expected);
    }

    #[test]
    fn an_event_may_be_large_but_not_endless_however_it_is_stretched() {
        let large = format!("data: {}\n\n", "x".repeat(EVENT - 10));
        assert_eq!(read(&[large.as_bytes(), large.as_bytes()]).unwrap().len(), 2);
        for endless in ["x", "data: x\n", "data: x\r\n", "data: \u{0}\n", "\u{e4}"] {
            let piece = endless.repeat(1000);
            let pieces = vec![piece.as_bytes(); 1000];
            assert_eq!(read(&pieces), Err(BridgeError::Malformed { status: 200 }), "{endless:?}");
        }
        // Neither comments nor fields nobody knows add up.
        for passing in [": x\n", "novelty: x\n", "id: 7\n", "\u{fffd}: \n"] {
            let piece = passing.repeat(1000);
            assert_eq!(read(&vec![piece.as_bytes(); 1000]), Ok(Vec::new()), "{passing:?}");
        }
    }
}
