//! The REST API for applications.
//!
//! Any number of replicas, none of which keeps anything: what is asked for is read and written at the API server with the
//! caller's own token ([`instances`]), so that Kubernetes authenticates, authorises, admits and audits it. The gateway's own
//! account knows whose tokens are ([`identities`]), which object a uid is ([`index`]), and how to reach the bridges ([`bridges`]),
//! through which messages go ([`messages`], and [`feed`] for what becomes of them): Kubernetes does not hold those, so who may
//! send is asked of it ([`access`]).
//!
//! A request passes `unread` (who is refused hears it while they still send), [`edge`] (its id, log line, headers, the form of
//! refusals), then [`caller`] (who, and how often), then one handler of [`sessions`], [`linking`], [`messages`], [`events`] or
//! [`account`]. What can be decided without asking anybody is pure.
//! `dashboard` is the page for people: files for a browser, which then asks what any caller may ask.

pub mod access;
pub mod account;
pub mod answer;
pub mod bridges;
pub mod caller;
pub mod code;
pub mod cookie;
mod dashboard;
pub mod document;
pub mod edge;
pub mod events;
pub mod failure;
pub mod feed;
pub mod identities;
pub mod index;
pub mod input;
pub mod instances;
pub mod linking;
pub mod messages;
pub mod metrics;
mod page;
mod parameters;
pub mod picture;
pub mod rate;
mod remembered;
mod rendezvous;
mod rights;
mod seats;
pub mod server;
pub mod session;
pub mod sessions;
pub mod state;
pub mod story;
#[cfg(test)]
mod testing;
mod unread;
pub mod wait;

pub use rights::RIGHTS;
