//! Keys that are lost while the bridge is down: the session says so and is linked anew.

use std::fs;

use whatsapp_operator::api::{
    Phase,
    conditions::{PAIRED, reason},
};

use crate::support::{
    history::Ask,
    world::{SOON, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn lost_keys_are_told_and_healed_by_a_scan_and_do_not_hold_a_deletion() {
    let mut world = World::start("lost-keys").await;
    let phones = ["+15550008301", "+15550008302", "+15550008303", "+15550008304"];
    let names = ["deleted", "emptied", "garbage", "truncated"];
    for (name, phone) in names.iter().zip(phones) {
        world.connected(name, phone).await;
    }
    world.bridge.stop();
    for name in names {
        let instance = world.history.of(name).pop().unwrap().instance.unwrap();
        let folders = world.key_files(&instance);
        let inside = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path());
        let files: Vec<_> = inside.filter(|path| path.is_file()).collect();
        assert!(!files.is_empty(), "the session has keys");
        for file in files {
            let whole = fs::read(&file).unwrap();
            match name {
                "deleted" => fs::remove_file(&file).unwrap(),
                "emptied" => fs::write(&file, b"").unwrap(),
                "garbage" => fs::write(&file, vec![b'x'; whole.len().max(4096)]).unwrap(),
                _ => fs::write(&file, &whole[..whole.len() / 2]).unwrap(),
            }
        }
    }
    world.restart_bridge().await;
    for (name, phone) in names.iter().zip(phones).skip(1) {
        let lost =
            |i: &whatsapp_operator::api::WhatsAppInstance| i.qr().is_some() && i.reason(PAIRED) == reason::SESSION_LOST;
        world.history.until(name, "lost, and showing a code", SOON, lost).await;
        world.scan(name, phone).await;
        world.history.until_phase(name, Phase::Connected, SOON).await;
    }
    // Nobody could unlink a device whose keys are gone; that must not hold the object.
    world.history.until("deleted", "lost", SOON, |i| i.reason(PAIRED) == reason::SESSION_LOST).await;
    world.delete("deleted").await;
    world.history.until_gone("deleted", SOON).await;
    world.nothing_leaked(&phones).await;
}
