//! Server-sent events, read with a limit (WHATWG HTML, section 9.2): their sender must not be able to fill our memory.

use std::collections::VecDeque;

use thiserror::Error;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The resume point behind it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its text.
    pub data: Vec<u8>,
}

/// An event is larger than may be.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an event is larger than {0} bytes")]
pub struct TooLarge(usize);

/// Puts events together from the pieces they come in.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    line: Vec<u8>,
    draft: Event,
}

impl Reader {
    /// For events of so many bytes at most.
    pub fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new(), draft: Event::default() }
    }

    /// Takes a piece; the events that it completes are put into `ready`.
    ///
    /// # Errors
    /// When an event becomes larger than may be.
    pub fn read(&mut self, bytes: &[u8], ready: &mut VecDeque<Event>) -> Result<(), TooLarge> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() + self.draft.data.len() > self.limit {
                return Err(TooLarge(self.limit));
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
    fn end_of_line(&mut self, line: &[u8]) -> Option<Event> {
        if line.is_empty() {
            let next = Event { id: self.draft.id.clone(), ..Event::default() };
            return Some(std::mem::replace(&mut self.draft, next)).filter(|event| !event.data.is_empty());
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

    const LIMIT: usize = 64 * 1024;

    fn read(pieces: &[&[u8]]) -> Result<Vec<Event>, TooLarge> {
        let (mut reader, mut ready) = (Reader::new(LIMIT), VecDeque::new());
        for piece in pieces {
            reader.read(piece, &mut ready)?;
        }
        Ok(ready.into())
    }

    fn event(id: &str, name: &str, data: &str) -> Event {
        Event { id: id.into(), name: name.into(), data: data.into() }
    }

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let text = ":\n\nid: 1\nevent: session\ndata: {\"a\":\"\u{e4}\"}\n\n:still here\n\ndata:one\r\ndata: two\r\nretry: 5\r\n\r\nid: 2\n\n";
        let expected = [event("1", "session", "{\"a\":\"\u{e4}\"}"), event("1", "", "one\ntwo")];
        assert_eq!(read(&[text.as_bytes()]).unwrap(), expected);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), expected);
    }

    #[test]
    fn an_event_may_be_large_but_not_endless_however_it_is_stretched() {
        let large = format!("data: {}\n\n", "x".repeat(LIMIT - 10));
        assert_eq!(read(&[large.as_bytes(), large.as_bytes()]).unwrap().len(), 2);
        for endless in ["x", "data: x\n", "data: x\r\n", "data: \u{0}\n", "\u{e4}"] {
            let piece = endless.repeat(1000);
            let pieces = vec![piece.as_bytes(); 1000];
            assert_eq!(read(&pieces), Err(TooLarge(LIMIT)), "{endless:?}");
        }
        // Neither comments nor unknown fields count.
        for passing in [": x\n", "novelty: x\n", "id: 7\n", "\u{fffd}: \n"] {
            let piece = passing.repeat(1000);
            assert_eq!(read(&vec![piece.as_bytes(); 1000]), Ok(Vec::new()), "{passing:?}");
        }
    }
}
