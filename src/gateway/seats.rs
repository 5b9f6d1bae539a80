//! Seats for requests that cost something for a while: so many in all, and so many for each caller.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use crate::platform::lock;

/// The seats.
pub struct Seats {
    most: usize,
    most_of_a_caller: usize,
    /// How many each caller has who has any.
    taken: Mutex<HashMap<String, usize>>,
}

/// A seat that is taken; given back when it is dropped.
pub struct Seat<'a> {
    seats: &'a Seats,
    caller: String,
}

impl Seats {
    /// So many, of which one caller may have so many.
    pub fn new(most: usize, most_of_a_caller: usize) -> Self {
        Self { most, most_of_a_caller, taken: Mutex::default() }
    }

    /// A seat for a request of this caller, unless they have as many as they may, or none is left.
    pub fn take(&self, caller: &str) -> Option<Seat<'_>> {
        let mut taken = self.taken();
        let of_caller = taken.get(caller).copied().unwrap_or(0);
        if of_caller >= self.most_of_a_caller || taken.values().sum::<usize>() >= self.most {
            return None;
        }
        taken.insert(caller.to_owned(), of_caller + 1);
        Some(Seat { seats: self, caller: caller.to_owned() })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        lock(&self.taken)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
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
        let greedy: Vec<_> = (0..9).filter_map(|_| seats.take("greedy")).collect();
        assert_eq!(greedy.len(), 2);
        let others: Vec<_> = ["a", "a", "b", "c"].into_iter().filter_map(|caller| seats.take(caller)).collect();
        assert_eq!(others.len(), 3, "no more than there are");
        drop(greedy);
        assert!(seats.take("c").is_some(), "a seat is free when a request is answered");
        drop(others);
        assert!(seats.taken().is_empty(), "nobody is remembered who waits for nothing");
    }
}
