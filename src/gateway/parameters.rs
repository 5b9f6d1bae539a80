//! Parameters that several routes share, as the OpenAPI document describes them. They are read by [`input`](super::input).

use utoipa::IntoParams;

/// In the path of a route about one session.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // describes what `input` reads by name
pub struct OneSession {
    /// The session's id or session_id, or the object's name in the namespace.
    id: String,
}

/// In the query of a route about one session.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // as above
pub struct InNamespace {
    /// Namespace of an object's name; the gateway's default when not given.
    #[param(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    namespace: Option<String>,
}

/// In the query of a route about many sessions.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)] // as above
pub struct WhichSessions {
    /// Whose sessions; the caller's own when not given, * for everybody's.
    #[param(min_length = 1, max_length = 253)]
    owner: Option<String>,
    /// Where; the gateway's default namespace when not given, * for all.
    #[param(min_length = 1, max_length = 63, pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$")]
    namespace: Option<String>,
}

/// In the path of a route about one message.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code)] // as above
pub struct OneMessage {
    /// The message's id, as the answer to `send` gave it.
    id: String,
}
