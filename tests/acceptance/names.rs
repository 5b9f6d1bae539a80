//! Names are unique per owner, however they are written.

use serde_json::json;
use whatsapp_operator::api::{
    Phase, WhatsAppInstance,
    conditions::{ACCEPTED, reason},
};

use crate::{
    gate::{Gate, REPLICAS, at_once},
    support::{
        history::Ask,
        ledger::{PATIENCE, accepted, accepted_now, decided, own, until},
        world::{ALONE, SOON, Wishes, World},
    },
    turns::storm,
};

#[tokio::test]
async fn of_200_concurrent_creates_of_one_name_exactly_one_exists() {
    let gate = Gate::start("names-storm", &[]).await;
    let everything = [
        "Straße İstanbul Café",
        " STRASSE ISTANBUL CAFE\u{301} ",
        "strasse ıstanbul cafe\u{301}",
        "ｓtraẞe i\u{307}stanbul CAFÉ",
    ];
    for (owner, spellings) in [
        ("sales", ["Sales", " sales ", "SALES", "Ｓales"]),
        ("street", ["Straße", "STRASSE", "strasse", "straẞe"]),
        ("city", ["İstanbul", "ISTANBUL", "ıstanbul", "istanbul"]),
        ("cafe", ["Café", "CAFE\u{301}", "cafe\u{301} ", "CAFÉ"]),
        ("everything", everything),
    ] {
        let creates = (0..200).map(|i| {
            let gate = &gate;
            // Every process hears every spelling.
            async move { gate.create(&format!("{owner}{i}"), i % REPLICAS, spellings[i / REPLICAS % 4], owner).await }
        });
        let _turn = storm().await;
        let answers = at_once(creates).await;
        answers.all_say(409, "instance name already exists");
        answers.assert_admitted(1);
        assert_eq!(gate.owned(owner).await.len(), 1, "{owner}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_name_in_several_spellings_one_is_accepted_until_it_is_free() {
    let mut world = World::start_with("names-several", Wishes::of_operator(&[ALONE])).await;
    world.operator.kill();
    let spellings = ["Sales", " sales ", "SALES", "ｓales"];
    for (n, spelling) in spellings.iter().enumerate() {
        own(&world, &format!("line-{n}"), json!({"name": spelling})).await;
    }
    own(&world, "other", json!({"name": "Support"})).await;
    world.restart_operator().await;
    for n in 0..spellings.len() {
        decided(&world, &format!("line-{n}")).await;
    }
    accepted(&world, "other").await;
    let mut in_now = accepted_now(&world).await;
    in_now.remove("other");
    assert_eq!(in_now.len(), 1, "{in_now:?}");
    let first = in_now.pop_first().unwrap();
    let waiting: Vec<String> = (0..4).map(|n| format!("line-{n}")).filter(|name| *name != first).collect();
    for name in &waiting {
        let instance = world.history.until_phase(name, Phase::Rejected, SOON).await;
        assert_eq!(instance.reason(ACCEPTED), reason::NAME_TAKEN);
    }
    // Another name heals one, the name becoming free another.
    world.patch_spec(&waiting[0], json!({"name": "Sales, second line"})).await;
    accepted(&world, &waiting[0]).await;
    world.delete(&first).await;
    world.history.until_gone(&first, SOON).await;
    let next = until(&world, "given to the next", |status| (status.used, status.instances.len()) == (3, 4)).await;
    assert_eq!(next.instances.iter().filter(|entry| entry.waiting.is_some()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_loses_its_name_goes_offline_and_comes_back_without_a_scan() {
    let world = World::start("names-lost").await;
    let phones = ["+15550103301", "+15550103302"];
    for (name, phone) in ["sales", "support"].into_iter().zip(phones) {
        own(&world, name, json!({"name": name})).await;
        world.scan(name, phone).await;
        world.history.until_phase(name, Phase::Connected, PATIENCE).await;
    }
    let primary = until(&world, "both up", |s| s.connected == 2).await.primary.unwrap().name;
    let (loses, keeps, phone) =
        if primary == "sales" { ("sales", "support", phones[1]) } else { ("support", "sales", phones[0]) };
    // Past admission, which would have refused it.
    world.patch_spec(loses, json!({"name": keeps.to_uppercase()})).await;
    let lost = world.history.until_phase(loses, Phase::Rejected, SOON).await;
    assert_eq!(lost.reason(ACCEPTED), reason::NAME_TAKEN);
    world.whatsapp.until_connected(&[phone]).await;
    assert_eq!(world.whatsapp.devices().await.len(), 2, "it stays linked");
    let status = until(&world, "left to one", |s| (s.used, s.connected) == (1, 1)).await;
    assert_eq!(status.primary.unwrap().name, keeps, "who is not accepted is not primary");
    let mirrors = |i: &WhatsAppInstance| i.status.as_ref().is_some_and(|status| status.primary);
    world.history.until(keeps, "made primary", SOON, mirrors).await;
    world.history.until(loses, "primary no more", SOON, |i| !mirrors(i)).await;

    world.patch_spec(loses, json!({"name": loses})).await;
    world.history.until_phase(loses, Phase::Connected, PATIENCE).await;
    world.whatsapp.until_connected(&phones).await;
    assert!(
        world
            .history
            .of(keeps)
            .iter()
            .all(|seen| seen.instance.as_ref().is_none_or(|i| i.phase() != Some(Phase::Rejected)))
    );
    world.nothing_leaked(&phones).await;
}
