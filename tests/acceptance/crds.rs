//! The schemas as a real API server enforces them: what is good gets in, and every refusal says what must be.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use whatsapp_operator::api::{WhatsAppBridge, WhatsAppInstance, WhatsAppOwner};

use crate::support::world::{cluster, create_namespace};

async fn apply(client: &Client, kind: &ApiResource, object: Value) -> Result<DynamicObject, String> {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
        None => Api::all_with(client.clone(), kind),
    };
    let mut object = object;
    object["apiVersion"] = kind.api_version.clone().into();
    object["kind"] = kind.kind.clone().into();
    let answer = api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await;
    answer.map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    })
}

struct Instances {
    client: Client,
}

impl Instances {
    async fn in_namespace(namespace: &str) -> Self {
        let (client, _) = cluster().await;
        create_namespace(&client, namespace).await;
        Self { client }
    }

    async fn apply(&self, name: &str, spec: Value) -> Result<DynamicObject, String> {
        let kind = ApiResource::erase::<WhatsAppInstance>(&());
        let object = json!({"metadata": {"name": name, "namespace": "schema"}, "spec": spec});
        apply(&self.client, &kind, object).await
    }

    async fn accepts(&self, name: &str, spec: Value) {
        self.apply(name, spec.clone()).await.unwrap_or_else(|error| panic!("{spec} is refused: {error}"));
    }

    async fn rejects(&self, name: &str, spec: Value, with: &str) {
        match self.apply(name, spec.clone()).await {
            Ok(_) => panic!("{spec} is accepted; it should be refused with {with:?}"),
            Err(error) => assert!(error.contains(with), "{spec} is refused with {error:?}, not {with:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_checked_by_their_schema() {
    let instances = Instances::in_namespace("schema").await;
    instances.accepts("least", json!({"name": "Sales"})).await;
    let full = json!({
        "name": "Business Account", "owner": "alice@example.com", "primary": true, "desiredState": "Disconnected",
        "bridgeRef": {"name": "builtin"}, "deletionPolicy": "Forget",
        "pairing": {"method": "Code", "phoneNumber": "+15551234567", "autoRefresh": true},
    });
    instances.accepts("full", full.clone()).await;

    instances.rejects("bad", json!({}), "spec.name: Required value").await;
    instances.rejects("bad", json!({"name": ""}), "should be at least 1 chars long").await;
    instances.rejects("bad", json!({"name": " \t "}), "spec.name must not be blank").await;
    instances.rejects("bad", json!({"name": "x".repeat(101)}), "Too long: may not be more than 100").await;
    instances.rejects("bad", json!({"name": "x", "owner": ""}), "should be at least 1 chars long").await;
    let running = json!({"name": "x", "desiredState": "Running"});
    instances.rejects("bad", running, "supported values: \"Connected\", \"Disconnected\"").await;
    let code = json!({"name": "x", "pairing": {"method": "Code"}});
    instances.rejects("bad", code, "spec.pairing.phoneNumber must be set when spec.pairing.method is Code").await;
    let number = json!({"name": "x", "pairing": {"phoneNumber": "555-1234"}});
    instances.rejects("bad", number, "should match '^\\+[1-9][0-9]{6,14}$'").await;
    let policy = json!({"name": "x", "deletionPolicy": "Delete"});
    instances.rejects("bad", policy, "supported values: \"Unlink\", \"Forget\"").await;

    let mut other = full.clone();
    other["owner"] = json!("bob@example.com");
    instances.rejects("full", other, "spec.owner must not change").await;
    let mut none = full.clone();
    none.as_object_mut().unwrap().remove("owner");
    instances.rejects("full", none, "spec.owner must not be removed").await;
    let mut moved = full.clone();
    moved["bridgeRef"]["name"] = json!("other");
    instances.rejects("full", moved, "spec.bridgeRef must not change").await;
    let mut unbound = full.clone();
    unbound.as_object_mut().unwrap().remove("bridgeRef");
    instances.rejects("full", unbound, "spec.bridgeRef must not be added or removed").await;
    // An owner may be filled in later: that is what defaulting does for objects from before.
    instances.accepts("least", json!({"name": "Sales", "owner": "alice@example.com"})).await;

    let api: Api<WhatsAppInstance> = Api::namespaced(instances.client.clone(), "schema");
    let hers = api.list(&ListParams::default().fields("spec.owner=alice@example.com")).await.unwrap();
    assert_eq!(hers.items.len(), 2, "spec.owner can be selected");
    let defaulted = api.get("least").await.unwrap().spec;
    assert_eq!(serde_json::to_value(&defaulted).unwrap()["desiredState"], "Connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn bridges_and_owners_are_checked_by_their_schemas() {
    let (client, _) = cluster().await;
    let bridge = |spec: Value| {
        let client = client.clone();
        async move {
            let kind = ApiResource::erase::<WhatsAppBridge>(&());
            let name = format!("schema-{:08x}", fastrand::u32(..)); // each a new object: nothing to merge with
            apply(&client, &kind, json!({"metadata": {"name": name}, "spec": spec})).await.map(drop)
        }
    };
    let secret = json!({"namespace": "whatsapp", "name": "bridge"});
    let shard = |name: &str, url: &str| json!({"name": name, "url": url});
    let with = |shards: Value| json!({"builtin": {"shards": shards}, "credentialsSecretRef": secret});
    let refused = |result: Result<(), String>, with: &str| {
        let error = result.expect_err(with);
        assert!(error.contains(with), "{error:?} does not say {with:?}");
    };

    bridge(with(json!([shard("a", "https://bridge-0.example:8443"), shard("b", "http://127.0.0.1:1")]))).await.unwrap();
    refused(bridge(json!({ "credentialsSecretRef": secret })).await, "spec must set exactly one of: builtin");
    refused(
        bridge(json!({"builtin": {"shards": [shard("a", "http://a")]}})).await,
        "credentialsSecretRef: Required value",
    );
    refused(bridge(with(json!([]))).await, "should have at least 1 items");
    refused(bridge(with(json!([shard("a", "ftp://a")]))).await, "url must be an http or https URL");
    for secret in ["https://user:pass@a:8443", "http://user@a/", "https://:pass@a?x", "https://@a"] {
        refused(bridge(with(json!([shard("a", secret)]))).await, "url must not hold a user or a password");
    }
    bridge(with(json!([shard("a", "https://a/path@b?mail=c@d")]))).await.unwrap();
    refused(bridge(with(json!([shard("A b", "http://a")]))).await, "should match");
    refused(
        bridge(with(json!([shard("a", "http://a"), shard("a", "http://b")]))).await,
        "duplicate entries for key [name=\"a\"]",
    );
    let mut picky = with(json!([shard("a", "http://a")]));
    picky["allowedNamespaces"] = json!({"from": "Selector"});
    refused(bridge(picky).await, "allowedNamespaces.selector must be set when allowedNamespaces.from is Selector");
    let mut full = with(json!([shard("a", "http://a")]));
    full["capacity"] = json!({"sessionsPerShard": 0});
    refused(bridge(full).await, "should be greater than or equal to 1");

    let owner = |spec: Value| {
        let client = client.clone();
        async move {
            let kind = ApiResource::erase::<WhatsAppOwner>(&());
            apply(&client, &kind, json!({"metadata": {"name": "schema"}, "spec": spec})).await.map(drop)
        }
    };
    owner(json!({"owner": "alice@example.com", "maxInstances": 20})).await.unwrap();
    refused(owner(json!({"owner": "bob@example.com"})).await, "spec.owner must not change");
    refused(
        owner(json!({"owner": "alice@example.com", "maxInstances": -1})).await,
        "should be greater than or equal to 0",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_have_columns_names_and_a_status_of_their_own() {
    let (client, _) = cluster().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let instance = definitions.get("whatsappinstances.whatsapp-operator.dev").await.unwrap().spec;
    assert_eq!(instance.names.short_names.as_deref(), Some(&["wa".to_owned()][..]));
    assert_eq!(instance.names.categories.as_deref(), Some(&["whatsapp".to_owned()][..]));
    let version = &instance.versions[0];
    assert!(version.subresources.as_ref().is_some_and(|s| s.status.is_some()));
    let columns = version.additional_printer_columns.clone().unwrap_or_default();
    let usual: Vec<&str> = columns.iter().filter(|c| c.priority.unwrap_or(0) == 0).map(|c| c.name.as_str()).collect();
    assert_eq!(usual, ["Name", "Owner", "Primary", "Phase", "Phone", "Age"]);
    let wide: Vec<&str> = columns.iter().filter(|c| c.priority == Some(1)).map(|c| c.name.as_str()).collect();
    assert_eq!(wide, ["Bridge", "Shard", "Session", "Reason"]);
}

/// Every character that must not stand in a name or an owner, at the edges of its range, and some that may.
#[tokio::test(flavor = "multi_thread")]
async fn names_and_owners_that_act_on_a_terminal_are_refused_by_the_schema_alone() {
    let (client, _) = cluster().await;
    create_namespace(&client, "unprintable").await;
    let api: Api<WhatsAppInstance> = Api::namespaced(client, "unprintable");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let create = async |name: &str, owner: &str| {
        let object = json!({"metadata": {"name": "one"}, "spec": {"name": name, "owner": owner}});
        api.create(&dry, &serde_json::from_value(object).unwrap()).await.map(drop).map_err(|error| error.to_string())
    };
    for bad in
        "\u{1}\t\n\u{7}\u{1b}\u{1f}\u{7f}\u{80}\u{85}\u{9f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}".chars()
    {
        let text = format!("a{bad}b");
        let said = create(&text, "alice").await.unwrap_err();
        assert!(said.contains("spec.name must not hold control characters"), "{bad:?}: {said}");
        let said = create("Shop", &text).await.unwrap_err();
        assert!(said.contains("spec.owner must not hold control characters"), "{bad:?}: {said}");
    }
    for owner in ["\n", "alice@example.com ", " alice"] {
        assert!(create("Shop", owner).await.unwrap_err().contains("spec.owner must not"), "{owner:?}");
    }
    for good in
        ["営業部", "משרד\u{200f} 1", "\u{1f468}\u{200d}\u{1f467} \u{2764}\u{fe0f}", "می\u{200c}خواهم", "a\u{a0}b"]
    {
        create(good, "alice").await.unwrap_or_else(|said| panic!("{good:?}: {said}"));
    }
}
