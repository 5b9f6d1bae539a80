//! Who a caller is, and how a browser stays signed in: [`sign_in`] exchanges a token for a
//! [`cookie`](super::cookie), which holds that very token, so that the gateway keeps nothing and any replica can answer. [`owner`] is how many instances they may have.

pub mod owner;
pub mod sign_in;
