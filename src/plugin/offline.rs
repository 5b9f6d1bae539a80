//! `disconnect` and `unlink`: taking an instance offline, with its device linked or without.

use serde_json::json;

use super::{
    args::ActArgs,
    client::{Cluster, resource_name},
    error::PluginError,
    output,
    wait::{Gate, Goal, until},
};
use crate::api::DesiredState;

/// Sets `spec.desiredState` to Disconnected; the device stays linked.
///
/// # Errors
/// See [`PluginError`].
pub async fn disconnect(cluster: &Cluster, args: &ActArgs) -> Result<(), PluginError> {
    wish(cluster, args, DesiredState::Disconnected, "disconnecting", Goal::Disconnected).await
}

/// Sets `spec.desiredState` to Unlinked: the device is removed from its account, the instance stays.
///
/// # Errors
/// See [`PluginError`].
pub async fn unlink(cluster: &Cluster, args: &ActArgs) -> Result<(), PluginError> {
    wish(cluster, args, DesiredState::Unlinked, "unlinking", Goal::Unlinked).await
}

async fn wish(
    cluster: &Cluster,
    args: &ActArgs,
    wished: DesiredState,
    doing: &str,
    goal: Goal,
) -> Result<(), PluginError> {
    let patch = json!({ "spec": { "desiredState": wished } });
    let changed = cluster.patch(&args.name, &patch).await?;
    output::line(&format!("{} {doing}", resource_name(args.name.as_str())))?;
    if args.wait {
        let what = until(cluster, &args.name, Gate::after_change(&changed), goal, args.timeout).await?;
        output::line(&format!("{} {what}", resource_name(args.name.as_str())))?;
    }
    Ok(())
}
