//! `GET qr/{id}/`: the code to scan, as data or as a picture.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::act::{already_connected, is_connected};
use crate::{
    api::WhatsAppInstance,
    gateway::{
        answer::{self, Success},
        caller::{Caller, Id},
        code::Code,
        failure::Failure,
        input::Parameters,
        instances,
        parameters::{InNamespace, OneSession},
        picture::{Drawing, Form, drawing, png, wanted},
        session::{self, Session},
        state::Shared,
    },
    platform::qr::svg,
};

/// A code for the phone. Whoever uses it controls the session.
#[derive(Serialize, ToSchema)]
pub struct PairingCode {
    /// The session's id.
    #[schema(example = "7f0c6c1e-5a3b-4b5e-9d55-2f9b0a3c1d10")]
    pub id: String,
    /// The text to draw as a QR code; null with pairing method Code.
    #[schema(example = "2@AbCd,EfGh,IjKl,MnOp")]
    pub qr_code: Option<String>,
    /// The same drawn, for pages that have no library for it; null with pairing method Code.
    pub qr_drawing: Option<Drawing>,
    /// Which code of the pairing window this is, from 1; null with pairing method Code.
    #[schema(example = 1)]
    pub qr_attempt: Option<u32>,
    /// How many codes the window has; null with pairing method Code.
    #[schema(example = 6)]
    pub qr_attempts: Option<u32>,
    /// The characters to type on the phone; null with pairing method QR.
    #[schema(example = json!(null))]
    pub pairing_code: Option<String>,
    /// When the code stops working.
    #[schema(example = "2026-01-01T12:01:00Z")]
    pub qr_expires_at: Option<String>,
}

/// The code to scan
///
/// As JSON, SVG or PNG, by the header Accept.
#[utoipa::path(
    get, path = "/api/v1/sessions/qr/{id}/", operation_id = "qr", tag = "sessions",
    params(OneSession, InNamespace),
    responses((status = 200, description = "The code.", content(
        (Success<PairingCode> = "application/json"),
        ("image/svg+xml"),
        ("image/png"),
    ))),
)]
pub async fn qr(
    State(gateway): State<Shared>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let parameters = Parameters::of(&uri, &["namespace"])?;
    let ranges: Vec<_> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let form = wanted(Some(&ranges.join(","))).ok_or_else(|| {
        Failure::new(
            Code::NotAcceptable,
            "a code is given as application/json, image/svg+xml or image/png; accept one of them",
        )
    })?;
    let found = instances::find(&gateway, &caller, &id, parameters.namespace()?).await?;
    let code = shown(&found)?;
    given(code, form)
}

/// The code in this form. A picture that there will never be is not one to come back for.
fn given(code: PairingCode, form: Form) -> Result<Response, Failure> {
    let undrawable = || {
        Failure::new(
            Code::NotAcceptable,
            "there is no QR code to draw: the pairing method is Code, or the code is too long; ask for it as application/json",
        )
    };
    let text = code.qr_code.as_deref().filter(|text| !text.is_empty());
    let (kind, drawn) = match form {
        Form::Json => return Ok(answer::with(StatusCode::OK, code)),
        Form::Svg => ("image/svg+xml", text.and_then(svg).map(String::into_bytes)),
        Form::Png => ("image/png", text.and_then(png)),
    };
    Ok(([(header::CONTENT_TYPE, kind)], drawn.ok_or_else(undrawable)?).into_response())
}

/// The code that an instance shows.
fn shown(instance: &WhatsAppInstance) -> Result<PairingCode, Failure> {
    if is_connected(instance) {
        return Err(already_connected());
    }
    let whole = Session::whole(instance);
    let (qr_code, pairing_code) = (whole.qr_code.flatten(), whole.pairing_code.flatten());
    if qr_code.is_none() && pairing_code.is_none() {
        let phase = session::phase(instance);
        let why = whole.message.map(|message| format!(": {}", message.trim_end_matches('.'))).unwrap_or_default();
        return Err(Failure::new(Code::NoCode, format!("there is no code to show; the session is {phase}{why}")));
    }
    let qr = instance.status.as_ref().and_then(|status| status.qr.as_ref());
    Ok(PairingCode {
        id: whole.id,
        qr_drawing: qr_code.as_deref().and_then(drawing),
        qr_attempt: qr.map(|qr| qr.attempt),
        qr_attempts: qr.map(|qr| qr.attempts),
        qr_expires_at: whole.qr_expires_at,
        qr_code,
        pairing_code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_there_will_never_be_is_not_one_to_ask_for_again() {
        let code = |qr_code: Option<&str>| PairingCode {
            id: "u".into(),
            qr_code: qr_code.map(str::to_owned),
            qr_drawing: None,
            qr_attempt: None,
            qr_attempts: None,
            pairing_code: Some("ABCD1234".into()),
            qr_expires_at: None,
        };
        for form in [Form::Svg, Form::Png] {
            for qr_code in [None, Some(""), Some(&*"x".repeat(4000))] {
                let failure = given(code(qr_code), form).unwrap_err();
                assert!(failure.code == Code::NotAcceptable && !failure.code.entry().retryable, "{failure:?}");
            }
            assert_eq!(given(code(Some("2@abc")), form).unwrap().status(), StatusCode::OK);
        }
        assert_eq!(given(code(None), Form::Json).unwrap().status(), StatusCode::OK);
    }
}
