//! `set-primary`: the wish that an instance be its owner's primary one.

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;

use super::{
    args::ActArgs,
    client::{Cluster, read, resource_name},
    error::PluginError,
    output,
    screen::command,
    wait::Patience,
};
use crate::{
    api::{WhatsAppInstance, WhatsAppInstanceStatus},
    rules::{InstanceFacts, primary::wish},
};

/// Wishes it, by one patch of one object; the operator moves the pointer by one write.
///
/// # Errors
/// When it is not connected, and see [`PluginError`].
pub async fn run(cluster: &Cluster, args: &ActArgs) -> Result<(), PluginError> {
    let instance = read(cluster.get(&args.name).await?)?;
    let name = resource_name(args.name.as_str());
    if !check(&instance)? && !is_outdone(&instance, &others(cluster, &instance).await?) {
        return Ok(output::line(&format!("{name} is the primary instance already"))?);
    }
    cluster.patch(&args.name, &wish(&instance, Timestamp::now())).await?;
    output::line(&format!("{name} set as primary"))?;
    if args.wait {
        let limit = args.timeout.0;
        let waited = until_primary(cluster, args);
        match limit {
            None => waited.await?,
            Some(limit) => tokio::time::timeout(limit, waited).await.map_err(|_| gave_up(limit))??,
        }
        output::line(&format!("{name} is the primary instance"))?;
    }
    Ok(())
}

/// The owner's instances, as far as the caller may see them.
async fn others(cluster: &Cluster, instance: &WhatsAppInstance) -> Result<Vec<WhatsAppInstance>, PluginError> {
    let owner = instance.spec.owner.as_deref();
    let found = match cluster.list(true, owner, None).await {
        Err(PluginError::Forbidden { .. }) => cluster.list(false, owner, None).await,
        found => found,
    };
    Ok(found?.into_iter().filter_map(|object| read(object).ok()).collect())
}

/// Whether another instance's wish was made later: then the mirror in the status is about to change.
fn is_outdone(instance: &WhatsAppInstance, others: &[WhatsAppInstance]) -> bool {
    let wish = InstanceFacts::from(instance).wish;
    others.iter().map(InstanceFacts::from).any(|other| other.wish > wish)
}

/// Whether there is anything to do, by the instance's own word.
fn check(instance: &WhatsAppInstance) -> Result<bool, PluginError> {
    let nothing = WhatsAppInstanceStatus::default();
    let status = instance.status.as_ref().unwrap_or(&nothing);
    let name = instance.metadata.name.as_deref().unwrap_or_default();
    if instance.spec.owner.as_deref().unwrap_or_default().is_empty() {
        return Err(PluginError::Ended(format!(
            "instance \"{name}\" has no owner, and only an owner has a primary instance; set spec.owner first"
        )));
    }
    if status.primary && instance.spec.primary {
        return Ok(false);
    }
    if status.is_connected() {
        return Ok(true);
    }
    let phase = status.phase.map_or_else(|| "not looked at yet".to_owned(), |phase| phase.to_string());
    Err(PluginError::Ended(format!(
        "instance \"{name}\" must be connected to be set as primary, and it is {phase}; see what it needs with `{}`",
        command("status", instance)
    )))
}

async fn until_primary(cluster: &Cluster, args: &ActArgs) -> Result<(), PluginError> {
    let mut seen = pin!(cluster.watch(&args.name));
    let mut patience = Patience::new(true);
    while let Some(seen) = seen.next().await {
        match seen {
            Ok(Some(instance)) if instance.status.as_ref().is_some_and(|status| status.primary) => break,
            Ok(Some(_)) => patience.renew(),
            Ok(None) => return Err(cluster.not_found(&args.name)),
            // The watch is made again by itself, unless it is refused from the start or time after time.
            Err(error) if patience.bears(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn gave_up(limit: Duration) -> PluginError {
    PluginError::TimedOut { after: limit.as_secs(), last: "the instance is not primary yet".to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{check, is_outdone, wish};
    use crate::{
        api::{WhatsAppInstance, labels::PRIMARY_SINCE},
        plugin::fixtures::instance,
    };

    fn connected(primary: bool) -> Value {
        json!({"phase": "Connected", "primary": primary, "conditions": [{
            "type": "Connected", "status": "True", "reason": "Connected", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]})
    }

    #[test]
    fn only_a_connected_instance_of_somebody_can_be_primary() {
        let owned = || json!({"owner": "alice"});
        assert!(check(&instance(owned(), connected(false))).unwrap());
        let error = check(&instance(owned(), json!({"phase": "AwaitingPairing"}))).unwrap_err().to_string();
        assert!(
            error.contains("must be connected to be set as primary") && error.contains("AwaitingPairing"),
            "{error}"
        );
        assert!(check(&instance(json!({}), connected(false))).unwrap_err().to_string().contains("no owner"));
    }

    fn wishing(since: &str) -> WhatsAppInstance {
        let mut instance = instance(json!({"owner": "alice", "primary": true}), connected(true));
        instance.metadata.annotations = Some([(PRIMARY_SINCE.to_owned(), since.to_owned())].into());
        instance
    }

    #[test]
    fn a_wish_made_anew_is_later_than_it_was_by_any_clock() {
        let stamp = |now: &str| {
            let patch = wish(&wishing("2026-01-01T00:00:00Z"), now.parse().unwrap());
            assert_eq!(patch["spec"], json!({"primary": true}), "nothing else, so that it is one step");
            patch["metadata"]["annotations"][PRIMARY_SINCE].as_str().unwrap().to_owned()
        };
        assert_eq!(stamp("2026-02-01T00:00:00Z"), "2026-02-01T00:00:00Z");
        assert_eq!(stamp("2025-01-01T00:00:00Z"), "2026-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn a_later_wish_of_another_counts_before_the_mirror_shows_it() {
        let (early, late) = (wishing("2026-01-01T00:00:00Z"), wishing("2026-01-01T00:00:01Z"));
        let both = [early.clone(), late.clone()];
        assert!(is_outdone(&early, &both) && !is_outdone(&late, &both));
    }

    #[test]
    fn what_is_primary_by_wish_needs_nothing_and_what_is_by_chance_may_wish_it() {
        assert!(!check(&instance(json!({"owner": "alice", "primary": true}), connected(true))).unwrap());
        assert!(check(&instance(json!({"owner": "alice"}), connected(true))).unwrap());
    }
}
