//! The recipient has a linked device that runs neither our software nor WhatsApp's: a stock Baileys reads what the bridge sends, once, and what
//! it cannot read is sent again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    bridge::Bench,
    messages::id,
    support::{stock_client::StockClient, world::SOON},
};

const SENDER: &str = "+15550003051";
const FRIEND: &str = "+15550003951";

/// A Baileys that is linked to this phone.
async fn linked(bench: &Bench, phone: &str) -> StockClient {
    let mut client = StockClient::baileys(&bench.whatsapp.url);
    client.tell("connect").await;
    let code = client.wait("qr").await["code"].clone();
    bench.whatsapp.scan(code.as_str().unwrap(), phone, "Bob").await.unwrap();
    client.wait("connected").await;
    client
}

/// The next message that this client reads is this one.
async fn reads(client: &mut StockClient, id: &str, text: &str) {
    let message = client.wait("message").await;
    assert_eq!((&message["id"], &message["text"]), (&json!(id), &json!(text)));
}

/// Waits until a message of the bridge's has this time.
async fn until_time(bench: &Bench, message: &str, field: &str) -> Value {
    let search = async {
        loop {
            let found = bench.message("a", message).await;
            if found[field].is_string() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, search).await.unwrap_or_else(|_| panic!("{message} never gets {field}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_device_of_the_recipient_reads_a_message_once_says_so_and_answers() {
    let bench = Bench::start("linked-devices", &[]).await;
    bench.sender("a", SENDER).await;
    let mut friend = linked(&bench, FRIEND).await;
    // The phone itself is silent: what is known of these messages is known from the linked device.
    bench.whatsapp.rules(FRIEND, json!({"receipts": {"delivered": false}})).await;
    let text = "Grüße — with an emoji 👋, \"quotes\" and a \\";
    bench.accepted("a", &id(1), FRIEND, text).await;
    reads(&mut friend, &id(1), text).await;
    let sent = until_time(&bench, &id(1), "companionDeliveredAt").await;
    assert_eq!((&sent["state"], sent["deliveredAt"].is_null()), (&json!("Sent"), true));
    friend.tell("read").await;
    bench.until_message("a", &id(1), &["Read"]).await;

    bench.whatsapp.rules(FRIEND, json!({})).await;
    bench.accepted("a", &id(2), FRIEND, "And the phone has this one, too").await;
    reads(&mut friend, &id(2), "And the phone has this one, too").await;
    bench.until_message("a", &id(2), &["Delivered"]).await;
    until_time(&bench, &id(2), "companionDeliveredAt").await;

    friend.tell(&format!("send {SENDER} An answer")).await;
    let answer = friend.wait("sent").await["id"].clone();
    let confirmed = async {
        while !bench.whatsapp.written(SENDER).await.iter().any(|one| one.id == answer && !one.receipts.is_empty()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, confirmed).await.expect("the bridge's device confirms what Baileys wrote");
    let written = bench.whatsapp.written(SENDER).await;
    assert!(written.iter().all(|one| !one.receipts.contains(&"retry".to_owned())), "{written:?}");
    bench.nothing_leaked(&[SENDER, FRIEND, "with an emoji", "And the phone has", "An answer"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_linked_device_cannot_read_is_sent_again_also_by_a_bridge_that_was_killed_meanwhile() {
    const RETRIER: &str = "+15550003052";
    const FORGETFUL: &str = "+15550003952";
    let mut bench = Bench::start("linked-devices-again", &[]).await;
    bench.sender("a", RETRIER).await;
    let mut friend = linked(&bench, FORGETFUL).await;
    // An answer makes it a session that both sides know, in which nothing can be read without it.
    bench.accepted("a", &id(1), FORGETFUL, "The first").await;
    reads(&mut friend, &id(1), "The first").await;
    friend.tell(&format!("send {RETRIER} The answer")).await;
    friend.wait("sent").await;

    // It asks with its keys once it asked without.
    for (number, kinds) in [(2, &["session"][..]), (3, &["session", "pre-key"])] {
        for kind in kinds {
            friend.tell(&format!("forget {kind}")).await;
            friend.wait("forgotten").await;
        }
        let text = format!("Lost were {kinds:?}");
        bench.accepted("a", &id(number), FORGETFUL, &text).await;
        assert_eq!(friend.wait_for_one_of(&["undecryptable", "message"]).await["event"], "undecryptable");
        reads(&mut friend, &id(number), &text).await;
        until_time(&bench, &id(number), "companionDeliveredAt").await;
    }

    // And one that comes to a message only when the bridge that sent it is gone.
    friend.tell("disconnect").await;
    friend.wait("away").await;
    friend.tell("forget session").await;
    bench.accepted("a", &id(4), FORGETFUL, "While you were away").await;
    bench.until_message("a", &id(4), &["Delivered"]).await;
    bench.bridge.kill();
    friend.tell("connect").await;
    assert_eq!(friend.wait_for_one_of(&["undecryptable", "message"]).await["event"], "undecryptable");
    bench.address = bench.bridge.start().await;
    reads(&mut friend, &id(4), "While you were away").await;
    until_time(&bench, &id(4), "companionDeliveredAt").await;

    // Nothing came twice: the next that comes is the next message.
    bench.accepted("a", &id(5), FORGETFUL, "The last").await;
    assert_eq!(friend.wait_for_one_of(&["undecryptable", "message"]).await["text"], "The last");
    bench.nothing_leaked(&[RETRIER, FORGETFUL, "The first", "Lost were", "While you were", "The last"]).await;
}
