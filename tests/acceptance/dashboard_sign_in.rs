//! The cookie of a browser that is signed in: worth as much as its token, and taken from the gateway's own pages only.

use serde_json::{Value, json};

use crate::{
    gateway::{named, world},
    support::gateway::{ALL_VERBS, Answer, Rest, account, answered, user},
};

/// One request of a browser: with its cookie, and what it says of the page that asks.
async fn asked(rest: &Rest, method: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut request = rest.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answered(if body.is_null() { request } else { request.json(body) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_counts_as_its_token_and_only_from_the_gateways_own_pages() {
    let world = world("dashboard-sign-in").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let own = ("sec-fetch-site", "same-origin");
    let body = json!({ "token": token });
    let sign_in = "/api/v1/sign-in";
    asked(&rest, "POST", sign_in, &json!({"token": "nobodys"}), &[own]).await.refused(401, "Unauthorized");
    asked(&rest, "POST", sign_in, &json!({"token": "x".repeat(3801)}), &[own]).await.refused(422, "Invalid");
    for foreign in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example")]
    {
        asked(&rest, "POST", sign_in, &body, &[foreign]).await.refused(403, "CrossSite");
        asked(&rest, "POST", "/api/v1/sign-out", &Value::Null, &[foreign]).await.refused(403, "CrossSite");
    }

    let signed_in = asked(&rest, "POST", sign_in, &body, &[own]).await;
    assert_eq!(signed_in.data(200)["user"], user(&world, "app"));
    let set = signed_in.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        set.contains("; HttpOnly; SameSite=Strict") && !set.contains("Secure") && !set.contains("Max-Age"),
        "{set}"
    );
    let behind_tls = asked(&rest, "POST", sign_in, &body, &[own, ("x-forwarded-proto", "https")]).await;
    let secure = behind_tls.headers["set-cookie"].to_str().unwrap();
    assert!(secure.starts_with("__Host-") && secure.ends_with("; Secure"));

    let cookie = ("cookie", set.split(';').next().unwrap());
    let me = asked(&rest, "GET", "/api/v1/me", &Value::Null, &[cookie]).await.data(200).clone();
    assert_eq!((&me["signed_in_by"], &me["namespace"]), (&json!("cookie"), &json!(world.name)));
    // Over TLS the name without __Host- may be somebody else's doing, and does not count.
    let over_tls = ("x-forwarded-proto", "https");
    asked(&rest, "GET", "/api/v1/me", &Value::Null, &[cookie, over_tls]).await.refused(401, "Unauthorized");
    let bound = ("cookie", secure.split(';').next().unwrap());
    for headers in [&[bound][..], &[bound, over_tls]] {
        asked(&rest, "GET", "/api/v1/me", &Value::Null, headers).await.data(200);
    }
    let limit = asked(&rest, "GET", "/api/v1/owner", &Value::Null, &[cookie]).await.data(200).clone();
    assert_eq!((&limit["used"], &limit["max"]), (&json!(0), &json!(10)));
    rest.get(&token, "/api/v1/owner?owner=bob@example.com").await.refused(404, "NotAllowed");

    // What changes something takes a page of the gateway's own; programs, which say nothing, send the token as a header.
    let init = "/api/v1/sessions/init/?wait=0";
    let (named, host) = (named(&world, "Mine"), format!("http://{}", rest.url.rsplit('/').next().unwrap()));
    for foreign in [vec![cookie], vec![cookie, ("sec-fetch-site", "cross-site")], vec![cookie, ("origin", "null")]] {
        asked(&rest, "POST", init, &named, &foreign).await.refused(403, "CrossSite");
    }
    // A proxy that signs people in makes a header of its own cookie, also for a page of another site.
    let bearer = format!("Bearer {token}");
    let by_proxy = ("authorization", bearer.as_str());
    let other_site = [by_proxy, ("sec-fetch-site", "cross-site")];
    asked(&rest, "POST", init, &named, &other_site).await.refused(403, "CrossSite");
    // Another window has signed in somebody else since the page that asks was shown.
    let shown_to_bob = [cookie, own, ("x-dashboard-user", "bob%40example.com")];
    asked(&rest, "POST", init, &named, &shown_to_bob).await.refused(409, "AnotherUser");
    let made = asked(&rest, "POST", init, &named, &[cookie, ("origin", &host)]).await.data(201).clone();
    let delete = format!("/api/v1/sessions/delete/{}/?wait=30", made["id"].as_str().unwrap());
    asked(&rest, "DELETE", &delete, &Value::Null, &[cookie]).await.refused(403, "CrossSite");
    asked(&rest, "DELETE", &delete, &Value::Null, &[cookie, own]).await.data(200);

    // A header counts before the cookie, also one that is no good.
    let bad = asked(&rest, "GET", "/api/v1/me", &Value::Null, &[cookie, ("authorization", "Bearer nobodys")]).await;
    bad.refused(401, "Unauthorized");
    assert_eq!(rest.get(&token, "/api/v1/me").await.data(200)["signed_in_by"], "header");
    let out = asked(&rest, "POST", "/api/v1/sign-out", &Value::Null, &[cookie, own]).await;
    assert_eq!(out.data(200)["signed_out"], true);
    assert!(out.headers.get_all("set-cookie").iter().all(|value| value.to_str().unwrap().contains("Max-Age=0")));
    rest.nothing_leaked(&world, &[], &[&token]).await;
}
