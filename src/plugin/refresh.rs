//! `refresh`: asking for a new pairing window.

use jiff::Timestamp;

use super::{
    args::{ActArgs, InstanceName},
    client::{Cluster, annotation_patch, resource_name},
    error::PluginError,
    output,
    wait::{Gate, Goal, until},
};
use crate::api::{WhatsAppInstance, labels};

/// Asks for a new pairing window.
///
/// # Errors
/// See [`PluginError`].
pub async fn run(cluster: &Cluster, args: &ActArgs) -> Result<(), PluginError> {
    let gate = Gate::after_refresh(&ask(cluster, &args.name).await?);
    output::line(&format!("{} asked for a new code", resource_name(args.name.as_str())))?;
    if args.wait {
        let what = until(cluster, &args.name, gate, Goal::Code, args.timeout).await?;
        output::line(&format!("{} {what}", resource_name(args.name.as_str())))?;
    }
    Ok(())
}

/// Sets the annotation to a value it never had; returns the object as it was then.
///
/// # Errors
/// See [`PluginError`].
pub async fn ask(cluster: &Cluster, name: &InstanceName) -> Result<WhatsAppInstance, PluginError> {
    cluster.patch(name, &annotation_patch(labels::REFRESH_QR, &stamp())).await
}

/// Unique in practice (nanoseconds), and a person can read when it was.
pub fn stamp() -> String {
    Timestamp::now().to_string()
}
