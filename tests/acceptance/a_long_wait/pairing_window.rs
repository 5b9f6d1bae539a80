//! One whole pairing window.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use whatsapp_operator::{
    api::{
        Phase, WhatsAppInstance,
        conditions::{PAIRED, reason},
        labels::LINKING_LINK,
    },
    rules::link::{LONGEST, LinkingLink},
};

use crate::support::{
    history::Ask,
    world::{SOON, World},
};

/// WhatsApp shows six codes: the first for 60 s, the others for 20 s each.
const CODES: usize = 6;
const WINDOW: Duration = Duration::from_secs(160);
/// What times may be off by because `expiresAt` is in whole seconds, and for the way from the bridge to here.
const ROUNDED: f64 = 1.5;
/// How late a change may be seen on a busy machine: less than the 20 s after which the next one is due.
const LATE: f64 = 15.0;

#[tokio::test(flavor = "multi_thread")]
async fn expiry_is_exact_for_every_code_and_the_window_ends() {
    let world = World::start("window").await;
    world.apply("sales", json!({})).await;
    // One for which a linking link was made.
    world.apply("awaited", json!({})).await;
    let link = LinkingLink::new("secret", None, Timestamp::now(), LONGEST).annotation();
    let annotated = Patch::Merge(json!({"metadata": {"annotations": {LINKING_LINK: link}}}));
    world.instances().patch("awaited", &PatchParams::default(), &annotated).await.unwrap();
    let first = world.qr("awaited").await;
    let patience = WINDOW + SOON;
    let expired = world.history.until_phase("sales", Phase::PairingExpired, patience).await;
    assert!(expired.qr().is_none(), "the code is gone from status");
    assert_eq!(expired.reason(PAIRED), reason::PAIRING_EXPIRED);
    let anew = |one: &WhatsAppInstance| {
        let qr = one.status.as_ref().and_then(|status| status.qr.as_ref());
        qr.is_some_and(|qr| qr.attempt == 1 && qr.code.reveal() != first)
    };
    world.history.until("awaited", "in another window by itself", SOON, anew).await;

    let mut shown: Vec<(Timestamp, Timestamp, String)> = Vec::new(); // seen at, expires at, code
    let mut ended = None;
    for seen in world.history.of("sales") {
        let status = seen.instance.and_then(|instance| instance.status);
        match status.and_then(|status| status.qr) {
            Some(qr) if shown.last().is_none_or(|(_, _, code)| code != qr.code.reveal()) => {
                assert_eq!(qr.attempts as usize, CODES);
                assert_eq!(qr.attempt as usize, shown.len() + 1);
                shown.push((seen.at, qr.expires_at.0, qr.code.reveal().to_owned()));
            }
            Some(_) => {}
            None if !shown.is_empty() => {
                ended.get_or_insert(seen.at);
            }
            None => {}
        }
    }
    assert_eq!(shown.len(), CODES);
    // No less is promised than a minute for the first and 20 s for each of the others.
    let promised = shown[0].1.duration_since(shown[0].0).as_secs_f64();
    assert!(promised >= 60.0 - LATE, "the first code ends {promised} s after it was seen");
    for (before, after) in shown.iter().zip(&shown[1..]) {
        let lasts = after.1.duration_since(before.1).as_secs_f64();
        assert!(lasts >= 20.0 - 2.0 * ROUNDED, "a code is promised for {lasts} s");
    }
    // And no more: a code never changes before its end, and after it as soon as the machine lets it.
    let changes = shown.iter().skip(1).map(|(at, ..)| *at).chain(ended);
    let off = |((_, expires_at, _), changed): (&(Timestamp, Timestamp, String), Timestamp)| {
        changed.duration_since(*expires_at).as_secs_f64()
    };
    let off: Vec<f64> = shown.iter().zip(changes).map(off).collect();
    println!("the codes changed so many seconds after their expiresAt: {off:.2?}");
    assert!(off.len() == CODES && off.iter().all(|off| (-ROUNDED..LATE).contains(off)), "{off:?}");

    world.refresh("sales").await;
    let fresh = world.qr("sales").await;
    assert!(shown.iter().all(|(_, _, code)| *code != fresh), "a new window has new codes");
    world.scan("sales", "+15550100010").await;
    world.history.until_phase("sales", Phase::Connected, SOON).await;
    world.nothing_leaked(&["+15550100010"]).await;
}
