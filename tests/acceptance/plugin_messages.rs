//! `kubectl whatsapp send`, `messages` and `cancel` as a person uses them, by the gateway.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
    time::timeout,
};
use whatsapp_operator::api::Phase;

use crate::{
    gateway::world,
    gateway_messages::{connected, until_primary},
    support::{
        gateway::{ALL_VERBS, Rest, account, answered, token_that_lasts},
        program::executable,
        world::{SOON, World},
    },
};

const FRIEND: &str = "+15550209901";

/// The plugin with this kubeconfig in the world's namespace; where the gateway is stands in the environment.
pub fn plugin(world: &World, kubeconfig: &Path, gateway: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(executable("kubectl-whatsapp"));
    command.args(arguments).args(["--namespace", &world.name, "--kubeconfig"]).arg(kubeconfig);
    command.env_remove("KUBECONFIG").env("WHATSAPP_GATEWAY", gateway);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub async fn ended(mut command: Command) -> Output {
    timeout(SOON * 3, command.spawn().unwrap().wait_with_output()).await.expect("it ends").unwrap()
}

/// What it printed, when it ended with this code; what it complained of is the second.
pub fn text(output: &Output, code: i32) -> (String, String) {
    let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (of(&output.stdout), of(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

/// A kubeconfig like the administrator's, with other credentials.
pub fn kubeconfig(world: &World, name: &str, user: Value) -> PathBuf {
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
    config["users"][0]["user"] = user;
    let file = world.dir.join(format!("{name}.kubeconfig"));
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_listed_and_called_back_from_a_terminal() {
    let phone = "+15550209001";
    let world = world("plugin-messages").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", phone).await;
    until_primary(&rest, &token, &session).await;
    let name = rest.get(&token, &format!("/api/v1/sessions/status/{session}/")).await.data(200)["object"].clone();
    let name = name.as_str().unwrap();
    let own = kubeconfig(&world, "app", json!({ "token": token }));
    let run = async |arguments: &[&str]| ended(plugin(&world, &own, &rest.url, arguments)).await;

    // Watched from before.
    let mut watch = plugin(&world, &own, &rest.url, &["messages", name, "-w"]).spawn().unwrap();
    let mut watched = BufReader::new(watch.stdout.take().unwrap()).lines();
    let heading = timeout(SOON, watched.next_line()).await.unwrap().unwrap().unwrap();
    assert!(heading.starts_with("ID") && heading.contains("STATUS"), "{heading}");

    let (out, err) = text(&run(&["send", name, "--to", FRIEND, "--wait", "Hello from a terminal"]).await, 0);
    assert!(
        out.lines().next().unwrap().starts_with("message/")
            && [" sent", " delivered"].iter().any(|end| out.trim_end().ends_with(end)),
        "{out}"
    );
    assert!(err.is_empty(), "{err}");
    let id = out.split_whitespace().next().unwrap().trim_start_matches("message/").to_owned();
    let seen = async {
        loop {
            let line = watched.next_line().await.unwrap().expect("it goes on");
            if line.starts_with(&id) && line.contains("delivered") {
                return;
            }
        }
    };
    timeout(SOON, seen).await.expect("what becomes of it is shown");
    watch.kill().await.unwrap();

    // The same key is the same message, from standard input too.
    let key = ["--idempotency-key", "order-17", "-o", "json"];
    let first = text(&run(&[&["send", name, "--to", FRIEND, "--wait", "Order 17"], &key[..]].concat()).await, 0).0;
    let first: Value = serde_json::from_str(&first).unwrap();
    let mut piped =
        plugin(&world, &own, &rest.url, &[&["send", name, "--to", FRIEND, "--wait", "-"], &key[..]].concat());
    let mut child = piped.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Order 17\n").await.unwrap();
    let again = timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    let again: Value = serde_json::from_str(&text(&again, 0).0).unwrap();
    assert_eq!((&first["id"], &first["message"]), (&again["id"], &json!("Order 17")));

    let table = text(&run(&["messages", name]).await, 0).0;
    assert!(table.lines().count() == 3 && !table.contains("Order 17"), "{table}");
    assert!(text(&run(&["messages", name, "-o", "wide", "--limit", "1"]).await, 0).0.contains("Order 17"));
    let all: Value = serde_json::from_str(&text(&run(&["messages", name, "-o", "json"]).await, 0).0).unwrap();
    assert_eq!(all["messages"].as_array().unwrap().len(), 2);

    // What cannot be sent says why.
    let (_, err) = text(&run(&["send", name, "--to", "+15559990001", "--wait", "Hello"]).await, 1);
    assert!(err.contains("NotOnWhatsApp"), "{err}");
    let (_, err) = text(&run(&["send", name, "--to", "anna", "Hello"]).await, 1);
    assert!(err.contains("the gateway refused") && err.contains("Invalid"), "{err}");
    let (_, err) = text(&run(&["send", name, "--to", FRIEND, " "]).await, 2);
    assert!(err.contains("there is no text"), "{err}");
    text(&run(&["send", "nobody", "--to", FRIEND, "Hello"]).await, 1);

    // What waits says for what, and can be called back.
    world.patch_spec(name, json!({"desiredState": "Disconnected"})).await;
    world.history.until_phase(name, Phase::Disconnected, SOON).await;
    let waiting = ["send", name, "--to", FRIEND, "--wait", "--timeout", "2s", "Later"];
    let (out, err) = text(&run(&waiting).await, 4);
    assert!(out.contains("queued, waits for connection") && err.contains("kubectl whatsapp cancel"), "{out}{err}");
    let id = out.split_whitespace().next().unwrap().to_owned();
    // The hidden verb reads the cluster from the words it is given.
    let mut words = Command::new(executable("kubectl-whatsapp"));
    words.args(["__complete", "--", "-n", &world.name, "--kubeconfig"]).arg(&own).args(["cancel", ""]);
    words.env("WHATSAPP_GATEWAY", &rest.url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let offered = text(&ended(words).await, 0).0;
    assert!(offered.contains(id.trim_start_matches("message/")), "{offered}");
    let (out, _) = text(&run(&["cancel", &id]).await, 0);
    assert_eq!(out.trim(), format!("{id} cancelled"));
    assert_eq!(text(&run(&["cancel", &id, "-o", "name"]).await, 0).0.trim(), id);
    let (_, err) = text(&run(&["cancel", first["id"].as_str().unwrap()]).await, 1);
    assert!(err.contains("TooLate"), "{err}");
    text(&run(&["cancel", "nonsense"]).await, 2);

    world.apply("new", json!({"owner": crate::support::gateway::user(&world, "app")})).await;
    world.qr("new").await;
    let (_, err) = text(&run(&["send", "new", "--to", FRIEND, "Hello"]).await, 5);
    assert!(err.contains("kubectl whatsapp qr new"), "{err}");
    let texts: Vec<String> = world.whatsapp.inbox(FRIEND).await.into_iter().map(|line| line.text).collect();
    assert_eq!(texts, ["Hello from a terminal", "Order 17"]);
    rest.nothing_leaked(&world, &[FRIEND, phone, "Hello from a terminal"], &[&token]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_called_with_the_kubeconfigs_own_credentials_or_it_is_said_why_not() {
    let world = world("plugin-messages-credentials").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    world.apply("shop", json!({"owner": crate::support::gateway::user(&world, "app")})).await;
    world.qr("shop").await;
    // What the gateway answers about a session, it also goes by.
    rest.get(&token, &format!("/api/v1/sessions/status/shop/?namespace={}", world.name)).await.data(200);
    let list = ["messages", "shop"];
    let empty = |output: &Output| text(output, 0).1.contains("No messages of \"shop\"");

    // A token in the file, in a file beside it, or from a program.
    let file = world.dir.join("app.token");
    std::fs::write(&file, &token).unwrap();
    let says =
        json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}});
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [says.to_string()], "interactiveMode": "Never",
    });
    for (name, user) in [
        ("token", json!({ "token": token })),
        ("file", json!({ "tokenFile": file })),
        ("exec", json!({ "exec": exec })),
    ] {
        let own = kubeconfig(&world, name, user);
        let output = ended(plugin(&world, &own, &rest.url, &list)).await;
        assert!(empty(&output), "{name}");
    }

    // A client certificate cannot be passed on.
    let signing = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&signing).unwrap().pem();
    let with_certificate = kubeconfig(
        &world,
        "certificate",
        json!({"client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(signing.serialize_pem())}),
    );
    let (_, err) = text(&ended(plugin(&world, &with_certificate, &rest.url, &list)).await, 1);
    assert!(err.contains("--as-service-account NAME") && err.contains(&world.name), "{err}");
    // Nor can whom one impersonates.
    let admin = world.kubeconfig.clone();
    let impersonating = [&list[..], &["--as", "bob"]].concat();
    let (_, err) = text(&ended(plugin(&world, &admin, &rest.url, &impersonating)).await, 2);
    assert!(err.contains("--as-service-account NAME"), "{err}");
    let as_app = [&list[..], &["--as-service-account", "app"]].concat();
    assert!(empty(&ended(plugin(&world, &admin, &rest.url, &as_app)).await));
    let as_nobody = [&list[..], &["--as-service-account", "nobody"]].concat();
    let (_, err) = text(&ended(plugin(&world, &admin, &rest.url, &as_nobody)).await, 1);
    assert!(err.contains("no service account \"nobody\""), "{err}");

    // Somebody whom RBAC lets see the instance, and not its messages.
    let viewer = account(&world, "viewer", &["get", "list", "watch"]).await;
    let viewer = kubeconfig(&world, "viewer", json!({ "token": viewer }));
    let (_, err) = text(&ended(plugin(&world, &viewer, &rest.url, &list)).await, 1);
    assert!(err.contains("(NotFound, "), "{err}");

    // Where the gateway is.
    let own = kubeconfig(&world, "token", json!({ "token": token }));
    let (_, err) = text(&ended(plugin(&world, &own, "", &list)).await, 1);
    assert!(err.contains("cannot find the gateway") && err.contains("--gateway URL"), "{err}");
    let (_, err) = text(&ended(plugin(&world, &own, "http://127.0.0.1:1", &list)).await, 1);
    assert!(err.contains("cannot reach the gateway at http://127.0.0.1:1/"), "{err}");
    let (_, err) = text(&ended(plugin(&world, &own, "127.0.0.1:1", &list)).await, 2);
    assert!(err.contains("--gateway"), "{err}");
    let (_, err) = text(&ended(plugin(&world, &own, &rest.admin, &list)).await, 1);
    assert!(err.contains("is no gateway"), "{err}");
    assert!(!err.contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linking_link_is_made_and_taken_back_from_a_terminal() {
    let world = world("plugin-link").await;
    let rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let own = kubeconfig(&world, "app", json!({ "token": token }));
    let run = async |arguments: &[&str]| ended(plugin(&world, &own, &rest.url, arguments)).await;
    world.apply("shop", json!({"owner": crate::support::gateway::user(&world, "app")})).await;
    world.qr("shop").await;

    let (link, words) = text(&run(&["link", "shop", "--expires-in", "2m"]).await, 0);
    let link = link.trim_end();
    assert!(link.starts_with(&format!("{}/dashboard/link#", rest.url)), "it leads to the gateway");
    assert!(words.contains("link shop --revoke") && !words.contains(link), "{words}");
    let code = async |link: &str| {
        let body = json!({"link": link.split_once('#').unwrap().1, "browser": "0000000000000001"});
        answered(rest.request("POST", "/api/v1/linking-code").json(&body)).await
    };
    let shown = code(link).await.data(200)["state"].clone();
    assert!(shown == "code" || shown == "waiting", "{shown}");
    assert!(text(&run(&["link", "shop", "--revoke"]).await, 0).0.contains("shop"));
    code(link).await.refused(410, "LinkOver");

    let made: Value = serde_json::from_str(&text(&run(&["link", "shop", "-o", "json"]).await, 0).0).unwrap();
    assert!(made["expires_at"].is_string() && made["link"] != link);
    for wrong in [&["link", "shop", "--expires-in", "1s"][..], &["link", "nobody"]] {
        assert!(!text(&run(wrong).await, 1).1.is_empty());
    }
    text(&run(&["link", "shop", "--revoke", "--expires-in", "2m"]).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_its_token_and_the_gateway() {
    let phone = "+15550209002";
    let world = world("plugin-messages-lasting").await;
    let mut rest = Rest::start(&world, &[]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let session = connected(&world, &rest, &token, "First", phone).await;
    until_primary(&rest, &token, &session).await;
    let name = rest.get(&token, &format!("/api/v1/sessions/status/{session}/")).await.data(200)["object"].clone();
    let name = name.as_str().unwrap();
    let lasting = kubeconfig(&world, "lasting", json!({ "token": token }));
    // The first token ends soon; what is in the file by then takes its place.
    let file = world.dir.join("app.token");
    let first = token_that_lasts(&world, "app", 20).await;
    std::fs::write(&file, &first).unwrap();
    let own = kubeconfig(&world, "renewed", json!({ "tokenFile": file }));
    let mut watch = plugin(&world, &own, &rest.url, &["messages", name, "-w"]).spawn().unwrap();
    let mut watched = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut complaints = BufReader::new(watch.stderr.take().unwrap()).lines();
    let heading = timeout(SOON, watched.next_line()).await.unwrap().unwrap().expect("it begins before its token ends");
    assert!(heading.starts_with("ID"), "{heading}");
    std::fs::write(&file, &token).unwrap();
    let mut shown = async |words: &str, gateway: &str| {
        let sent = ended(plugin(&world, &lasting, gateway, &["send", name, "--to", FRIEND, "--wait", words])).await;
        let sent = text(&sent, 0).0;
        let id = sent.split_whitespace().next().unwrap().trim_start_matches("message/").to_owned();
        let seen = async { while !watched.next_line().await.unwrap().expect("it goes on").starts_with(&id) {} };
        timeout(SOON, seen).await.expect("it is shown");
    };
    let ended = async {
        while rest.get(&first, "/api/v1/me").await.status != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    timeout(SOON * 3, ended).await.expect("the token ends");
    shown("After the first token", &rest.url).await;

    // The gateway goes away, and comes back.
    rest.program.stop();
    let complaint = timeout(SOON, complaints.next_line()).await.expect("it is said").unwrap().unwrap();
    assert!(complaint.starts_with("lost the connection and keeps trying: cannot reach the gateway"), "{complaint}");
    rest.restart().await;
    shown("After the first gateway", &rest.url).await;
    watch.kill().await.unwrap();
    assert_eq!(timeout(SOON, complaints.next_line()).await.unwrap().unwrap(), None, "it is said once");
    rest.nothing_leaked(&world, &[FRIEND, phone, "After the first"], &[&first, &token]).await;
}
