//! The bridge's HTTP API, version 1: typed once, for the bridge that serves it and for the programs that call it.
//!
//! | request | answer |
//! | --- | --- |
//! | `PUT /v1/sessions/{id}` [`SessionSpec`] | 200 [`Session`]; idempotent: creates the session or changes what is wanted of it |
//! | `GET /v1/sessions` | 200 [`SessionList`], with the [`Cursor`] to resume events from |
//! | `GET /v1/sessions/{id}` | 200 [`Session`], 404 |
//! | `DELETE /v1/sessions/{id}?unlink=BOOL` | 202 [`Session`] in phase `Deleting`; 204 when it is gone or never was |
//! | `GET /v1/events` (header `Last-Event-ID` or query `since`: a [`Cursor`]) | SSE: event name `session` / `deleted` / `reset`, id = cursor, data = [`Event`] |
//! | `PUT /v1/sessions/{id}/messages/{message}` [`MessageSpec`] | 201 [`Message`], on the disk; 200 when it was accepted before; 409 another one has that id, or no device is linked; 429, 507 |
//! | `GET /v1/sessions/{id}/messages/{message}` | 200 [`Message`], 404 |
//! | `GET /v1/sessions/{id}/messages?before=SEQUENCE&limit=N` | 200 [`MessageList`], newest first |
//! | `DELETE /v1/sessions/{id}/messages/{message}` | 200 [`Message`], cancelled; 409 it is too late; 404 |
//! | `GET /v1/messages/events` (`Last-Event-ID` or `since`) | SSE: event name `place` (first, unless something was missed: the cursor it goes on from), `message` / `reset`, id = cursor, data = [`MessageStatus`] |
//! | `POST /v1/messages/batch` [`MessageBatch`] | 200 [`BatchAnswer`]: for each message what `PUT` would have answered |
//! | `POST /v1/messages/load` [`LoadQuery`] | 200 [`LoadList`]; changes nothing, and a body keeps the number out of URLs |
//! | `PUT /v1/claims/{key}` [`Claim`] | 201 [`Claim`]; 200 with the one that was made first |
//! | `GET /v1/info` | 200 [`Info`] |
//! | `GET /healthz`, `/readyz`, `/metrics` (on the admin address, no token) | health and metrics |
//!
//! Every `/v1` request carries `Authorization: Bearer TOKEN`. Errors are [`ErrorBody`].
//!
//! *Level-triggered.* `PUT` states everything that is wanted, a new pairing window included
//! ([`PairingSpec::window`]), and `DELETE` may be repeated until it answers 204. So a controller that crashed anywhere
//! just says the same again. Everything the events tell stands in `GET` as well.
//!
//! *Whose it is.* A session has the id of its instance. With [`SessionSpec::instance`] a bridge knows an instance again that was created anew
//! and has another id: one with [`Capability::Adopt`] renames the session that it has for it when the new id is put for the first time. The events
//! tell that the former id is deleted and the new one there; `PUT` and `GET` of a message of the former id are answered for the new one, since
//! claims name it, and `PUT` of the former id is refused ([`ErrorCode::TakenOver`]).
//!
//! *Alive.* Something comes on the event stream at least every 15 s, a comment when there is nothing to tell (this project's
//! bridge: every 10 s). A caller takes a stream that is silent for 25 s for dead and connects anew.
//!
//! # How it grows
//!
//! Controller, bridge and gateway are upgraded at different moments, in any order. So within version 1:
//!
//! 1. It only grows: no field, word, path or event is removed or changes its meaning, and a new field has a default
//!    that means what its absence meant. A value that is the default is not written.
//! 2. Fields that a reader does not know are ignored. Where they pass through (a bridge stores a spec and answers with
//!    it) they are kept as they came ([`Extra`]).
//! 3. Words that a reader does not know are kept as they came ([`Open`]). What is done about one stands beside the field.
//! 4. Before a caller uses something new it asks whether the bridge can do it ([`Info::capabilities`],
//!    [`SessionSpec::within`]).
//! 5. A session that cannot be read is that session's trouble alone ([`SessionList::read`], [`Event::read`]). An event
//!    name that is not known is skipped.
//!
//! The release before these rules (`tests/wire/first`) refuses fields and words that it does not know: a bridge that
//! says one of the new words to a controller of that release is malformed to it. Upgrade the controller first, that once.

mod client;
#[cfg(test)]
mod client_tests;
mod error;
mod info;
mod limited;
mod message;
mod message_client;
mod open;
mod recipient;
#[cfg(test)]
pub(crate) mod scripted_bridge;
mod session;
mod spec;
mod stream;
mod text;
#[cfg(test)]
mod wire_tests;

pub use client::{BridgeClient, Deletion, Events};
pub use error::BridgeError;
pub use info::*;
pub use message::*;
pub use message_client::{MessageEvent, MessageEvents};
pub use open::{Extra, Open};
pub use recipient::{BadRecipient, Recipient, RecipientKey};
pub use session::*;
pub use spec::*;
pub use stream::*;
pub use text::{BadText, LONGEST_TEXT, check_text};
