//! What the operator makes and keeps for the bridge it is installed with: the token, the certificate of the shards, and the
//! WhatsAppBridge itself.
//!
//! Not the chart's work, for three reasons: what Helm renders is the same every time, so nothing random can stand in it without
//! Argo CD and Flux seeing a change at every sync; a change without an interruption takes steps, with time between them; and Helm
//! cannot make an object whose definition comes with the same release.

mod default;
mod secret;
mod token;

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{default::DefaultBridge, secret::TokenSecret};
use crate::{
    admission::certificates::{CertificateSecret, Lifetimes, ToldBy},
    api::GROUP,
    cli::bridge::BridgeArgs,
    platform::{
        https::Tls,
        rbac::{
            Reach::{Cluster, ReleaseNamespace},
            Right,
        },
    },
};

/// The rights that keeping them takes.
pub(super) const RIGHTS: &[Right] = &[
    Right {
        group: "",
        resources: &["secrets"],
        verbs: &["get", "list", "watch", "update"],
        names: &["whatsapp-bridge-token"],
        reach: ReleaseNamespace,
        why: "make and change the token (--bridge-token-secret)",
    },
    Right {
        group: "",
        resources: &["secrets"],
        verbs: &["get", "list", "watch", "update"],
        names: &["whatsapp-bridge-tls"],
        reach: ReleaseNamespace,
        why: "make and renew the certificate of the shards (--bridge-tls-secret)",
    },
    Right {
        group: GROUP,
        resources: &["whatsappbridges"],
        verbs: &["create"],
        names: &[],
        reach: Cluster,
        why: "make the bridge of the installation (--default-bridge)",
    },
    Right {
        group: GROUP,
        resources: &["whatsappbridges"],
        verbs: &["get", "patch"],
        names: &["builtin"],
        reach: Cluster,
        why: "keep it as it was installed, unless it is another release's; with another name in the file, its name",
    },
];

/// Keeps token and certificate in their Secrets, until `stop`. Every replica does: the resource version decides who was first.
pub(super) fn keep_secrets(args: &BridgeArgs, client: &Client, namespace: &str, stop: &CancellationToken) {
    let token_secret = args.token_secret();
    let bundle = args.certificate().map(|(name, hosts)| {
        let secret = CertificateSecret {
            client: client.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            hosts,
            lifetimes: Lifetimes::default(),
            told_by: token_secret.map_or(ToldBy::Others, |name| ToldBy::Secret(name.to_owned())),
        };
        let (send, bundle) = watch::channel(None);
        let stop = stop.clone();
        // This process serves nothing with it.
        tokio::spawn(async move { secret.keep(Arc::new(Tls::default()), send, stop).await });
        bundle
    });
    if let Some(name) = token_secret {
        let secret = TokenSecret {
            client: client.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            overlap: args.bridge_token_overlap,
        };
        let stop = stop.clone();
        tokio::spawn(async move { secret.keep(bundle, stop).await });
    }
}

/// Keeps the WhatsAppBridge as its file says, until `stop`. The leader's part.
pub(super) fn keep_default(args: &BridgeArgs, client: &Client, stop: &CancellationToken) {
    if let Some(file) = args.default_bridge.clone() {
        let (keeper, stop) = (DefaultBridge::new(client.clone(), file), stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled(keeper.keep()).await });
    }
}
