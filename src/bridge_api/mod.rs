//! The bridge's HTTP API, version 1: typed once, for the bridge that serves it and for the programs that call it.
//!
//! | request | answer |
//! | --- | --- |
//! | `PUT /v1/sessions/{id}` [`SessionSpec`] | 200 [`Session`]; idempotent: creates the session or changes what is wanted of it |
//! | `GET /v1/sessions` | 200 [`SessionList`], with the [`Cursor`] to resume events from |
//! | `GET /v1/sessions/{id}` | 200 [`Session`], 404 |
//! | `DELETE /v1/sessions/{id}?unlink=BOOL` | 202 [`Session`] in phase `Deleting`; 204 when it is gone or never was |
//! | `GET /v1/events` (header `Last-Event-ID` or query `since`: a [`Cursor`]) | SSE: event name `session` / `deleted` / `reset`, id = cursor, data = [`Event`] |
//! | `GET /v1/info` | 200 [`Info`] |
//! | `GET /healthz`, `/readyz`, `/metrics` (on the admin address, no token) | health and metrics |
//!
//! Every `/v1` request carries `Authorization: Bearer TOKEN`. Errors are [`ErrorBody`].
//!
//! *Level-triggered.* `PUT` states everything that is wanted, a new pairing window included
//! ([`PairingSpec::window`]), and `DELETE` may be repeated until it answers 204. So a controller that crashed anywhere
//! just says the same again. Everything the events tell stands in `GET` as well.

mod client;
#[cfg(test)]
mod client_tests;
mod limited;
#[cfg(test)]
pub(crate) mod scripted;
mod types;

pub use client::{BridgeClient, BridgeError, Deletion, Events};
pub use types::*;
