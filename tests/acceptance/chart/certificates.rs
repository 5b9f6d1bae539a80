//! Certificates, of the webhooks and between the pods.

use super::*;

/// Whom the API server trusts outlives every renewal: the certificate is signed by an authority that keeps its key.
#[test]
fn cert_manager_signs_the_webhooks_certificate_with_an_authority_that_lasts() {
    let name = "whatsapp-operator-webhook";
    let authority = "whatsapp-operator-webhook-ca";
    let objects = with(&["webhooks.certificate.certManager=true"]).unwrap();
    let certificate = &of(&objects, "Certificate", name)["spec"];
    assert_eq!(certificate["issuerRef"], json!({"kind": "Issuer", "name": authority}));
    assert_eq!(certificate["dnsNames"], json!([format!("{name}.{NAMESPACE}.svc")]));
    assert_eq!(certificate["commonName"], name);
    assert_eq!(of(&objects, "Issuer", authority)["spec"], json!({"ca": {"secretName": authority}}));
    let signs = &of(&objects, "Certificate", authority)["spec"];
    assert_eq!(
        (&signs["isCA"], &signs["secretName"], &signs["duration"]),
        (&json!(true), &json!(authority), &json!("87600h"))
    );
    assert_eq!(signs["privateKey"]["rotationPolicy"], "Never");
    assert_eq!(signs["issuerRef"]["name"], name);
    assert_eq!(of(&objects, "Issuer", name)["spec"], json!({"selfSigned": {}}));
    // The injector takes the authority from where the certificate is.
    let configuration = of(&objects, "ValidatingWebhookConfiguration", "whatsapp-operator");
    assert_eq!(
        configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"],
        format!("{NAMESPACE}/{name}")
    );

    let own = with(&["webhooks.certificate.certManager=true", "webhooks.certificate.issuerRef.name=ours"]).unwrap();
    let made: Vec<&Value> = own.iter().filter(|one| one["kind"] == "Issuer" || one["kind"] == "Certificate").collect();
    let [certificate] = made[..] else { panic!("{made:?}") };
    assert_eq!(
        (&certificate["metadata"]["name"], &certificate["spec"]["issuerRef"]),
        (&json!(name), &json!({"name": "ours"}))
    );
    assert_eq!(certificate["spec"].get("commonName"), None);
}

#[test]
fn a_gateway_speaks_tls_to_pods_that_speak_tls() {
    let port = |objects: &[Value]| of(objects, "Service", "whatsapp-operator-gateway")["spec"]["ports"][0].clone();
    assert_eq!(port(&with(&[]).unwrap())["appProtocol"], "http");
    let example = format!("{ROOT}/examples/helm/cert-manager.yaml");
    let objects = rendered(&["--values", &example]).unwrap();
    let port = port(&objects);
    assert_eq!(port["appProtocol"], "https");
    let policy = &of(&objects, "BackendTLSPolicy", "whatsapp-operator-gateway")["spec"];
    let target = &policy["targetRefs"][0];
    assert_eq!((&target["name"], &target["sectionName"]), (&json!("whatsapp-operator-gateway"), &port["name"]));
    let validation = json!({
        "hostname": format!("whatsapp-operator-gateway.{NAMESPACE}.svc"),
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "internal-ca"}],
    });
    assert_eq!(policy["validation"], validation);
    // The name is one that the certificate is for.
    let certificate = &of(&objects, "Certificate", "whatsapp-operator-gateway")["spec"];
    assert!(certificate["dnsNames"].as_array().unwrap().contains(&validation["hostname"]), "{certificate}");
    let public = [
        "gateway.tls.secretName=tls",
        "gateway.httpRoute.enabled=true",
        "gateway.httpRoute.parentRefs[0].name=a",
        "gateway.httpRoute.backendTls.enabled=true",
        "gateway.httpRoute.backendTls.hostname=b.example",
    ];
    let objects = with(&public).unwrap();
    let policy = &of(&objects, "BackendTLSPolicy", "whatsapp-operator-gateway")["spec"];
    assert_eq!(policy["validation"], json!({"hostname": "b.example", "wellKnownCACertificates": "System"}));
}
