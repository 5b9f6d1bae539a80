//! An instance in every phase, and what may be asked of it: on the page as by the API and the plugin.

use std::collections::BTreeSet;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use whatsapp_operator::api::{Phase, crd};

use browser::{Browser, LOOKS, Look};

use crate::{
    dashboard::{card, sign_in, start_browser},
    plugin_messages::{ended, plugin},
    support::{
        gateway::{ALL_VERBS, Rest, account, user},
        world::World,
    },
};

/// Every phase that there is, as the API describes them.
fn phases() -> Vec<Phase> {
    let crd = serde_json::to_value(&crd::all().unwrap()[0]).unwrap();
    let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    let words = status["properties"]["phase"]["enum"].as_array().unwrap_or_else(|| panic!("{status}"));
    words.iter().filter(|word| !word.is_null()).map(|word| serde_json::from_value(word.clone()).unwrap()).collect()
}

/// The words of an answer's actions.
fn actions_of(session: &Value) -> BTreeSet<String> {
    session["actions"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn page_api_and_plugin_offer_the_same_in_every_phase() {
    // No operator after the first moment: the test says where the instance stands.
    let mut world = World::start("dashboard-actions").await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    world.operator.kill();
    let made = world.apply("shop", json!({"owner": user(&world, "app")})).await;
    let status = format!("/api/v1/sessions/status/{}/", made.metadata.uid.unwrap());
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    let place = card(&rest, &token, "shop").await;
    browser.find(&place).await;
    let mut seen = BTreeSet::new();
    let phases = phases();
    assert!(phases.contains(&Phase::Connected) && phases.contains(&Phase::Terminating), "{phases:?}");
    for (phase, wish, paired, primary) in combinations(&phases) {
        let story = format!("{phase}, {wish} wished, paired {paired}, primary {primary}");
        stands(&world, phase, wish, paired, primary).await;
        let session = rest.get(&token, &status).await.data(200).clone();
        assert_eq!(session["phase"], phase.to_string(), "{story}");
        let said = actions_of(&session);
        shows(&browser, &place, &said, phase, primary, &story).await;
        if wish == "Connected" && paired && !primary {
            the_plugin_takes(&world, &rest, &said, &story).await;
        }
        seen.extend(said);
    }
    what_the_controller_says_is_shown(&world, &browser, &place).await;
    until_when_and_since_when(&world, &browser, &place).await;
    every_phase_is_looked_at(&world, &browser, &phases).await;
    // Renaming and deleting are kubectl's own.
    let known = OF_THE_PLUGIN.map(|(verb, _)| verb).into_iter().chain(["rename", "delete"]);
    assert_eq!(seen, known.map(str::to_owned).collect::<BTreeSet<_>>());
    browser.close().await;
}

/// Where the reason alone says little, the controller's own sentence is on the card, or what it says beyond the usual.
async fn what_the_controller_says_is_shown(world: &World, browser: &Browser, card: &str) {
    let begin = "A code waits for the phone: `kubectl whatsapp qr NAME` shows it.";
    for (phase, reason, said, shown) in [
        (
            "Pending",
            "Unknown",
            "The ledger of the owner is waited for.".to_owned(),
            "The ledger of the owner is waited for.",
        ),
        (
            "Terminating",
            "Terminating",
            "It stays until other finalizers go: x.".to_owned(),
            "It stays until other finalizers go: x.",
        ),
        (
            "AwaitingPairing",
            "AwaitingPairing",
            format!("{begin} The clocks differ."),
            "use it on your phone. The clocks differ.",
        ),
    ] {
        let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": said, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = Patch::Merge(json!({"status": {"phase": phase, "conditions": [ready]}}));
        world.instances().patch_status("shop", &PatchParams::default(), &status).await.unwrap();
        let is = "document.querySelector(arguments[0] + ' .advice')?.textContent.endsWith(arguments[1])";
        browser.until(&format!("{reason}: {shown}"), is, &[card.into(), shown.into()]).await;
    }
}

/// A restriction with its end; and of what is connected, when and why it last was not.
async fn until_when_and_since_when(world: &World, browser: &Browser, card: &str) {
    let (past, later) = ("2026-01-01T12:03:00Z", "2099-02-03T04:05:00Z");
    for (phase, ready, reason, says) in [
        ("Restricted", "False", "ReachoutTimelock", ["forbids this account to start new chats", "Until Feb 3, 2099"]),
        ("Connected", "True", "Known", ["Last disconnected: Jan 1, 2026", "WhatsApp could not be reached"]),
    ] {
        let ready = json!({"type": "Ready", "status": ready, "reason": reason, "message": "It says why.", "lastTransitionTime": past});
        let status = Patch::Merge(json!({"status": {
            "phase": phase, "conditions": [ready], "restriction": {"kind": "ReachoutTimelock", "expiresAt": later},
            "lastDisconnect": {"reason": "ServerUnreachable", "at": past},
        }}));
        world.instances().patch_status("shop", &PatchParams::default(), &status).await.unwrap();
        let is = "(text => arguments[1].every(part => text?.includes(part)))(document.querySelector(arguments[0] + ' .advice')?.textContent)";
        browser.until(&format!("{phase}: {says:?}"), is, &[card.into(), json!(says)]).await;
    }
}

/// An instance in each phase, with a reason for it, on one page: as cards and as a table.
async fn every_phase_is_looked_at(world: &World, browser: &Browser, phases: &[Phase]) {
    let past = "2026-01-01T00:00:00Z";
    for phase in phases {
        let name = phase.to_string().to_lowercase();
        let reason = match phase {
            Phase::Pending => "PairingQueued",
            Phase::Disconnected => "AccountLocked",
            Phase::Restricted => "ReachoutTimelock",
            Phase::Rejected => "NameTaken",
            Phase::BridgeUnavailable => "BridgeUnreachable",
            Phase::Reconnecting => "ConnectionLost",
            Phase::Terminating => "Unlinking",
            other => &other.to_string(),
        };
        world.apply(&name, json!({"name": format!("{phase}"), "owner": user(world, "app")})).await;
        let ready = if *phase == Phase::Connected { "True" } else { "False" };
        let ready = json!({"type": "Ready", "status": ready, "reason": reason, "message": "It says why.", "lastTransitionTime": past});
        let paired = !matches!(
            phase,
            Phase::Pending | Phase::AwaitingPairing | Phase::PairingExpired | Phase::LoggedOut | Phase::Unlinked
        );
        let status = json!({
            "phase": phase, "conditions": [ready], "phoneNumber": paired.then_some("+15550400777"),
            "lastDisconnect": {"reason": "ServerUnreachable", "at": past},
        });
        let patch = Patch::Merge(json!({ "status": status }));
        world.instances().patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    }
    // The first one is of the walk through the phases.
    let all = "document.querySelectorAll('.card').length === arguments[0] && document.body.textContent.includes('Unlock it on the phone')";
    browser.until("every phase is shown", all, &[(phases.len() + 1).into()]).await;
    browser.inspect("phases").await;
    // On a large screen they are all in one picture.
    for scheme in ["light", "dark"] {
        browser.look(Look { name: "large", size: (1900, 2000), scheme }).await;
        browser.keep_picture(&format!("phases-large-{scheme}")).await;
    }
    browser.look(LOOKS[0]).await;
    browser.press_button(".segments", "Table").await;
    browser.find("table").await;
    browser.inspect("phases-table").await;
    browser.press_button(".segments", "Cards").await;
}

/// The plugin's verbs by the API's; the first has to be asked before anything is changed.
const OF_THE_PLUGIN: [(&str, &[&str]); 6] = [
    ("qr", &["qr", "shop", "--once", "-o", "raw"]),
    ("set-primary", &["set-primary", "shop"]),
    ("refresh-qr", &["refresh", "shop"]),
    ("connect", &["connect", "shop"]),
    ("disconnect", &["disconnect", "shop"]),
    ("unlink", &["unlink", "shop"]),
];

/// The plugin does what is offered, by writing the wish; and refuses to make primary what is not connected.
async fn the_plugin_takes(world: &World, rest: &Rest, said: &BTreeSet<String>, story: &str) {
    for (verb, arguments) in OF_THE_PLUGIN {
        let offered = said.contains(verb);
        if offered || verb == "set-primary" {
            let output = ended(plugin(world, &world.kubeconfig, &rest.url, arguments)).await;
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(i32::from(!offered)), "{verb}: {story}: {error}");
        }
    }
}

/// Every combination of a phase, a wish, whether a device is linked, and whether it is the primary one.
fn combinations(phases: &[Phase]) -> impl Iterator<Item = (Phase, &'static str, bool, bool)> {
    let wishes = ["Connected", "Disconnected", "Unlinked"];
    let flags = [(false, false), (true, false), (true, true)];
    phases.iter().flat_map(move |phase| {
        wishes
            .into_iter()
            .flat_map(move |wish| flags.into_iter().map(move |(paired, primary)| (*phase, wish, paired, primary)))
    })
}

/// Plays the operator: the instance is in such a state.
async fn stands(world: &World, phase: Phase, wish: &str, paired: bool, primary: bool) {
    // Without what the plugin has wished before.
    let spec = Patch::Merge(json!({"spec": {"desiredState": wish, "primary": false}}));
    let wished = world.instances().patch("shop", &PatchParams::default(), &spec).await.unwrap();
    let (past, later) = ("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z");
    let condition = |kind: &str, is: bool| json!({"type": kind, "status": if is { "True" } else { "False" }, "reason": "Known", "message": "", "lastTransitionTime": past});
    let online = paired && phase == Phase::Connected;
    let has_code = phase == Phase::AwaitingPairing;
    let status = json!({
        "phase": phase, "primary": primary, "observedGeneration": wished.metadata.generation,
        "conditions": [condition("Paired", paired), condition("Connected", online), condition("Ready", online)],
        "qr": has_code.then(|| json!({"code": "2@x", "expiresAt": later, "attempt": 1, "attempts": 6})),
    });
    let patch = Patch::Merge(json!({ "status": status }));
    world.instances().patch_status("shop", &PatchParams::default(), &patch).await.unwrap();
}

/// The card has the buttons for these actions once the page has heard of the phase; it is told by the stream.
async fn shows(browser: &Browser, card: &str, said: &BTreeSet<String>, phase: Phase, primary: bool, story: &str) {
    // To whom is primary by default, wishing for it as well is not offered. Messages are no action of the API.
    let wanted: BTreeSet<&str> =
        said.iter().map(String::as_str).filter(|verb| !(primary && *verb == "set-primary")).collect();
    let good = phase == Phase::Connected;
    let script = "(card => { const offered = [...card.querySelectorAll('[data-verb]')]\
        .filter(one => one.getAttribute('aria-disabled') !== 'true').map(one => one.dataset.verb)\
        .concat(card.querySelector('.rename') ? ['rename'] : []).filter(verb => verb !== 'messages');\
        return offered.sort().join() === arguments[1] && card.matches('.is-good') === arguments[2]\
            && Boolean(card.querySelector('.badge')) === arguments[3]; })(document.querySelector(arguments[0]))";
    let wanted = wanted.into_iter().collect::<Vec<_>>().join(",");
    browser
        .until(&format!("{story}: {wanted}"), script, &[card.into(), wanted.into(), good.into(), primary.into()])
        .await;
}
