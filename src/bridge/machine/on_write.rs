//! A value that is cloned when it is written to, and only then.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

/// Clones share one value until one of them is written to; that one then gets a value of its own.
///
/// The state of a session is copied for every event, so that nothing has changed when the next one cannot be stored. Most
/// events change nothing that is stored, and their copy costs no more than a counter.
#[derive(Clone, Debug)]
pub struct OnWrite<T>(Arc<T>);

impl<T> OnWrite<T> {
    /// A value that is not shared yet.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for OnWrite<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for OnWrite<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: PartialEq> PartialEq for OnWrite<T> {
    /// Values that are shared are equal and need no look.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}
