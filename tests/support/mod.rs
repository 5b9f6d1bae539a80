//! Starts the real programs for the acceptance tests and the demo, and gives them a vocabulary.

pub mod bad_disk;
pub mod control_plane;
pub mod death;
pub mod gateway;
pub mod history;
mod leaks;
pub mod ledger;
pub mod phone;
pub mod preload;
pub mod program;
pub mod proxy;
pub mod relay;
pub mod rights;
pub mod stock_client;
pub mod wall_clock;
pub mod webhooks;
pub mod world;
