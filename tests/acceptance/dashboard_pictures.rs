//! The pictures that the README shows, taken of the real page: `make pictures`.

use std::path::Path;

use serde_json::json;
use whatsapp_operator::api::Phase;

use crate::{
    chart::ROOT,
    dashboard::{card, sign_in, start_browser},
    support::{
        gateway::{ALL_VERBS, Rest, account, user},
        world::{SOON, World, target_dir},
    },
};

/// An instance of this owner, linked to a phone.
async fn linked(world: &World, owner: &str, name: &str, shown: &str, phone: &str) {
    world.apply(name, json!({"name": shown, "owner": owner})).await;
    world.scan(name, phone).await;
    world.history.until_phase(name, Phase::Connected, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes the README's pictures: make pictures"]
async fn pictures_of_the_page() {
    let world = World::start("sales").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let owner = user(&world, "app");
    linked(&world, &owner, "business-account", "Business Account", "+15550112233").await;
    linked(&world, &owner, "support", "Support", "+15550112244").await;
    world.apply("personal", json!({"name": "Personal", "owner": owner})).await;
    let id = async |name: &str| {
        let list = rest.get(&token, "/api/v1/sessions/list/").await.data(200)["sessions"].clone();
        list.as_array().unwrap().iter().find(|one| one["object"] == name).unwrap()["id"].clone()
    };
    let (business, support) = (id("business-account").await, id("support").await);
    let send = async |session: &serde_json::Value, to: &str, text: &str, wait: &str| {
        let body = json!({"session_id": session, "recipient": to, "message": text});
        rest.call(&token, "POST", &format!("/api/v1/messages/send/{wait}"), body).await
    };
    world.patch_spec("support", json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase("support", Phase::Disconnected, SOON).await;
    for text in ["Your ticket has been answered.", "We are back at nine."] {
        send(&support, "+15550119900", text, "").await.data(202);
    }
    let browser = start_browser(&world.dir).await;
    sign_in(&browser, &rest, &token, "/dashboard").await;
    browser.until_within(SOON, "two wait", "document.body.textContent.includes('2 messages waiting')", &[]).await;
    world.qr("personal").await;
    browser.find(".card [data-verb='qr']").await;
    browser.inspect("readme-cards").await;

    let personal = card(&rest, &token, "Personal").await;
    browser.press(&format!("{personal} [data-verb='qr']")).await;
    browser.find(".qr-picture").await;
    browser.inspect("readme-qr").await;
    browser.escape().await;
    browser.until_gone("dialog").await;

    let shop = card(&rest, &token, "Business Account").await;
    browser.press(&format!("{shop} [data-verb='messages']")).await;
    send(&business, "+15550119901", "Your order 4711 is on its way 📦", "?wait=20").await.data(200);
    browser.find(".message.is-delivered").await;
    world.whatsapp.read("+15550119901").await;
    browser.find(".message.is-read").await;
    send(&business, "+15550119902", "Your table for four is booked, tonight at eight.", "?wait=20").await.data(200);
    browser
        .until_within(SOON, "both arrived", "document.querySelectorAll('.message.is-delivered').length === 1", &[])
        .await;
    world.patch_spec("business-account", json!({"desiredState": "Disconnected"})).await;
    browser.find("dialog .note [data-verb='connect']").await;
    send(&business, "+15550119903", "The parcel can be collected until Friday.", "").await.data(202);
    browser.find(".message.is-queued").await;
    browser.inspect("readme-messages").await;
    browser.close().await;

    let keep = Path::new(ROOT).join("docs/pictures");
    for picture in ["cards-desktop-light", "cards-desktop-dark", "qr-desktop-light", "messages-desktop-light"] {
        let from = target_dir().join("screenshots").join(format!("readme-{picture}.png"));
        std::fs::copy(from, keep.join(format!("{picture}.png"))).unwrap();
    }
}
