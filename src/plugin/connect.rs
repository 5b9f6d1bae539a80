//! `connect`: bringing an instance online.

use serde_json::{Value, json};

use super::{
    args::ActArgs,
    client::{Cluster, read, resource_name},
    error::PluginError,
    output, refresh,
    wait::{Gate, Goal, until},
};
use crate::{
    api::{DesiredState, labels},
    rules::actions::starts_again,
};

/// Sets `spec.desiredState` to Connected and starts again what has ended.
///
/// # Errors
/// See [`PluginError`].
pub async fn run(cluster: &Cluster, args: &ActArgs) -> Result<(), PluginError> {
    let instance = read(cluster.get(&args.name).await?)?;
    let again = starts_again(&instance);
    let changed = cluster.patch(&args.name, &patch(again.then(refresh::stamp))).await?;
    output::line(&format!(
        "{} {}",
        resource_name(args.name.as_str()),
        if again { "starting again" } else { "connecting" }
    ))?;
    if args.wait {
        let gate = if again { Gate::after_refresh(&changed) } else { Gate::after_change(&changed) };
        let what = until(cluster, &args.name, gate, Goal::Connected, args.timeout).await?;
        output::line(&format!("{} {what}", resource_name(args.name.as_str())))?;
    }
    Ok(())
}

fn patch(refresh: Option<String>) -> Value {
    let mut patch = json!({ "spec": { "desiredState": DesiredState::Connected } });
    if let Some(value) = refresh {
        patch["metadata"] = json!({ "annotations": { labels::REFRESH_QR: value } });
    }
    patch
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{patch, starts_again};
    use crate::plugin::fixtures::instance;

    #[test]
    fn what_ended_by_itself_is_started_again_and_a_wish_is_just_fulfilled() {
        for (desired, phase, again) in [
            ("Connected", "Disconnected", true),
            ("Disconnected", "Disconnected", false),
            ("Connected", "LoggedOut", true),
            ("Disconnected", "LoggedOut", true),
            ("Connected", "PairingExpired", true),
            ("Connected", "Connected", false),
            ("Connected", "Reconnecting", false),
            ("Connected", "AwaitingPairing", false),
        ] {
            let instance = instance(json!({"desiredState": desired}), json!({"phase": phase}));
            assert_eq!(starts_again(&instance), again, "{desired} {phase}");
        }
    }

    #[test]
    fn the_patch_touches_nothing_else() {
        assert_eq!(patch(None), json!({"spec": {"desiredState": "Connected"}}));
        assert_eq!(
            patch(Some("now".into())),
            json!({"spec": {"desiredState": "Connected"}, "metadata": {"annotations": {"whatsapp-operator.dev/refresh-qr": "now"}}})
        );
    }
}
