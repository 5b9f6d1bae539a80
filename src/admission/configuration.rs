//! The webhook configurations: when the API server asks, which Service, and what happens when there is no answer.

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

use super::{MUTATE_INSTANCES, VALIDATE_INSTANCES, VALIDATE_OWNERS};
use crate::api::{GROUP, VERSION, labels::PRIMARY_SINCE};

/// How the API server reaches the webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By a Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// By an https address without path, for API servers that are not part of the cluster's network.
    Url(String),
}

/// What the configurations are made from.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// Name of both objects.
    pub name: String,
    /// How to reach the webhooks.
    pub reach: Reach,
    /// PEM of the authorities that may have signed the webhooks' certificate; filled in by the leader when not given.
    pub ca_bundle: Option<Vec<u8>>,
    /// Which namespaces' instances are asked about; all of them when not given, and the limit holds only then.
    pub namespaces: Option<LabelSelector>,
}

/// Both configurations as YAML.
///
/// # Errors
/// When they cannot be written; a defect of this program.
pub fn yaml(parameters: &Parameters) -> Result<String, serde_saphyr::ser::Error> {
    let (mutating, validating) = (mutating(parameters), validating(parameters));
    Ok(format!("---\n{}---\n{}", serde_saphyr::to_string(&mutating)?, serde_saphyr::to_string(&validating)?))
}

/// The mutating configuration.
///
/// `reinvocationPolicy` stays at Never: what we fill in depends on nothing another webhook might add except
/// `spec.primary`, and a wish without its stamp counts as being as old as the object; while a second call would see the
/// first one's stamp and could not tell it from a user's.
pub fn mutating(parameters: &Parameters) -> MutatingWebhookConfiguration {
    MutatingWebhookConfiguration {
        metadata: metadata(parameters),
        webhooks: Some(vec![MutatingWebhook {
            name: format!("mutate.whatsappinstances.{GROUP}"),
            admission_review_versions: vec!["v1".into()],
            client_config: client_config(parameters, MUTATE_INSTANCES),
            rules: Some(vec![rule("whatsappinstances", "Namespaced", &["CREATE", "UPDATE"])]),
            match_conditions: Some(vec![condition("changes-what-is-filled-in", &mutation_matters())]),
            match_policy: Some("Equivalent".into()),
            failure_policy: Some("Fail".into()),
            side_effects: "None".into(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
            reinvocation_policy: Some("Never".into()),
            namespace_selector: parameters.namespaces.clone(),
            ..MutatingWebhook::default()
        }]),
    }
}

/// The validating configuration.
pub fn validating(parameters: &Parameters) -> ValidatingWebhookConfiguration {
    let webhook = |kind: &str, path, rule, matters: &str, side_effects: &str| ValidatingWebhook {
        name: format!("validate.{kind}.{GROUP}"),
        admission_review_versions: vec!["v1".into()],
        client_config: client_config(parameters, path),
        rules: Some(vec![rule]),
        match_conditions: Some(vec![condition("changes-what-rules-speak-of", matters)]),
        match_policy: Some("Equivalent".into()),
        failure_policy: Some("Fail".into()),
        side_effects: side_effects.into(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
        ..ValidatingWebhook::default()
    };
    let instances = rule("whatsappinstances", "Namespaced", &["CREATE", "UPDATE"]);
    let owners = rule("whatsappowners", "Cluster", &["CREATE", "DELETE"]);
    ValidatingWebhookConfiguration {
        metadata: metadata(parameters),
        webhooks: Some(vec![
            ValidatingWebhook {
                namespace_selector: parameters.namespaces.clone(),
                ..webhook("whatsappinstances", VALIDATE_INSTANCES, instances, &validation_matters(), "NoneOnDryRun")
            },
            webhook("whatsappowners", VALIDATE_OWNERS, owners, &limit_matters(), "None"),
        ]),
    }
}

/// The server answers after 4 s at the latest, even if only with a refusal.
const TIMEOUT_SECONDS: i32 = 5;

// A condition that fails refuses the request with a sentence about CEL. So none of these can fail, whatever was sent: what is
// missing is passed over, what is no object is asked about, and then the schema or the webhook says what is wrong.

/// When the API server asks the validating webhook. Not about writes of status, since the rule names no subresource, and not
/// about writes of metadata alone: the operator's own writes, and a GitOps tool that applies the same file again, cost no review.
fn validation_matters() -> String {
    format!(
        "request.operation == 'CREATE' || {} || {} || {} || {} || ({} && ({} || {}))",
        is_odd("object"),
        is_odd("oldObject"),
        differs(name),
        differs(is_owned),
        wishes("object"),
        differs(wishes),
        differs(stamp),
    )
}

/// An owner without a limit of its own may be deleted also while the webhook does not answer.
fn limit_matters() -> String {
    format!("request.operation == 'CREATE' || {} || oldObject.?spec.?maxInstances.hasValue()", is_odd("oldObject"))
}

fn mutation_matters() -> String {
    format!(
        "request.operation == 'CREATE' || {} || {} || (!{} && {}) || {} || {}",
        is_odd("object"),
        is_odd("oldObject"),
        is_owned("object"),
        is_owned("oldObject"),
        differs(wishes),
        differs(stamp),
    )
}

/// Whether `spec` is there and no object, in CEL.
fn is_odd(object: &str) -> String {
    format!("type({object}.?spec.orValue({{}})) != map")
}

/// `spec.name`, empty when there is none, in CEL.
fn name(object: &str) -> String {
    format!("{object}.?spec.?name.orValue('')")
}

/// Whether there is a `spec.owner`, in CEL. An empty one is none: templates write it so where they know of no owner.
fn is_owned(object: &str) -> String {
    let owner = format!("{object}.?spec.?owner.orValue('')");
    format!("({owner} != '' && {owner} != null)")
}

/// `spec.primary`, in CEL.
fn wishes(object: &str) -> String {
    format!("({object}.?spec.?primary.orValue(false) == true)")
}

/// The stamp, empty when there is none, in CEL.
fn stamp(object: &str) -> String {
    format!("{object}.?metadata.?annotations[?'{PRIMARY_SINCE}'].orValue('')")
}

fn differs(what: fn(&str) -> String) -> String {
    format!("{} != {}", what("object"), what("oldObject"))
}

fn metadata(parameters: &Parameters) -> ObjectMeta {
    ObjectMeta { name: Some(parameters.name.clone()), ..ObjectMeta::default() }
}

fn rule(resource: &str, scope: &str, operations: &[&str]) -> RuleWithOperations {
    RuleWithOperations {
        api_groups: Some(vec![GROUP.into()]),
        api_versions: Some(vec![VERSION.into()]),
        resources: Some(vec![resource.into()]),
        operations: Some(operations.iter().map(|&operation| operation.into()).collect()),
        scope: Some(scope.into()),
    }
}

fn condition(name: &str, expression: &str) -> MatchCondition {
    MatchCondition { name: name.into(), expression: expression.into() }
}

fn client_config(parameters: &Parameters, path: &str) -> WebhookClientConfig {
    let ca_bundle = parameters.ca_bundle.clone().map(ByteString);
    match &parameters.reach {
        Reach::Url(base) => {
            WebhookClientConfig { ca_bundle, url: Some(format!("{}{path}", base.trim_end_matches('/'))), service: None }
        }
        Reach::Service { namespace, name, port } => WebhookClientConfig {
            ca_bundle,
            url: None,
            service: Some(ServiceReference {
                namespace: namespace.clone(),
                name: name.clone(),
                path: Some(path.into()),
                port: Some(i32::from(*port)),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Parameters, Reach, mutating, validating};

    fn with(reach: Reach) -> Parameters {
        Parameters { name: "whatsapp-operator".into(), reach, ca_bundle: Some(b"PEM".to_vec()), namespaces: None }
    }

    #[test]
    fn nothing_gets_past_when_nobody_answers_and_nobody_waits_long() {
        let parameters = with(Reach::Url("https://127.0.0.1:9443/".into()));
        for webhook in validating(&parameters).webhooks.unwrap() {
            assert_eq!((webhook.failure_policy.as_deref(), webhook.timeout_seconds), (Some("Fail"), Some(5)));
            assert!(webhook.client_config.url.unwrap().starts_with("https://127.0.0.1:9443/validate-"));
        }
        let mutating = mutating(&parameters).webhooks.unwrap().remove(0);
        assert_eq!((mutating.failure_policy.as_deref(), mutating.timeout_seconds), (Some("Fail"), Some(5)));
        assert_eq!(mutating.client_config.ca_bundle.unwrap().0, b"PEM");
    }

    #[test]
    fn the_charts_copy_is_up_to_date() {
        let name = "whatsapp-operator-webhook".to_owned();
        let reach = Reach::Service { namespace: "whatsapp-system".into(), name, port: 443 };
        let yaml = super::yaml(&Parameters { ca_bundle: None, ..with(reach) }).unwrap();
        let file = "charts/whatsapp-operator/files/webhook-configuration.yaml";
        let committed = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
        assert!(committed == yaml, "{file} is out of date: run `make generate`");
    }

    #[test]
    fn no_condition_takes_for_granted_what_may_be_missing() {
        for expression in [super::validation_matters(), super::mutation_matters(), super::limit_matters()] {
            for word in expression.split(|letter: char| !letter.is_ascii_alphanumeric() && !".?_".contains(letter)) {
                let of_an_object = ["object.", "oldObject."].iter().any(|object| word.starts_with(object));
                let falls_back =
                    word.ends_with(".orValue") || word.ends_with(".hasValue") || word.ends_with("annotations");
                assert!(!of_an_object || word.contains(".?") && falls_back, "{word} in {expression}");
            }
            assert!(
                !expression.contains("has(")
                    && !expression.contains("object.spec")
                    && !expression.contains(".metadata")
            );
            assert!(expression.starts_with("request.operation == 'CREATE' || "), "{expression}");
        }
    }

    #[test]
    fn only_whole_objects_of_ours_are_asked_about() {
        let parameters = with(Reach::Service { namespace: "whatsapp".into(), name: "webhook".into(), port: 443 });
        let webhooks = validating(&parameters).webhooks.unwrap();
        for rule in webhooks.iter().flat_map(|webhook| webhook.rules.as_ref().unwrap()) {
            assert_eq!(rule.api_groups.as_ref().unwrap(), &["whatsapp-operator.dev"]);
            assert!(rule.resources.as_ref().unwrap().iter().all(|resource| !resource.contains('/') && resource != "*"));
            let deletes = rule.operations.as_ref().unwrap().contains(&"DELETE".to_owned());
            assert_eq!(deletes, rule.resources.as_ref().unwrap() == &["whatsappowners"], "an instance can always go");
        }
        assert_eq!(webhooks[0].side_effects, "NoneOnDryRun");
        assert_eq!(
            webhooks[0].client_config.service.as_ref().unwrap().path.as_deref(),
            Some("/validate-whatsappinstances")
        );
    }
}
