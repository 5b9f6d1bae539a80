//! `kubectl whatsapp` where the way to the API server leads through a proxy, and where it must not.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};

use crate::{
    plugin_messages::text,
    support::{
        program::executable,
        world::{cluster, host},
    },
};

/// Every command here ends by itself; a machine that also compiles is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// A name that nobody can look up but a proxy.
const SERVER: &str = "k8s.behind-the-proxy.invalid:6443";
const PASSWORD: &str = "s3cret-of-the-proxy";

/// A proxy that makes tunnels, all of them to one place, for everybody or for who has the credentials.
struct Tunnels {
    address: String,
    /// The first line of each request for one.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    async fn start(target: String, credentials: Option<&str>) -> Self {
        let wanted = credentials.map(|plain| format!("Basic {}", STANDARD.encode(plain)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(tunnel(near, target.clone(), wanted.clone(), Arc::clone(&noted)));
            }
        });
        Self { address, asked }
    }

    /// What it was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

async fn tunnel(mut near: TcpStream, target: String, wanted: Option<String>, asked: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match near.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    asked.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
    let has = |wanted: &String| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .any(|(name, value)| name.eq_ignore_ascii_case("proxy-authorization") && value == wanted)
    };
    if wanted.as_ref().is_some_and(|wanted| !has(wanted)) {
        let _ = near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await;
        return;
    }
    let Ok(mut far) = TcpStream::connect(&target).await else { return };
    if near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}

/// A kubeconfig with another cluster than the one of `kubeconfig`: some fields replaced.
fn changed(kubeconfig: &Path, dir: &Path, name: &str, fields: Value) -> PathBuf {
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig).unwrap()).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        config["clusters"][0]["cluster"][field] = value.clone();
    }
    let file = dir.join(name);
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

/// What a program prints in an environment with these proxies and no others, when it ends with this code.
async fn run(program: &str, arguments: &[&str], kubeconfig: &Path, variables: &[(&str, &str)], code: i32) -> String {
    let mut command = Command::new(executable(program));
    command.args(arguments).arg("--kubeconfig").arg(kubeconfig);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command.env_remove("KUBECONFIG").envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.expect("it ends by itself").unwrap();
    let (out, err) = text(&output, code);
    assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "the password is printed");
    out + &err
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_reached_through_the_proxy_that_kubectl_would_take_and_no_password_is_printed() {
    let (_, kubeconfig) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let config: Value = serde_json::from_str(&std::fs::read_to_string(&kubeconfig).unwrap()).unwrap();
    let here = host(config["clusters"][0]["cluster"]["server"].as_str().unwrap());
    let named = here.split(':').next().unwrap();
    let behind = changed(
        &kubeconfig,
        dir.path(),
        "behind",
        json!({"server": format!("https://{SERVER}"), "tls-server-name": named}),
    );
    let open = Tunnels::start(here.clone(), None).await;
    let credentials = format!("anna:{PASSWORD}");
    let guarded = Tunnels::start(here.clone(), Some(&credentials)).await;
    let of = |proxy: &Tunnels, user: &str| format!("http://{user}{}", proxy.address);
    let (open_url, with, without) =
        (of(&open, ""), of(&guarded, &format!("{credentials}@")), of(&guarded, &format!("bob:{PASSWORD}@")));
    let list = ["list", "-A", "-o", "name"];
    let plugin = "kubectl-whatsapp";
    let connect = format!("CONNECT {SERVER} HTTP/1.1");

    for (proxy, url) in [(&open, &open_url), (&guarded, &with)] {
        run(plugin, &list, &behind, &[("HTTPS_PROXY", url), ("NO_PROXY", "localhost,.svc,")], 0).await;
        assert!(proxy.asked().contains(&connect));
    }
    // The operator's programs go the same way.
    run(
        "whatsapp-operator",
        &["release-instances", "--watch-namespaces", "nobody"],
        &behind,
        &[("https_proxy", &with)],
        0,
    )
    .await;
    assert!(guarded.asked().contains(&connect));

    // A proxy that does not let one through is named without credentials.
    let said = run(plugin, &list, &behind, &[("HTTPS_PROXY", &without)], 1).await;
    assert!(
        said.contains(&format!("(through the proxy {})", of(&guarded, ""))) && said.contains("authorization"),
        "{said}"
    );
    assert_eq!(guarded.asked().len(), 1);
    let ftp = format!("ftp://{credentials}@127.0.0.1:1");
    let said = run(plugin, &list, &behind, &[("HTTPS_PROXY", &ftp)], 1).await;
    assert!(said.contains("HTTPS_PROXY") && said.contains("\"ftp\""), "{said}");
    let said = run("whatsapp-operator", &["release-instances"], &behind, &[("HTTPS_PROXY", &ftp)], 1).await;
    assert!(said.contains("HTTPS_PROXY") && said.contains("\"ftp\""), "{said}");

    // NO_PROXY covers it; nobody knows the name.
    run(plugin, &list, &behind, &[("HTTPS_PROXY", &with), ("NO_PROXY", ".invalid")], 1).await;
    // This machine is reached without one, unless the kubeconfig says otherwise.
    run(plugin, &list, &kubeconfig, &[("HTTPS_PROXY", &with), ("HTTP_PROXY", &with)], 0).await;
    assert_eq!(guarded.asked(), [""; 0]);
    let stated = changed(&kubeconfig, dir.path(), "stated", json!({ "proxy-url": with }));
    run(plugin, &list, &stated, &[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "*")], 0).await;
    assert!(guarded.asked().contains(&format!("CONNECT {here} HTTP/1.1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_sees_the_token_that_goes_to_a_gateway_of_plain_http() {
    let (_, kubeconfig) = cluster().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&kubeconfig).unwrap()).unwrap();
    config["users"][0]["user"] = json!({"token": "a-token"});
    let file = dir.path().join("token");
    std::fs::write(&file, config.to_string()).unwrap();
    // What comes to it would be tunnelled, or noted.
    let proxy = Tunnels::start("127.0.0.1:1".to_owned(), None).await;
    let url = format!("http://{}", proxy.address);
    let variables = [("HTTP_PROXY", url.as_str()), ("http_proxy", &url), ("HTTPS_PROXY", &url), ("ALL_PROXY", &url)];
    for gateway in ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://localhost:1", "http://gateway.invalid"] {
        let said =
            run("kubectl-whatsapp", &["dashboard", "--no-open", "--gateway", gateway], &file, &variables, 1).await;
        assert!(said.contains("cannot reach the gateway"), "{said}");
        assert_eq!(proxy.asked(), [""; 0], "{gateway}");
    }
    // One elsewhere that speaks TLS is reached as the environment says: the proxy sees a name and no more.
    run("kubectl-whatsapp", &["dashboard", "--no-open", "--gateway", "https://gateway.invalid"], &file, &variables, 1)
        .await;
    assert_eq!(proxy.asked(), ["CONNECT gateway.invalid:443 HTTP/1.1"]);
}
