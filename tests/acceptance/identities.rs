//! Whose a token is and what its owner may do, asked of the real API server.

use std::time::Duration;

use k8s_openapi::api::{
    authentication::v1::{TokenRequest, UserInfo},
    authorization::v1::ResourceAttributes,
    core::v1::ServiceAccount,
};
use kube::{Api, api::PostParams};
use serde_json::json;
use whatsapp_operator::platform::{access::is_allowed, tokens::user_of};

use crate::support::world::{cluster, create_namespace};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_token_is_known_by_the_api_server_for_the_audience_it_was_made_for() {
    let (client, _) = cluster().await;
    let name = "identities";
    create_namespace(&client, name).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    let create = PostParams::default();
    let account = serde_json::from_value(json!({"metadata": {"name": "app"}})).unwrap();
    match accounts.create(&create, &account).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("{error}"),
    }
    let token = async |audience: Option<&str>| {
        let audiences: Vec<&str> = audience.into_iter().collect();
        let request = json!({"spec": {"audiences": audiences, "expirationSeconds": 600}});
        let request: TokenRequest = serde_json::from_value(request).unwrap();
        let granted: TokenRequest = accounts.create_subresource("token", "app", &create, &request).await.unwrap();
        granted.status.unwrap().token.unwrap()
    };
    let known = async |token: &str, audiences: &[&str]| {
        let audiences: Vec<String> = audiences.iter().map(|&audience| audience.to_owned()).collect();
        let user = user_of(&client, token, &audiences, LIMIT).await.unwrap();
        user.and_then(|user| user.username)
    };
    let app = Some(format!("system:serviceaccount:{name}:app"));
    let (own, gateways) = (token(None).await, token(Some("gateway")).await);
    assert_eq!(known(&own, &[]).await, app);
    assert_eq!(known(&gateways, &["other", "gateway"]).await, app);
    assert_eq!(known(&gateways, &[]).await, None, "made for another");
    assert_eq!(known(&own, &["gateway"]).await, None, "made for the API server");
    assert_eq!(known("not a token", &[]).await, None);
    assert_eq!(known("", &[]).await, None);
}

#[tokio::test]
async fn rbac_says_what_a_user_may_do() {
    let (client, _) = cluster().await;
    let may = async |user: &str, groups: &[&str]| {
        let user = UserInfo {
            username: Some(user.to_owned()),
            groups: Some(groups.iter().map(|&group| group.to_owned()).collect()),
            ..UserInfo::default()
        };
        let what = ResourceAttributes {
            group: Some("whatsapp-operator.dev".to_owned()),
            resource: Some("whatsappinstances".to_owned()),
            subresource: Some("messages".to_owned()),
            verb: Some("create".to_owned()),
            namespace: Some("default".to_owned()),
            ..ResourceAttributes::default()
        };
        is_allowed(&client, user, what, LIMIT).await.unwrap()
    };
    assert!(may("root", &["system:masters"]).await);
    assert!(!may("mallory@example.com", &["system:authenticated"]).await);
}
