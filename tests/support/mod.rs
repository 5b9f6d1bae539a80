//! Starts the real programs for the acceptance tests and the demo, and gives them a vocabulary.

pub mod control_plane;
pub mod history;
pub mod phone;
pub mod program;
pub mod world;
