//! Our own nouns: values parsed once at the edge. No Kubernetes, no I/O.

mod namespace_scope;
mod sensitive;

pub use namespace_scope::NamespaceScope;
pub use sensitive::Sensitive;
