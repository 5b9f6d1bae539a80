//! The certificate that kube-apiserver shows to webhooks which ask for one, as an administrator would configure it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use serde_json::{Value, json};

use super::{Error, doing};

/// Writes certificate, key, kubeconfig and AdmissionConfiguration into `dir`; the last one's path.
pub fn write(dir: &Path) -> Result<PathBuf, Error> {
    let (certificate, key) = make().map_err(|error| Error::NotReady(format!("make a client certificate: {error}")))?;
    let file = |name: &str, content: &str| {
        let path = dir.join(name);
        fs::write(&path, content).map_err(doing(format!("write {name}")))?;
        Ok(path)
    };
    // JSON is YAML.
    let user = json!({
        "client-certificate": file("webhook-client.crt", &certificate)?,
        "client-key": file("webhook-client.key", &key)?,
    });
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": user}]});
    let kubeconfig = file("webhook-kubeconfig.json", &kubeconfig.to_string())?;
    let plugin = |name: &str| -> Value {
        json!({"name": name, "configuration": {
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
            "kubeConfigFile": kubeconfig,
        }})
    };
    let plugins = ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"].map(plugin);
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins,
    });
    file("admission.json", &configuration.to_string())
}

/// One that is its own authority, PEM, and its key.
fn make() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(["kube-apiserver".to_owned()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}
