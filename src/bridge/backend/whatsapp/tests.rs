use std::{sync::Arc, time::Duration};

use whatsapp_operator::{bridge_api::SessionReason, model::Sensitive};
use whatsapp_rust::{
    Jid, NodeBuilder,
    pair_code::PairCodeRejection,
    types::{
        events::{self, ConnectFailureReason, Event, EventHandler, LoggedOut, PairingCodeError, PairingCodeRefresh},
        message::MessageSource,
        presence::ReceiptType,
    },
};

use super::adapter::EventAdapter;
use crate::{
    backend::{EventSink, activity::Activity, presence::Presence, transport::ConnectionRecorder},
    machine::{ClientEvent, MessageNews, Receipt},
};

/// What is told of events in a client that pairs by code.
fn listening() -> (EventAdapter, std::sync::mpsc::Receiver<ClientEvent>) {
    let (sender, told) = std::sync::mpsc::channel();
    let adapter = EventAdapter {
        session: "s".into(),
        events: EventSink::to(move |event| sender.send(event).unwrap()),
        recorder: ConnectionRecorder::default(),
        client: Arc::default(),
        asking: Arc::default(),
        told_of: Arc::default(),
        activity: Arc::new(Activity::new()),
        presence: Presence::new(false),
        stanzas: Arc::default(),
        pair_with_code: Some(Sensitive::new("+15550001111")),
        version: None,
    };
    (adapter, told)
}

/// What is told of `event` alone.
fn told(event: Event) -> Vec<ClientEvent> {
    let (adapter, told) = listening();
    let kind = event.kind();
    assert!(adapter.interest().wants(kind), "{kind:?}");
    adapter.handle_event(Arc::new(event));
    told.try_iter().collect()
}

#[test]
fn a_pairing_code_that_is_refused_or_stale_is_told_of() {
    let error = |rejection, backoff| {
        let error = PairingCodeError::builder().maybe_rejection(rejection).maybe_backoff(backoff);
        told(Event::PairingCodeError(error.error("a text nobody reads".to_owned()).build()))
    };
    let minute = Some(Duration::from_secs(60));
    for (rejection, pause, refused) in [
        (Some(PairCodeRejection::RateOverlimit), minute, Some(SessionReason::TooManyRequests)),
        (Some(PairCodeRejection::BadRequest), None, Some(SessionReason::PairingFailed)),
        (Some(PairCodeRejection::Unknown(499)), minute, Some(SessionReason::PairingFailed)),
        (None, None, None),
    ] {
        assert_eq!(error(rejection, pause), [ClientEvent::NoCode { refused, pause }]);
    }
    for force_manual in [true, false] {
        let refresh = PairingCodeRefresh::builder().force_manual(force_manual).build();
        let another = !force_manual;
        assert_eq!(told(Event::PairingCodeRefresh(refresh)), [ClientEvent::CodeStale { another }]);
    }
}

#[test]
fn a_receipt_is_told_with_the_kind_of_device_that_it_comes_from() {
    let at = whatsapp_rust::chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let receipt = |kind: &ReceiptType, device| {
        let source = MessageSource { sender: Jid::pn_device("15550003901", device), ..MessageSource::default() };
        let event = events::Receipt::builder().message_ids(vec!["ONE".into()]).source(source).timestamp(at);
        match told(Event::Receipt(event.r#type(kind.clone()).offline(false).build())).pop() {
            Some(ClientEvent::Message(MessageNews::Receipt { receipt, .. })) => Some(receipt),
            _ => None,
        }
    };
    for (kind, of_the_phone, of_a_companion) in [
        (ReceiptType::Delivered, Some(Receipt::Delivered), Some(Receipt::CompanionDelivered)),
        (ReceiptType::Inactive, None, Some(Receipt::CompanionDelivered)),
        (ReceiptType::Read, Some(Receipt::Read), Some(Receipt::Read)),
        (ReceiptType::Sender, None, None),
    ] {
        assert_eq!((receipt(&kind, 0), receipt(&kind, 7)), (of_the_phone, of_a_companion), "{kind:?}");
    }
}

#[test]
fn a_receipt_tells_of_all_its_messages_whichever_address_it_comes_from() {
    let at = whatsapp_rust::chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for (sender, receipt) in [
        (Jid::lid("100000012345"), Receipt::Delivered),
        (Jid::lid_device("100000012345", 7), Receipt::CompanionDelivered),
        (Jid::pn("15550003901"), Receipt::Delivered),
        (Jid::pn_device("15550003901", 7), Receipt::CompanionDelivered),
    ] {
        // One that waited for a login tells nothing else.
        for offline in [false, true] {
            let source = MessageSource { sender: sender.clone(), ..MessageSource::default() };
            let event = events::Receipt::builder().message_ids(vec!["ONE".into(), "TWO".into()]).source(source);
            let event = event.timestamp(at).r#type(ReceiptType::Delivered).offline(offline).build();
            let ids = vec!["ONE".to_owned(), "TWO".to_owned()];
            let at = jiff::Timestamp::from_second(1_800_000_000).unwrap();
            let expected = ClientEvent::Message(MessageNews::Receipt { ids, receipt, at });
            assert_eq!(told(Event::Receipt(event)).pop(), Some(expected), "{sender}");
        }
    }
}

#[test]
fn that_something_came_is_not_told_for_each_stanza() {
    let (adapter, told) = listening();
    let at = whatsapp_rust::chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for _ in 0..100 {
        let source = MessageSource { sender: Jid::pn_device("15550003901", 0), ..MessageSource::default() };
        let event = events::Receipt::builder().message_ids(vec!["ONE".into()]).source(source).timestamp(at);
        let event = event.r#type(ReceiptType::Delivered).offline(false).build();
        adapter.handle_event(Arc::new(Event::Receipt(event)));
    }
    let (traffic, others): (Vec<_>, Vec<_>) = told.try_iter().partition(|event| *event == ClientEvent::Traffic);
    assert_eq!((traffic.len(), others.len()), (1, 100));
}

#[test]
fn an_account_that_is_locked_or_banned_is_no_unlinked_device() {
    use ConnectFailureReason as Why;
    for (reason, event) in [
        (Why::AccountLocked, ClientEvent::Barred(SessionReason::AccountLocked)),
        (Why::UnknownLogout, ClientEvent::Barred(SessionReason::AccountBanned)),
        (Why::LoggedOut, ClientEvent::Unauthorized),
    ] {
        let failure = NodeBuilder::new("failure").attr("reason", reason.code().to_string()).build();
        let refused = LoggedOut::builder().on_connect(true).reason(reason).raw(failure).build();
        assert_eq!(told(Event::LoggedOut(refused)), [event], "{reason:?}");
    }
}
