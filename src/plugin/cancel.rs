//! `cancel`: calling a message back.

use std::time::Duration;

use reqwest::Method;

use super::{client::Cluster, error::PluginError, gateway::Gateway, message, message_args::CancelArgs, output};

/// Calls it back; again is the same.
///
/// # Errors
/// When it is too late, and see [`PluginError`].
pub async fn run(cluster: &Cluster, args: &CancelArgs) -> Result<(), PluginError> {
    let gateway = Gateway::open(cluster, &args.gateway).await?;
    let request = gateway.request(Method::POST, &["messages", "cancel", args.id.as_str(), ""], &[])?;
    let cancelled = gateway.ask(request, Duration::ZERO).await?.data;
    match message::formatted(&cancelled, args.output)? {
        Some(text) => Ok(output::text(&text)?),
        None => Ok(output::line(&format!("{} {}", message::name(&cancelled), message::standing(&cancelled)))?),
    }
}
