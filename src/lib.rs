//! The map of whatsapp-operator's library, which all three programs share.
//!
//! Dependencies point one way: [`model`] <- [`api`] <- [`rules`] <- [`bridge_api`] <- [`drivers`] <- {[`controller`], [`admission`],
//! [`gateway`], [`plugin`]} <- [`cli`] <- [`run`] <- the programs. [`platform`] serves any of them and knows none of them. The
//! surfaces never import each other.
//!
//! `CONTRIBUTING.md` goes the whole way for what is added most often; `docs/architecture.md` says what is in each room.
//!
//! The bridge program is not a room of this library but a binary of its own (`src/bridge/main.rs`): it links the
//! WhatsApp library, parts of which carry AGPL-3.0-only headers, and nothing here may.

#![warn(missing_docs)]

pub mod admission;
pub mod api;
pub mod bridge_api;
pub mod cli;
pub mod controller;
pub mod drivers;
pub mod gateway;
pub mod model;
pub mod platform;
pub mod plugin;
pub mod rules;
pub mod run;
#[cfg(test)]
mod structure;
