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

use crate::{
    support::{
        history::Ask,
        world::{SOON, World},
    },
    turns::calm,
};

/// WhatsApp shows six codes: the first for 60 s, the others for 20 s each.
const CODES: usize = 6;
const WINDOW: Duration = Duration::from_secs(160);

#[tokio::test(flavor = "multi_thread")]
async fn expiry_is_exact_for_every_code_and_the_window_ends() {
    let world = World::start("window").await;
    let calm = calm().await;
    world.apply("sales", json!({})).await;
    // One for which a linking link was made.
    world.apply("awaited", json!({})).await;
    let link = LinkingLink::new("secret", None, Timestamp::now(), LONGEST).annotation();
    let annotated = Patch::Merge(json!({"metadata": {"annotations": {LINKING_LINK: link}}}));
    world.instances().patch("awaited", &PatchParams::default(), &annotated).await.unwrap();
    let first = world.qr("awaited").await;
    let patience = WINDOW + Duration::from_secs(20);
    let expired = world.history.until_phase("sales", Phase::PairingExpired, patience).await;
    drop(calm);
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
    let changes = shown.iter().skip(1).map(|(at, ..)| *at).chain(ended);
    for ((_, expires_at, _), changed) in shown.iter().zip(changes) {
        let off = changed.duration_since(*expires_at).as_secs_f64();
        // expiresAt is in whole seconds: half of one either way is none of ours.
        assert!(off.abs() < 1.5, "a code changed {off} s after its expiresAt");
    }

    world.refresh("sales").await;
    let fresh = world.qr("sales").await;
    assert!(shown.iter().all(|(_, _, code)| *code != fresh), "a new window has new codes");
    world.scan("sales", "+15550100010").await;
    world.history.until_phase("sales", Phase::Connected, Duration::from_secs(30)).await;
    world.nothing_leaked(&["+15550100010"]).await;
}
