//! Linking links: `POST` and `DELETE /api/v1/sessions/link/{id}/` for whoever may change the session, and
//! `POST /api/v1/linking-code` for whoever has the link and the phone.
//!
//! A link is made by writing the digest of its secret to the instance, as the caller ([`crate::rules::link`]). The second kind of
//! request carries no token but the link, and is answered with the gateway's own account, which sees instances anyway. It shows
//! the code of that instance and nothing else: no name, no number, no word on why it is not there.
//!
//! The first browser that opens a link keeps it. Who was first is written down at a shard that all gateways agree on, as
//! idempotency keys are ([`super::messages`]).

mod code;
mod link;

pub use code::{__path_linking_code, linking_code};
pub use link::{__path_link, __path_revoke_link, link, revoke_link};
