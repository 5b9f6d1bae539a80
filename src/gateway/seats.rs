//! Seats for requests that cost something for a while: so many in all, and so many for each caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use crate::platform::lock;

/// The seats. Clones are the same.
#[derive(Clone)]
pub struct Seats {
    most: usize,
    most_of_a_caller: usize,
    taken: Taken,
}

/// How many each caller has who has any.
type Taken = Arc<Mutex<HashMap<String, usize>>>;

/// A seat that is taken; given back when it is dropped.
pub struct Seat {
    taken: Taken,
    caller: String,
}

/// There is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The caller has as many as one may have: so many.
    OfCaller(usize),
    /// All are taken.
    OfAll,
}

impl Seats {
    /// So many, of which one caller may have so many.
    pub fn new(most: usize, most_of_a_caller: usize) -> Self {
        Self { most, most_of_a_caller, taken: Taken::default() }
    }

    /// A seat for a request of this caller.
    ///
    /// # Errors
    /// When they have as many as they may, or none is left.
    pub fn take(&self, caller: &str) -> Result<Seat, Full> {
        let mut taken = lock(&self.taken);
        let of_caller = taken.get(caller).copied().unwrap_or(0);
        if of_caller >= self.most_of_a_caller {
            return Err(Full::OfCaller(of_caller));
        }
        if taken.values().sum::<usize>() >= self.most {
            return Err(Full::OfAll);
        }
        taken.insert(caller.to_owned(), of_caller + 1);
        Ok(Seat { taken: Arc::clone(&self.taken), caller: caller.to_owned() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(of_caller) = taken.get_mut(&self.caller) {
            *of_caller -= 1;
            if *of_caller == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_places_for_others_and_all_are_given_back() {
        let seats = Seats::new(5, 2);
        let greedy: Vec<_> = (0..9).filter_map(|_| seats.take("greedy").ok()).collect();
        assert_eq!((greedy.len(), seats.take("greedy").err()), (2, Some(Full::OfCaller(2))));
        let others: Vec<_> = ["a", "a", "b", "c"].into_iter().filter_map(|caller| seats.take(caller).ok()).collect();
        assert_eq!((others.len(), seats.take("c").err()), (3, Some(Full::OfAll)), "no more than there are");
        drop(greedy);
        assert!(seats.take("c").is_ok(), "a seat is free when a request is answered");
        drop(others);
        assert!(lock(&seats.taken).is_empty(), "nobody is remembered who waits for nothing");
    }
}
