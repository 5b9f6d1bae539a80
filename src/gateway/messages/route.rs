//! Which instance sends a message: pure.

use std::{cmp::Reverse, sync::Arc};

use crate::{
    bridge_api::RecipientKey,
    gateway::{code::Code, failure::Failure, index::Known, rendezvous},
};

/// What a caller says of which session sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// Through the owner's primary instance, where the message waits if it has to.
    #[default]
    Primary,
    /// Through one of those that can send now: one that the recipient knows, or else one in which little waits.
    Balanced,
}

/// What the bridge says of an instance that could send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// So many messages wait in it.
    pub waiting: u64,
    /// The recipient has got a message through it, or will.
    pub knows_recipient: bool,
}

/// The primary instance among an owner's.
///
/// # Errors
/// When there is none.
pub fn primary(own: &[Arc<Known>]) -> Result<Arc<Known>, Failure> {
    own.iter().find(|known| known.primary && !known.going).map(Arc::clone).ok_or_else(|| {
        Failure::new(
            Code::NoPrimary,
            "there is no session to send through; create one with sessions/init, or name one with session_id",
        )
    })
}

/// The instances among an owner's that can send now.
///
/// # Errors
/// When none can.
pub fn ready(own: Vec<Arc<Known>>) -> Result<Vec<Arc<Known>>, Failure> {
    let ready: Vec<_> = own.into_iter().filter(|known| known.ready && !known.going).collect();
    if ready.is_empty() {
        return Err(Failure::new(
            Code::NoneReady,
            "none of the sessions can send now; connect one, or send with routing primary, where messages wait",
        ));
    }
    Ok(ready)
}

/// The one of these that sends to a recipient. A recipient stays with the instance that they have heard from; a new one goes
/// where the least waits, and where that is the same, always to the same one. One whose bridge does not say how busy it is sends only
/// where no other can. `None` only when there are none.
pub fn balanced(
    ready: &[Arc<Known>],
    recipient: RecipientKey,
    busy: impl Fn(&Known) -> Option<Busy>,
) -> Option<Arc<Known>> {
    let recipient = recipient.to_string();
    let best = ready.iter().max_by_key(|known| {
        let busy = busy(known);
        let Busy { waiting, knows_recipient } = busy.unwrap_or_default();
        let waiting = if knows_recipient { 0 } else { waiting };
        (busy.is_some(), knows_recipient, Reverse(waiting), rendezvous::weight(&recipient, &known.uid))
    });
    best.map(Arc::clone)
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
            version: 0,
            owner: Some("alice".into()),
            name: n.to_string(),
            primary,
            bridge: None,
            ready,
            going: false,
            link: None,
        })
    }

    #[test]
    fn the_primary_one_sends_whether_it_can_or_not_and_others_only_when_they_can() {
        let own = [known(1, false, true), known(2, true, false), known(3, false, true)];
        assert_eq!(primary(&own).unwrap().uid, "uid-2");
        assert_eq!(primary(&own[..1]).err().unwrap().code, Code::NoPrimary);
        assert_eq!(ready(own[1..2].to_vec()).err().unwrap().code, Code::NoneReady);
        assert_eq!(ready(own.to_vec()).unwrap().len(), 2);
    }

    #[test]
    fn new_recipients_are_spread_evenly_and_the_same_one_goes_the_same_way() {
        let idle = |_: &Known| Some(Busy::default());
        let own: Vec<_> = (0..4).map(|n| known(n, false, true)).collect();
        let mut counts = BTreeMap::new();
        for n in 0..400 {
            let chosen = balanced(&own, n, idle).unwrap();
            if chosen.uid != "uid-3" {
                let without = balanced(&own[..3], n, idle).unwrap();
                assert_eq!(chosen, without, "another one going moves nobody");
            }
            *counts.entry(chosen.uid.clone()).or_insert(0) += 1;
        }
        assert!(counts.len() == 4 && counts.values().all(|count| (60..150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_new_recipient_goes_where_little_waits_and_one_who_knows_an_instance_stays() {
        let own: Vec<_> = (0..3).map(|n| known(n, false, true)).collect();
        let busy = |knows: &'static str| {
            move |known: &Known| {
                let waiting = if known.uid == "uid-1" { 3 } else { 50 };
                Some(Busy { waiting, knows_recipient: known.uid == knows })
            }
        };
        for n in 0..20 {
            assert_eq!(balanced(&own, n, busy("nobody")).unwrap().uid, "uid-1");
            assert_eq!(balanced(&own, n, busy("uid-2")).unwrap().uid, "uid-2");
        }
    }

    #[test]
    fn one_whose_bridge_is_silent_sends_only_where_no_other_can() {
        let own: Vec<_> = (0..3).map(|n| known(n, false, true)).collect();
        let busy = |known: &Known| (known.uid == "uid-1").then_some(Busy { waiting: 50, knows_recipient: false });
        for n in 0..20 {
            assert_eq!(balanced(&own, n, busy).unwrap().uid, "uid-1");
            assert!(balanced(&own, n, |_| None).is_some());
        }
    }
}
