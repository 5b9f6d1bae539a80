//! A cluster that has no IPv4: API server, webhooks, bridge, gateway and WhatsApp are reached by IPv6 and by nothing else.

use std::net::TcpListener;

use serde_json::json;
use tokio::process::Command;
use whatsapp_operator::api::Phase;

use crate::{
    gateway::named,
    gateway_messages::{connected, send, until_primary},
    support::{
        control_plane::{ControlPlane, Options},
        gateway::{ALL_VERBS, Rest, account},
        program::executable,
        world::{SOON, Wishes, World, by_ipv6},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_linked_and_sends_where_there_is_only_ipv6() {
    TcpListener::bind("[::1]:0")
        .expect("this machine has no ::1, which the test needs: switch IPv6 on for its loopback interface");
    let (phone, friend) = ("+15550470001", "+15550470901");
    let plane = ControlPlane::start(&Options { ipv6: true, ..Options::default() }).await;
    let plane = plane.unwrap_or_else(|error| panic!("{error}"));
    let kubeconfig = Some(plane.kubeconfig());
    let mut world =
        World::start_with("ipv6", Wishes { webhooks: true, kubeconfig, ipv6: true, ..Wishes::default() }).await;
    // As in pods: the address that all of them have by default.
    let mut rest = Rest::start_changed(&world, &[], |mut program| {
        program.set("--listen", ":0");
        program.set("--admin-listen", ":0");
        program
    })
    .await;
    let announced = rest.url.clone();
    (rest.url, rest.admin) = (by_ipv6(&rest.url), by_ipv6(&rest.admin));
    let token = account(&world, "app", ALL_VERBS).await;

    let id = connected(&world, &rest, &token, "Six", phone).await;
    until_primary(&rest, &token, &id).await;
    let body = json!({"recipient": friend, "message": "By IPv6"});
    let sent = send(&rest, &token, "/api/v1/messages/send/?wait=30", &body, None).await.data(200).clone();
    assert!(["sent", "delivered"].contains(&sent["status"].as_str().unwrap()), "{}", sent["status"]);
    // The webhooks refuse, hence they are asked.
    let twice = rest.call(&token, "POST", "/api/v1/sessions/init/", named(&world, "Six")).await;
    assert_eq!(twice.status, 409, "{}", twice.body);

    // What the kubelet asks, and by IPv4 too where there is both.
    for admin in [&rest.admin, &world.bridge_address.admin, &world.operator_address.admin] {
        for url in [admin.clone(), admin.replace("[::1]", "127.0.0.1")] {
            let ready = reqwest::get(format!("{url}/readyz")).await.unwrap();
            assert_eq!(ready.status(), 200, "{url}");
        }
    }
    assert_eq!(reqwest::get(announced).await.unwrap().status(), reqwest::get(&rest.url).await.unwrap().status());

    // A connection that is made anew, and a person's own program.
    let status = rest.get(&token, &format!("/api/v1/sessions/status/{id}/")).await.data(200).clone();
    let object = status["object"].as_str().unwrap();
    world.bridge.kill();
    world.history.until_phase(object, Phase::BridgeUnavailable, SOON).await;
    world.restart_bridge().await;
    world.bridge_address.admin = by_ipv6(&world.bridge_address.admin);
    world.history.until_phase(object, Phase::Connected, SOON * 2).await;
    let mut plugin = Command::new(executable("kubectl-whatsapp"));
    plugin.args(["list", "--namespace", &world.name, "--kubeconfig"]).arg(&world.kubeconfig).env_remove("KUBECONFIG");
    let listed = tokio::time::timeout(SOON, plugin.output()).await.expect("it ends").unwrap();
    assert!(listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("Connected"), "{listed:?}");
    rest.nothing_leaked(&world, &[phone, friend], &[&token]).await;
    world.nothing_leaked(&[phone, friend]).await;
}
