//! The gateway's routes, each registered once, for requests and for the document alike.

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use tower::{Layer as _, util::MapRequestLayer};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    account, dashboard,
    edge::{canonical, edge, no_such_route},
    events, linking, messages, page, sessions,
    state::Shared,
    unread::hear_out,
};

fn routes() -> OpenApiRouter<Shared> {
    let info = InfoBuilder::new().title("whatsapp-operator").version("v1").build();
    OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info).build())
        .routes(routes!(sessions::init::init))
        .routes(routes!(sessions::read::list))
        .routes(routes!(sessions::read::status))
        .routes(routes!(sessions::act::connect))
        .routes(routes!(sessions::act::disconnect))
        .routes(routes!(sessions::act::unlink))
        .routes(routes!(sessions::act::refresh_qr))
        .routes(routes!(sessions::qr::qr))
        .routes(routes!(sessions::act::set_primary))
        .routes(routes!(sessions::rename::rename))
        .routes(routes!(sessions::delete::delete))
        .routes(routes!(sessions::bulk::bulk))
        .routes(routes!(linking::link, linking::revoke_link))
        .routes(routes!(linking::linking_code))
        .routes(routes!(messages::send::send))
        .routes(routes!(messages::read::list))
        .routes(routes!(messages::waiting::waiting))
        .routes(routes!(messages::read::message))
        .routes(routes!(messages::read::cancel))
        .routes(routes!(events::events))
        .routes(routes!(account::sign_in::me))
        .routes(routes!(account::owner::owner))
        .routes(routes!(account::sign_in::sign_in))
        .routes(routes!(account::sign_in::sign_out))
}

/// What the macros know of the routes.
pub fn described() -> OpenApi {
    routes().into_openapi()
}

/// Answers requests. `document` is what is served as `/api/v1/openapi.json`.
pub fn router(gateway: Shared, document: String) -> Router {
    let (api, _) = routes().split_for_parts();
    let all = api
        .merge(page::routes(document))
        .merge(dashboard::routes())
        .fallback(no_such_route)
        .layer(from_fn_with_state(gateway.clone(), edge))
        .layer(from_fn(hear_out))
        .with_state(gateway);
    // Before a route is looked for, hence around the router.
    Router::new().fallback_service(MapRequestLayer::new(canonical).layer(all))
}
