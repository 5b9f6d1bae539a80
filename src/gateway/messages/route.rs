//! Which instance sends a message: pure.

use std::sync::Arc;

use crate::gateway::{code::Code, failure::Failure, index::Known, rendezvous};

/// What a caller says of the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// Through the owner's primary instance, where the message waits if it has to.
    #[default]
    Primary,
    /// Through one of those that can send now; the same one for the same recipient, as long as it can.
    Balanced,
}

/// The instance among an owner's that sends to a recipient.
///
/// # Errors
/// When there is none.
pub fn choose(own: &[Arc<Known>], routing: Routing, recipient: &str) -> Result<Arc<Known>, Failure> {
    let mut living = own.iter().filter(|known| !known.going);
    match routing {
        Routing::Primary => living.find(|known| known.primary).map(Arc::clone).ok_or_else(|| {
            Failure::new(
                Code::NoPrimary,
                "there is no session to send through; create one with sessions/init, or name one with session_id",
            )
        }),
        Routing::Balanced => {
            let ready = living.filter(|known| known.ready);
            // A recipient stays with their instance, and only those of an instance that cannot send go to others.
            ready.max_by_key(|known| rendezvous::weight(recipient, &known.uid)).map(Arc::clone).ok_or_else(|| {
                Failure::new(
                    Code::NoneReady,
                    "none of the sessions can send now; connect one, or send with routing primary, where messages wait",
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::platform::kubernetes::ObjectRef;

    fn known(n: usize, primary: bool, ready: bool) -> Arc<Known> {
        Arc::new(Known {
            place: ObjectRef { namespace: "ns".into(), name: n.to_string() },
            uid: format!("uid-{n}"),
            owner: Some("alice".into()),
            name: n.to_string(),
            primary,
            bridge: None,
            ready,
            going: false,
        })
    }

    #[test]
    fn the_primary_one_sends_whether_it_can_or_not_and_others_only_when_they_can() {
        let own = [known(1, false, true), known(2, true, false), known(3, false, true)];
        assert_eq!(choose(&own, Routing::Primary, "a").unwrap().uid, "uid-2");
        assert_eq!(choose(&own[..1], Routing::Primary, "a").err().unwrap().code, Code::NoPrimary);
        assert_eq!(choose(&own[1..2], Routing::Balanced, "a").err().unwrap().code, Code::NoneReady);
    }

    #[test]
    fn balanced_spreads_and_a_recipient_stays_with_their_instance() {
        let own: Vec<_> = (0..4).map(|n| known(n, false, true)).collect();
        let mut counts = BTreeMap::new();
        for n in 0..400 {
            let recipient = format!("+1555{n:07}");
            let chosen = choose(&own, Routing::Balanced, &recipient).unwrap();
            assert_eq!(chosen, choose(&own, Routing::Balanced, &recipient).unwrap());
            if chosen.uid != "uid-3" {
                assert_eq!(
                    chosen,
                    choose(&own[..3], Routing::Balanced, &recipient).unwrap(),
                    "another one going moves nobody"
                );
            }
            *counts.entry(chosen.uid.clone()).or_insert(0) += 1;
        }
        assert!(counts.len() == 4 && counts.values().all(|count| (60..150).contains(count)), "{counts:?}");
    }
}
