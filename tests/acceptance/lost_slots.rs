//! Creates that are admitted and fail afterwards: what they reserved is free again after a minute, and meanwhile nobody
//! else goes short.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use whatsapp_operator::{
    api::{WhatsAppInstance, WhatsAppOwner},
    rules::{RESERVATION, owner::object_name},
};

use crate::support::{
    webhooks::{status, until_asked},
    world::{SOON, Wishes, World, create_namespace},
};

const LIMIT: usize = 3;

struct Setting {
    world: World,
    /// A namespace whose quota takes no instance.
    full: String,
}

impl Setting {
    async fn start() -> Self {
        let limit = LIMIT.to_string();
        let wishes = Wishes { webhooks: true, ..Wishes::of_operator(&["--max-instances-per-owner", &limit]) };
        let mut world = World::start_with("lost-slots", wishes).await;
        let full = "lost-slots-full".to_owned();
        create_namespace(&world.client, &full).await;
        let labels = json!({"metadata": {"labels": {"world": world.name}}});
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
        namespaces.patch(&full, &PatchParams::default(), &Patch::Merge(labels)).await.unwrap();
        // No controller manager counts here, so the test says what it would.
        let none = json!({"count/whatsappinstances.whatsapp-operator.dev": "0"});
        let quota =
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": none}});
        let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &full);
        quotas.patch("none", &PatchParams::apply("test").force(), &Patch::Apply(quota)).await.unwrap();
        let counted = Patch::Merge(json!({"status": {"hard": none, "used": none}}));
        quotas.patch_status("none", &PatchParams::default(), &counted).await.unwrap();
        world.operator.stop();
        world.operator.set("--watch-namespaces", format!("{},{full}", world.name));
        world.restart_operator().await;
        until_asked(&world.instances(), &world.probe()).await;
        Self { world, full }
    }

    fn owner(&self, who: &str) -> String {
        format!("{who}@{}", self.world.name)
    }

    /// A create by an administrator, who may name any owner; the reason and sentence of the refusal.
    async fn create(&self, namespace: &str, name: &str, who: &str) -> Result<(), String> {
        let object = json!({
            "metadata": {"name": name},
            "spec": {"name": format!("{who} {name}"), "owner": self.owner(who), "bridgeRef": {"name": "none-of-them"}},
        });
        let api: Api<WhatsAppInstance> = Api::namespaced(self.world.client.clone(), namespace);
        let created = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
        created.map(drop).map_err(|error| {
            let status = status(error);
            format!("{}: {}", status.reason, status.message)
        })
    }

    /// Tries every name once; what the refusals say.
    async fn all_fail(&self, namespace: &str, who: &str, names: &[&str]) -> String {
        let mut said = String::new();
        for name in names {
            said.push_str(&self.create(namespace, name, who).await.unwrap_err());
        }
        said
    }

    async fn used(&self, who: &str) -> i64 {
        let owners: Api<WhatsAppOwner> = Api::all(self.world.client.clone());
        let owner = owners.get_opt(&object_name(&self.owner(who))).await.unwrap();
        owner.and_then(|owner| owner.status).map_or(0, |status| status.used)
    }

    /// Until the owner's ledger says so.
    async fn until_used(&self, who: &str, used: i64) {
        let reached = async {
            while self.used(who).await != used {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let late = tokio::time::timeout(RESERVATION + SOON, reached).await.is_err();
        assert!(!late, "{who} uses {} and not {used}", self.used(who).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_that_fail_after_they_were_admitted_starve_nobody_and_are_forgotten_after_a_minute() {
    let setting = Setting::start().await;
    let (here, names) = (setting.world.name.clone(), ["one", "two", "three"]);
    for name in names {
        setting.create(&here, name, "bob").await.unwrap();
    }
    setting.until_used("bob", 3).await;

    // For alice, somebody creates what exists already and is bob's; for dave, what a native quota refuses. Both over and over.
    for round in 0..5 {
        let said = setting.all_fail(&here, "alice", &names).await;
        assert!(said.contains("AlreadyExists") || said.contains("LimitExceeded"), "{round}: {said}");
        let said = setting.all_fail(&setting.full, "dave", &["a", "b", "c"]).await;
        assert!(said.contains("exceeded quota"), "{round}: {said}");
        // Nobody else notices.
        setting.create(&here, &format!("carol-{round}"), &format!("carol-{round}")).await.unwrap();
    }
    let since = Instant::now();
    let refusal = setting.create(&here, "alices", "alice").await.unwrap_err();
    assert!(refusal.contains("LimitExceeded"), "{refusal}");
    assert_eq!(setting.used("bob").await, 3, "what is his stays his");

    // The controller sweeps by itself, and then there is room again.
    setting.until_used("alice", 0).await;
    setting.until_used("dave", 0).await;
    let swept = since.elapsed();
    assert!(swept < RESERVATION + SOON, "{swept:?}");
    for name in ["x", "y", "z"] {
        setting.create(&here, &format!("alice-{name}"), "alice").await.unwrap();
        setting.create(&here, &format!("dave-{name}"), "dave").await.unwrap();
    }
    setting.until_used("bob", 3).await;
    for name in names {
        let owner = setting.world.instances().get(name).await.unwrap().spec.owner;
        assert_eq!(owner.as_deref(), Some(setting.owner("bob").as_str()));
    }
}
