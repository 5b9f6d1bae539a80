//! Keys that are older than what they were last used for: the machine under a bridge went down, or its volume was restored from a
//! snapshot. Recipients drop what is encrypted with numbers that were used before, without a word.

use std::{fs, ops::RangeInclusive, path::Path};

use serde_json::json;

use crate::{bridge::Bench, messages::id, moved_volumes};

/// The files in `from`, as they are, instead of those in `to`.
fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    moved_volumes::copy(from, to);
}

impl Bench {
    /// These messages are written to `friend`, whose phone says that it has them.
    async fn delivers(&self, friend: &str, numbers: RangeInclusive<usize>) {
        for number in numbers.clone() {
            self.accepted("a", &id(number), friend, &format!("Number {number}")).await;
        }
        for number in numbers {
            self.until_message("a", &id(number), &["Delivered"]).await;
        }
    }

    /// The phone of `friend` has these messages, each once.
    async fn has_delivered(&self, friend: &str, numbers: impl Iterator<Item = usize>) {
        let inbox = self.whatsapp.inbox(friend).await;
        let found: Vec<_> = inbox.iter().map(|message| (message.text.as_str(), message.count)).collect();
        let texts: Vec<_> = numbers.map(|number| format!("Number {number}")).collect();
        assert_eq!(found, texts.iter().map(|text| (text.as_str(), 1)).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_after_the_machine_went_down_is_read() {
    let (sender, friend) = ("+15550003061", "+15550003961");
    let mut bench = Bench::start("machine-went-down", &[]).await;
    bench.sender("a", sender).await;
    bench.delivers(friend, 1..=2).await;
    bench.bridge.kill();
    let (keys, on_the_disk) = (bench.dir.join("bridge/sessions/a"), bench.dir.join("on-the-disk"));
    copy(&keys, &on_the_disk);
    bench.address = bench.bridge.start().await;
    bench.delivers(friend, 3..=5).await;
    bench.bridge.kill();

    // The machine starts again. The bridge's own tables wait for the disk and have everything; of the keys there is what was on the disk
    // before the last three messages.
    copy(&on_the_disk, &keys);
    let note = keys.join("in-use");
    assert!(note.is_file(), "nothing tells that the keys were in use");
    fs::write(note, "another start").unwrap();
    bench.address = bench.bridge.start().await;
    bench.delivers(friend, 6..=8).await;
    bench.has_delivered(friend, 1..=8).await;
    bench.nothing_leaked(&[sender, friend, "Number"]).await;
}

/// A phone could not read what was sent to it and asks for it again, by its number and by its linked id, when the machine under the bridge
/// was down in between. The numbers are those written to, and the same as WhatsApp has them.
async fn is_sent_again(name: &str, sender: &str, friends: [(&str, &str); 2]) {
    let mut bench = Bench::start(name, &[]).await;
    bench.sender("a", sender).await;
    let (keys, on_the_disk) = (bench.dir.join("bridge/sessions/a"), bench.dir.join("on-the-disk"));
    for (number, ((written, friend), address)) in friends.into_iter().zip(["pn", "lid"]).enumerate() {
        let text = format!("Asked for by {address}");
        // It has been written to before, and asks for the next message once the bridge is gone.
        bench.accepted("a", &id(number * 2), written, "Before").await;
        bench.until_message("a", &id(number * 2), &["Delivered"]).await;
        bench.bridge.kill();
        copy(&keys, &on_the_disk);
        bench.address = bench.bridge.start().await;
        let late = json!({"retry": {"times": 1}, "receipts": {"address": address, "afterMs": 5000}});
        bench.whatsapp.rules(friend, late).await;
        bench.accepted("a", &id(number * 2 + 1), written, &text).await;
        bench.until_message("a", &id(number * 2 + 1), &["Sent"]).await;
        bench.bridge.kill();

        // The file of keys never heard of the message.
        copy(&on_the_disk, &keys);
        fs::write(keys.join("in-use"), "another start").unwrap();
        bench.address = bench.bridge.start().await;
        bench.until_message("a", &id(number * 2 + 1), &["Delivered"]).await;
        let inbox = bench.whatsapp.inbox(friend).await;
        let lines: Vec<_> = inbox.iter().map(|line| (&*line.text, line.count, line.retries)).collect();
        assert_eq!(lines, [("Before", 1, 0), (&*text, 1, 1)]);
        bench.nothing_leaked(&[sender, written, friend, "Asked for"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_phone_could_not_read_is_sent_again_after_the_machine_went_down() {
    let friends = [("+15550003963", "+15550003963"), ("+15550003964", "+15550003964")];
    is_sent_again("asked-again-later", "+15550003063", friends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_where_whatsapp_has_the_number_in_another_form() {
    // Brazil: written with the ninth digit, and kept without.
    let friends = [("+5511987653965", "+551187653965"), ("+5511987653966", "+551187653966")];
    is_sent_again("asked-again-in-brazil", "+15550003064", friends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_from_a_restored_volume_is_read() {
    let (sender, friend) = ("+15550003062", "+15550003962");
    let mut bench = Bench::start("restored-volume", &["--place", "shop/bridge-0"]).await;
    bench.sender("a", sender).await;
    bench.delivers(friend, 1..=2).await;
    let (volume, snapshot) = (bench.dir.join("bridge"), bench.dir.join("snapshot"));
    bench.bridge.stop();
    copy(&volume, &snapshot);
    bench.address = bench.bridge.start().await;
    bench.delivers(friend, 3..=5).await;
    bench.bridge.stop();

    copy(&snapshot, &volume);
    bench.bridge.add(["--adopt-data"]);
    bench.address = bench.bridge.start().await;
    // Nothing is known of the messages in between any more, so their numbers are free.
    bench.delivers(friend, 6..=8).await;
    bench.has_delivered(friend, 1..=8).await;
}
