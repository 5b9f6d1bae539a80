//! Owners and their limits, which are for administrators.

use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};

use super::{Cluster, FIELD_MANAGER, PAGE};
use crate::{
    api::{WhatsAppOwner, WhatsAppOwnerSpec},
    plugin::error::{Attempt, PluginError},
    rules::owner::object_name,
};

impl Cluster {
    /// Lists the owners that the cluster keeps a limit for.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub async fn owners(&self) -> Result<Vec<WhatsAppOwner>, PluginError> {
        let mut params = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = self.limited(OF_OWNERS, self.owner_api().list(&params)).await.map_err(of_owners)?;
            let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            found.extend(page.items);
            let Some(token) = next else { return Ok(found) };
            params = params.continue_token(&token);
        }
    }

    /// Sets an owner's limit, on an object made for it where there is none.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub async fn set_limit(&self, owner: &str, limit: Option<u32>) -> Result<(), PluginError> {
        let (api, name) = (self.owner_api(), object_name(owner));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(serde_json::json!({ "spec": { "owner": owner, "maxInstances": limit } }));
        let attempt = Attempt { verb: "patch", ..OF_OWNERS };
        let changed = async {
            match api.patch(&name, &params, &patch).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    let spec = WhatsAppOwnerSpec { owner: owner.to_owned(), max_instances: limit.map(i64::from) };
                    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                    api.create(&params, &WhatsAppOwner::new(&name, spec)).await.map(drop)
                }
                changed => changed.map(drop),
            }
        };
        self.limited(attempt, changed).await.map_err(of_owners)
    }

    fn owner_api(&self) -> Api<WhatsAppOwner> {
        Api::all(self.client.clone())
    }
}

const OF_OWNERS: Attempt<'static> = Attempt { verb: "list", namespace: None, name: None };

/// What is said of instances elsewhere, said of owners.
fn of_owners(error: PluginError) -> PluginError {
    match error {
        PluginError::Forbidden { verb, .. } => PluginError::Ended(format!(
            "you may not {verb} whatsappowners.whatsapp-operator.dev, which is for administrators; ask one, or for a role with verb \"{verb}\" on it"
        )),
        PluginError::Refused { verb, message } => {
            PluginError::Ended(format!("the API server refused to {verb} the owner: {message}"))
        }
        other => other,
    }
}
