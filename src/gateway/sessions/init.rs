//! `POST /api/v1/sessions/init/`: a new session, and within the wait its code.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    api::{BridgeRef, Pairing, PairingMethod, WhatsAppInstance, WhatsAppInstanceSpec},
    gateway::{
        answer::{self, Success},
        caller::Caller,
        code::Code,
        failure::Failure,
        input::{Fields, Parameters, body, display_name, is_label, is_object_name},
        instances,
        session::{LinkMethod, Session},
        state::Shared,
        wait::{self, Goal},
    },
    model::{NamespaceScope, Sensitive, is_international},
    rules::{progress::Gate, text},
};

/// How long the answer waits for the code, unless the caller says.
const WAIT: u64 = 10;
/// What is added to it is 6 characters, and a label has 63.
const LONGEST_PREFIX: usize = 40;

/// A session to begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Business Account"}))]
#[allow(dead_code)] // documents what is read field by field, so that errors can name the field
pub struct NewSession {
    /// Display name, unique per owner; not blank, no control characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Whose it is to be; the caller's when not given. Somebody else takes the verb assign-owner on whatsappinstances.
    #[schema(min_length = 1, max_length = 253)]
    owner: Option<String>,
    /// Namespace to create it in; the gateway's default when not given.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    namespace: Option<String>,
    /// The wish that it be the owner's primary one, once it is connected.
    primary: Option<bool>,
    /// The WhatsAppBridge to run it on; the cluster's default one when not given.
    #[schema(min_length = 1, max_length = 253, pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
    bridge: Option<String>,
    /// How the device is to be linked; by a QR code when not given.
    pairing: Option<NewPairing>,
}

/// How a device is to be linked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // as above
pub struct NewPairing {
    /// QR: a code to scan. Code: eight characters to type on the phone; needs phone_number.
    method: Option<LinkMethod>,
    /// The account's number in international form; only method Code uses it.
    #[schema(pattern = r"^\+[1-9][0-9]{6,14}$", example = "+15550001111")]
    phone_number: Option<String>,
    /// Whether a new window opens by itself after one has passed unused.
    auto_refresh: Option<bool>,
}

/// Begin a session
///
/// Creates a WhatsAppInstance as the caller and waits for its QR code, at most `wait` seconds. Without a code by then the
/// answer is the same with `qr_code` null; ask `status` again, or follow `/api/v1/events`.
#[utoipa::path(
    post, path = "/api/v1/sessions/init/", operation_id = "init", tag = "sessions",
    params(("wait" = Option<u64>, Query, minimum = 0, maximum = 60, description = "Seconds to wait for the code; 10 when not given.")),
    request_body(content = NewSession, example = json!({"name": "Business Account"})),
    responses((status = 201, description = "Created; `Location` has its status.", body = Success<Session>)),
)]
pub async fn init(
    State(gateway): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, Failure> {
    let limit = Parameters::of(&uri, &["wait"])?.wait(WAIT)?;
    let text = body(&headers, content).await?;
    let (namespace, instance) = wanted(text.as_deref(), &caller.user)?;
    let namespace = namespace.as_deref().unwrap_or(&gateway.settings.namespace);
    if let NamespaceScope::Only(watched) = &gateway.settings.watched
        && !gateway.settings.watched.includes(namespace)
    {
        return Err(Failure::new(
            Code::Invalid,
            format!(
                "no operator looks after sessions in the namespace \"{namespace}\"; give \"namespace\" one of: {}",
                watched.join(", ")
            ),
        ));
    }
    let begin = slug(&instance.spec.name);
    let made = instances::create(&caller, namespace, &begin, instance).await?;
    let (known, _) = wait::until(&gateway, &caller, made.clone(), Gate::open(), Goal::Code, limit).await;
    let session = Session::whole(&known.unwrap_or(made));
    let place = HeaderValue::try_from(format!("/api/v1/sessions/status/{}/", session.id));
    let mut response = answer::with(StatusCode::CREATED, session);
    if let Ok(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// The instance that a body asks for, and its namespace.
fn wanted(text: Option<&str>, user: &str) -> Result<(Option<String>, WhatsAppInstance), Failure> {
    let fields = Fields::of(text, &["name", "owner", "namespace", "primary", "bridge", "pairing"])?;
    let invalid = |message: &str| Failure::new(Code::Invalid, message);
    let name = display_name(&fields)?;
    let owner = fields.text("owner", (1, 253))?;
    owner.as_deref().map(text::check_owner).transpose()?;
    let namespace = fields.text("namespace", (1, 63))?;
    if namespace.as_deref().is_some_and(|name| !is_label(name)) {
        return Err(invalid("field \"namespace\" must be lower case letters, digits and '-'"));
    }
    let bridge = fields.text("bridge", (1, 253))?;
    if bridge.as_deref().is_some_and(|name| !is_object_name(name)) {
        return Err(invalid(
            "field \"bridge\" must be the name of a WhatsAppBridge: lower case letters, digits, '-' and '.'",
        ));
    }
    let pairing = fields.object("pairing", &["method", "phone_number", "auto_refresh"])?;
    let spec = WhatsAppInstanceSpec {
        owner: Some(owner.unwrap_or_else(|| user.to_owned())),
        primary: fields.flag("primary")?.unwrap_or(false),
        desired_state: Default::default(),
        presence: Default::default(),
        sending: Default::default(),
        bridge_ref: bridge.map(|name| BridgeRef { name }),
        pairing: pairing.as_ref().map(self::pairing).transpose()?.unwrap_or_default(),
        deletion_policy: Default::default(),
        name,
    };
    Ok((namespace, WhatsAppInstance::new("", spec)))
}

fn pairing(fields: &Fields) -> Result<Pairing, Failure> {
    let invalid = |message: &str| Failure::new(Code::Invalid, message);
    let method = match fields.text("method", (0, 40))?.as_deref() {
        None | Some("QR") => PairingMethod::Qr,
        Some("Code") => PairingMethod::Code,
        Some(_) => return Err(invalid("field \"pairing.method\" must be QR or Code")),
    };
    let phone = fields.text("phone_number", (0, 40))?;
    if phone.as_deref().is_some_and(|phone| !is_international(phone)) {
        return Err(invalid("field \"pairing.phone_number\" must be in international form: + and 7 to 15 digits"));
    }
    if method == PairingMethod::Code && phone.is_none() {
        return Err(invalid("field \"pairing.phone_number\" is missing; method Code needs it"));
    }
    Ok(Pairing {
        method,
        phone_number: phone.map(Sensitive::new),
        auto_refresh: fields.flag("auto_refresh")?.unwrap_or(false),
    })
}

/// How many digits in a name may be a phone number: the shortest in international form have seven.
const DIGITS_OF_A_PHONE: usize = 7;

/// The beginning of an object name that people recognise the display name by. Object names stand in logs and events, where
/// no phone number may: a name with as many digits as one loses them.
fn slug(name: &str) -> String {
    let digits = name.chars().filter(char::is_ascii_digit).count() < DIGITS_OF_A_PHONE;
    let plain: String = name
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || (digits && c.is_ascii_digit()) { c } else { '-' })
        .collect();
    let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
    let slug: String = words.join("-").chars().take(LONGEST_PREFIX).collect();
    if slug.is_empty() { "session".to_owned() } else { slug.trim_end_matches('-').to_owned() }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;
    use utoipa::PartialSchema as _;

    use super::*;
    use crate::model::PHONE_NUMBER;

    fn refused(text: &str) -> (Code, String) {
        let failure = wanted(Some(text), "alice").unwrap_err();
        (failure.code, failure.message)
    }

    #[test]
    fn the_definition_and_the_document_describe_a_phone_number_as_it_is_checked() {
        let definition = serde_json::to_value(WhatsAppInstance::crd()).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let pairing = &schema["properties"]["spec"]["properties"]["pairing"]["properties"];
        assert_eq!(pairing["phoneNumber"]["pattern"], PHONE_NUMBER);
        let document = serde_json::to_value(NewPairing::schema()).unwrap();
        assert_eq!(document["properties"]["phone_number"]["pattern"], PHONE_NUMBER);
    }

    #[test]
    fn a_name_is_enough_and_the_caller_owns_it() {
        let (namespace, made) = wanted(Some(r#"{"name":"Business Account"}"#), "alice").unwrap();
        assert_eq!((namespace, made.spec.owner.as_deref()), (None, Some("alice")));
        let all = r#"{"name":"A","owner":"bob","namespace":"shop","primary":true,"bridge":"b.1",
            "pairing":{"method":"Code","phone_number":"+15550001111","auto_refresh":true}}"#;
        let (namespace, made) = wanted(Some(all), "alice").unwrap();
        assert_eq!((namespace.as_deref(), made.spec.owner.as_deref()), (Some("shop"), Some("bob")));
        assert!(made.spec.primary && made.spec.pairing.auto_refresh && made.spec.pairing.method == PairingMethod::Code);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        for (text, code, says) in [
            (r#"{"name":"a\u0007"}"#, Code::NameUnprintable, "U+0007"),
            (r#"{"name":"A","owner":" bob"}"#, Code::OwnerUnprintable, "white space"),
            (r#"{"name":"A","namespace":"A_b"}"#, Code::Invalid, "\"namespace\""),
            (r#"{"name":"A","bridge":"A_b"}"#, Code::Invalid, "\"bridge\""),
            (r#"{"name":"A","pairing":{"method":"Fax"}}"#, Code::Invalid, "QR or Code"),
            (r#"{"name":"A","pairing":{"method":"Code"}}"#, Code::Invalid, "\"pairing.phone_number\" is missing"),
            (r#"{"name":"A","pairing":{"phone_number":"0155"}}"#, Code::Invalid, "international form"),
        ] {
            let (found, said) = refused(text);
            assert!(found == code && said.contains(says) && !said.contains("0155"), "{text}: {found:?} {said}");
        }
        assert_eq!(refused(&format!("{{\"name\":\"{}\"}}", "x".repeat(101))).0, Code::Invalid);
    }

    #[test]
    fn an_object_name_begins_with_what_is_legible_of_the_display_name() {
        for (name, prefix) in [
            ("Business Account", "business-account"),
            ("Büro Süd", "b-ro-s-d"),
            ("営業部", "session"),
            ("--A--", "a"),
            (&"x".repeat(90), &"x".repeat(40)),
            ("Shop 24", "shop-24"),
            ("+1 (555) 020-7001", "session"),
            ("Anna 15550207001", "anna"),
        ] {
            assert_eq!(slug(name), prefix);
        }
    }
}
