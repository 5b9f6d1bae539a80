//! `disconnect`: taking an instance offline.

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
pub async fn run(cluster: &Cluster, args: &ActArgs) -> Result<(), PluginError> {
    let patch = json!({ "spec": { "desiredState": DesiredState::Disconnected } });
    let changed = cluster.patch(&args.name, &patch).await?;
    output::line(&format!("{} disconnecting", resource_name(args.name.as_str())))?;
    if args.wait {
        let what = until(cluster, &args.name, Gate::after_change(&changed), Goal::Disconnected, args.timeout).await?;
        output::line(&format!("{} {what}", resource_name(args.name.as_str())))?;
    }
    Ok(())
}
