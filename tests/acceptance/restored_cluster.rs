//! A cluster that is restored from a backup of etcd while operator and gateway live on: it counts its versions from an earlier one, and
//! to a watch that asks for what came after a later one the API server says nothing at all, until it has counted that far.

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use whatsapp_operator::api::Phase;

use crate::support::{
    control_plane::{ControlPlane, Options},
    gateway::{Rest, until},
    history::Ask,
    world::{ALONE, SOON, Wishes, World, target_dir},
};

/// What the programs watch.
const OPERATORS: [&str; 4] = ["WhatsAppInstance", "WhatsAppOwner", "WhatsAppBridge", "Namespace"];
const GATEWAYS: [&str; 1] = ["WhatsAppInstance"];

/// A way to an API server, which can be cut and lead to another one.
struct Way {
    url: String,
    to: watch::Sender<Option<SocketAddr>>,
}

impl Way {
    async fn to(plane: &ControlPlane) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let to = watch::Sender::new(Some(address(plane)));
        let leads = to.subscribe();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut leads = leads.clone();
                let Some(there) = *leads.borrow_and_update() else { continue };
                tokio::spawn(async move {
                    let Ok(mut there) = TcpStream::connect(there).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut there) => {}
                        _ = leads.changed() => {}
                    }
                });
            }
        });
        Self { url, to }
    }
}

fn address(plane: &ControlPlane) -> SocketAddr {
    plane.url().trim_start_matches("https://").parse().unwrap()
}

/// So many versions of objects pass.
async fn time_passes(world: &World, versions: usize) {
    let api: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.name);
    for _ in 0..versions {
        let metadata = ObjectMeta { generate_name: Some("version-".to_owned()), ..ObjectMeta::default() };
        api.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_restored_from_a_backup_is_seen_as_it_is() {
    let plane = ControlPlane::start(&Options::default()).await.unwrap();
    let way = Way::to(&plane).await;
    let dir = target_dir().join("acceptance/restored-cluster-way");
    std::fs::create_dir_all(&dir).unwrap();
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(plane.kubeconfig()).unwrap()).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!(way.url);
    let kubeconfig = dir.join("kubeconfig");
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let wishes = Wishes { kubeconfig: Some(kubeconfig.clone()), ..Wishes::of_operator(&[ALONE]) };
    let world = World::start_with("restored-cluster", wishes).await;
    let rest = Rest::start_as(&dir, &kubeconfig, &world.name, &[]).await;
    let sees = async |uid: &str| {
        let answer = rest.get(plane.token(), &format!("/api/v1/sessions/status/{uid}/")).await;
        assert!([200, 404].contains(&answer.status), "{}", answer.body);
        answer.status == 200
    };

    let kept = world.apply("kept", json!({"owner": "anna"})).await.uid().unwrap();
    let code = world.qr("kept").await;
    until("the gateway sees it", async || sees(&kept).await).await;
    let backup = plane.restored().await.unwrap();
    world.delete("kept").await;
    world.history.until_gone("kept", SOON).await;
    let late = world.apply("late", json!({"owner": "anna"})).await.uid().unwrap();
    world.history.until_phase("late", Phase::AwaitingPairing, SOON).await;
    until("the gateway sees what is there", async || sees(&late).await && !sees(&kept).await).await;
    time_passes(&world, 300).await;
    let mut events = rest.follow(plane.token(), "?owner=*", None).await;
    events.until("ready", |event| event.kind == "ready").await;

    // No API server until all watches have noticed; then that of the backup.
    way.to.send_replace(None);
    for (program, kinds) in [(&world.operator, &OPERATORS[..]), (&rest.program, &GATEWAYS)] {
        until("the watches fail", async || {
            let log = program.log();
            let broken = |kind: &str| log.lines().any(|line| line.contains("(Connect)") && line.contains(kind));
            kinds.iter().all(|kind| broken(&format!("\"kind\":\"{kind}\"")))
        })
        .await;
    }
    way.to.send_replace(Some(address(&backup)));
    until("the gateway sees what was restored", async || sees(&kept).await && !sees(&late).await).await;
    let instances = world.instances();
    events.until("a reset", |event| event.kind == "reset").await;
    let (told, _) = events.until("ready", |event| event.kind == "ready").await;
    let names: Vec<_> = told.iter().map(|event| event.data["session"]["instance_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["kept"], "who follows events is told what there is");
    until("the operator brings it up again", async || {
        let found = tokio::time::timeout(Duration::from_secs(5), instances.get("kept")).await;
        found.is_ok_and(|found| found.is_ok_and(|found| found.qr().is_some_and(|shown| shown != code)))
    })
    .await;
    // What is created from now on is seen as well.
    let next = world.apply("next", json!({"owner": "anna"})).await.uid().unwrap();
    until("the gateway sees what is new", async || sees(&next).await).await;
    until("the operator sees it", async || instances.get("next").await.is_ok_and(|found| found.qr().is_some())).await;
}
