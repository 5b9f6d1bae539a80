//! Our own nouns: values parsed once at the edge. No Kubernetes, no I/O.

mod namespace_scope;
mod phone_number;
mod sensitive;

pub use namespace_scope::NamespaceScope;
pub use phone_number::{PHONE_NUMBER, is_international, is_phone_number};
pub use sensitive::Sensitive;
