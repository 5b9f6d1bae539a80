//! Our own nouns: values parsed once at the edge. No Kubernetes, no I/O.

mod sensitive;

pub use sensitive::Sensitive;
