//! `/api/v1/messages/`: send, look at, call back.
//!
//! **Who.** The owner of the instance, or whoever RBAC gives a verb on `whatsappinstances/messages` in its namespace: `create`
//! to send and to call back, `get` to read. What is not theirs looks as if it were not there.
//!
//! **One message.** The id that a message has at WhatsApp is fixed before it is handed to its bridge, and the bridge accepts one
//! message under one id, however often it is asked. Without an idempotency key the id is made here, for this request. With
//! one, the key is claimed first, at a shard that all gateways agree on ([`super::bridges::Bridges::ask_home`]): the first
//! gateway to claim it writes session and id there, every other reads them and asks for the very same message. So it is one message also when
//! the primary moves meanwhile, when two gateways are asked at once, and when one of them dies between the two steps. Without
//! an answer from that shard nothing is sent. What was accepted under the id is answered for, whatever has become of its session.

mod destination;
pub mod key;
pub mod message;
pub mod read;
mod refused;
pub mod route;
pub mod send;
mod sender;
mod submit;
pub mod waiting;
mod wanted;
