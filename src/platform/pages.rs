//! Objects of a kind, page by page, however many they are and however long each page is worked on.

use std::fmt::Debug;

use futures::{Stream, stream::try_unfold};
use kube::{
    Api,
    api::ListParams,
    core::{ObjectList, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use super::kubernetes::{CALL_TIMEOUT, CallError, call};

/// Objects on a page.
const PAGE: u32 = 500;

/// The metadata of all objects. Those that are made meanwhile may be missing.
pub fn pages<K>(api: &Api<K>) -> impl Stream<Item = Result<Vec<PartialObjectMeta<K>>, CallError>>
where
    K: Clone + DeserializeOwned + Debug,
{
    try_unfold(Some(ListParams::default().limit(PAGE)), move |page| async move {
        let Some(page) = page else { return Ok(None) };
        let listed = list(api, &page).await?;
        let token = listed.metadata.continue_.filter(|token| !token.is_empty());
        Ok(Some((listed.items, token.map(|token| page.continue_token(&token)))))
    })
}

/// A page. An API server keeps the list as it was for some minutes only (etcd is compacted every five); whoever works on a page for longer is
/// refused with 410 and the place from which the rest can be had, as it is by then.
async fn list<K>(api: &Api<K>, page: &ListParams) -> Result<ObjectList<PartialObjectMeta<K>>, CallError>
where
    K: Clone + DeserializeOwned + Debug,
{
    let list = async |page: &ListParams| call("list them", CALL_TIMEOUT, api.list_metadata(page)).await;
    match list(page).await {
        // Without a place to go on from, all is listed again: what has been done then is found done.
        Err(error) if page.continue_token.is_some() && error.is(|status| status.code == 410) => {
            tracing::info!("the API server has dropped the list as it was; the rest is listed as it is now");
            list(&ListParams { continue_token: error.next_place(), ..page.clone() }).await
        }
        listed => listed,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{
        Json, Router,
        extract::Query,
        http::StatusCode,
        response::{IntoResponse as _, Response},
    };
    use futures::TryStreamExt as _;
    use k8s_openapi::api::core::v1::Secret;
    use kube::{Client, ResourceExt};
    use serde_json::json;

    use super::*;

    /// The names that are listed, and the places that the API server was asked for; its answers in order.
    async fn listed(answers: Vec<Response>) -> (Result<Vec<String>, CallError>, Vec<Option<String>>) {
        let (places, answers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(answers.into_iter())));
        let asked = Arc::clone(&places);
        let answer = async move |Query(query): Query<std::collections::HashMap<String, String>>| {
            asked.lock().unwrap().push(query.get("continue").cloned());
            answers.lock().unwrap().next().expect("no more is asked")
        };
        let api: Api<Secret> = Api::all(Client::new(Router::new().fallback(answer), "ns"));
        let names = pages(&api).map_ok(|page| page.iter().map(ResourceExt::name_any).collect::<Vec<_>>()).try_concat();
        let names = names.await;
        let places = places.lock().unwrap().clone();
        (names, places)
    }

    fn page_of(name: &str, next: Option<&str>) -> Response {
        let items =
            [json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name}})];
        let list = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {"continue": next}, "items": items,
        });
        Json(list).into_response()
    }

    fn dropped(next: Option<&str>) -> Response {
        let status = json!({
            "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "The provided continue parameter is too old",
            "metadata": {"continue": next},
        });
        (StatusCode::GONE, Json(status)).into_response()
    }

    #[tokio::test]
    async fn whoever_works_on_a_page_for_long_gets_the_rest_all_the_same() {
        let some = |place: &str| Some(place.to_owned());
        let (names, places) =
            listed(vec![page_of("a", Some("1")), dropped(Some("2")), page_of("b", Some("3")), page_of("c", None)])
                .await;
        assert_eq!(names.unwrap(), ["a", "b", "c"]);
        assert_eq!(places, [None, some("1"), some("2"), some("3")]);
        // One that names no place.
        let (names, places) = listed(vec![page_of("a", Some("1")), dropped(None), page_of("a", None)]).await;
        assert_eq!((names.unwrap(), places), (vec!["a".to_owned(), "a".to_owned()], vec![None, some("1"), None]));
        // Nobody is asked for ever.
        let (names, places) = listed(vec![page_of("a", Some("1")), dropped(Some("2")), dropped(Some("3"))]).await;
        assert!(names.unwrap_err().is(|status| status.code == 410));
        assert_eq!(places.len(), 3);
        assert!(listed(vec![dropped(Some("1"))]).await.0.is_err());
    }
}
