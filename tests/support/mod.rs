//! Starts the real programs for the acceptance tests and the demo, and gives them a vocabulary.

pub mod control_plane;
pub mod gateway;
pub mod history;
mod leaks;
pub mod ledger;
pub mod phone;
pub mod program;
pub mod proxy;
pub mod relay;
pub mod wall_clock;
pub mod webhooks;
pub mod world;
