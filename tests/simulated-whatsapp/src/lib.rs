//! A simulated WhatsApp: the server side of the multi-device wire protocol on loopback, and the phone that scans.
//!
//! It keeps to the protocol rather than to what one client library happens to need, so that any client whose
//! address and certificate root can be replaced can be pointed at it. For tests and demos only.
//!
//! Rooms: [`certificates`] and [`handshake`] (Noise), [`connection`] (one task per socket), [`pairing`], [`login`],
//! [`iq`] with [`prekeys`], [`usync`] and [`app_state`], [`phone`] (the account holder), [`letters`] (what phones write),
//! [`mail`] (what waits for companions), [`reading`] (what companions write), [`inbox`] and [`receipts`] (what phones make of
//! it), [`signal`] (the encryption), [`numbers`] (who is on WhatsApp),
//! [`registry`] (what survives a restart), [`world`] (what does not), [`faults`] (what goes wrong on purpose), [`control`]
//! (HTTP API) with [`client`] and [`cli`].

pub mod app_state;
pub mod certificates;
pub mod cli;
pub mod client;
pub mod connection;
pub mod control;
pub mod faults;
pub mod files;
pub mod handshake;
pub mod inbox;
pub mod iq;
pub mod keys;
pub mod letters;
pub mod listener;
pub mod login;
pub mod logins;
pub mod mail;
pub mod numbers;
pub mod pair_code;
pub mod pairing;
pub mod phone;
pub mod prekeys;
pub mod presences;
pub mod qr;
pub mod reading;
pub mod receipts;
pub mod registry;
pub mod server;
pub mod signal;
pub mod stanza;
pub mod usync;
pub mod world;
