//! The REST API for applications.
//!
//! Any number of replicas, none of which keeps anything: what is asked for is read and written at the API server with the
//! caller's own token ([`instances`]), so that Kubernetes authenticates, authorises, admits and audits it. The gateway's own
//! account knows whose tokens are ([`identities`]) and which object a uid is ([`index`]), and may do nothing else.
//!
//! A request passes [`edge`] (its id, log line, headers, the form of refusals), then [`caller`] (who, and how often), then one
//! handler of [`sessions`] or [`events`]. What can be decided without asking anybody is pure.

pub mod answer;
pub mod caller;
pub mod code;
pub mod document;
pub mod edge;
pub mod events;
pub mod failure;
pub mod identities;
pub mod index;
pub mod input;
pub mod instances;
pub mod metrics;
mod page;
pub mod picture;
pub mod rate;
mod rights;
pub mod server;
pub mod session;
pub mod sessions;
pub mod state;
pub mod story;
#[cfg(test)]
mod testing;
pub mod wait;

pub use rights::RIGHTS;
