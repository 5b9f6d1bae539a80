//! The demo's programs, and what it prints of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use whatsapp_operator::{
    admission::configuration::{Parameters, Reach, mutating, validating},
    api::{WhatsAppBridge, WhatsAppInstance, labels},
    plugin::terminal::{Ink, draw},
};

use crate::FRIEND;
use crate::support::{
    control_plane::ControlPlane,
    gateway::{Rest, apply, make_account, token_of},
    history::{History, Seen},
    phone::WhatsApp,
    program::Program,
    webhooks,
    world::{self, BridgeAddress, OperatorAddress},
};

const NAMESPACE: &str = "default";
const BRIDGE: &str = "builtin";
/// Name of both webhook configurations.
const CONFIGURATION: &str = "whatsapp-operator";
/// The owner in examples/instance.yaml.
pub const OWNER: &str = "alice@example.com";
/// The service account in examples/application-role.yaml.
const APPLICATION: &str = "app";

/// Everything that runs.
pub struct Stage {
    pub history: History,
    client: Client,
    dir: PathBuf,
    whatsapp: Option<(Program, WhatsApp)>,
    bridge: Program,
    operator: Program,
    /// The REST API.
    pub rest: Rest,
    /// The application's token for it.
    pub token: String,
    // Last, so that it outlives what talks to it.
    plane: ControlPlane,
}

impl Stage {
    /// Starts it all, saying what it is at.
    pub async fn set(real: bool) -> Self {
        let dir = world::target_dir().join("demo");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("create target/demo");
        println!("==> starting etcd and kube-apiserver (about 5 s)");
        let plane = ControlPlane::start(&Default::default()).await.unwrap_or_else(|error| give_up(&error.to_string()));
        fs::copy(plane.kubeconfig(), dir.join("kubeconfig")).expect("write target/demo/kubeconfig");
        let client = world::client(&plane.kubeconfig()).await;
        world::install_crds(&client).await;
        world::create_namespace(&client, NAMESPACE).await;
        let history = History::watch(client.clone(), NAMESPACE).await;

        let token = world::token();
        let mut bridge = world::bridge_program(&dir, &token);
        let whatsapp = if real {
            println!("==> starting the bridge, towards the real WhatsApp");
            bridge = bridge.executable(world::target_dir().join("strict/whatsapp-bridge"));
            None
        } else {
            println!("==> starting the simulated WhatsApp and the bridge");
            let (program, whatsapp) = world::start_whatsapp(&dir).await;
            bridge = bridge.args(["--whatsapp-url", &whatsapp.url, "--whatsapp-version", world::VERSION]);
            Some((program, whatsapp))
        };
        let address: BridgeAddress = bridge.start().await;
        // The bridge's name and the namespace of its Secret are the same in create_bridge; the demo's are.
        world::create_namespace(&client, BRIDGE).await;
        world::create_bridge(&client, BRIDGE, &[&address.http], &token).await;
        let default = json!({"metadata": {"annotations": {labels::IS_DEFAULT_BRIDGE: "true"}}});
        let bridges: Api<WhatsAppBridge> = Api::all(client.clone());
        bridges.patch(BRIDGE, &PatchParams::default(), &Patch::Merge(default)).await.expect("mark the default bridge");

        println!("==> starting the operator with its admission webhooks");
        let mut operator = world::operator_program(&dir, &plane.kubeconfig(), NAMESPACE, Some(CONFIGURATION));
        let operator_address: OperatorAddress = operator.start().await;
        install_webhooks(&client, operator_address.webhook.as_deref().expect("the operator serves webhooks")).await;
        println!("==> starting the gateway");
        let token = application(&client).await;
        fs::write(dir.join("token"), &token).expect("write target/demo/token");
        let rest = Rest::start_as(&dir.join("gateway"), &plane.kubeconfig(), NAMESPACE, &[]).await;
        let stage = Self { history, client, dir, whatsapp, bridge, operator, rest, token, plane };
        webhooks::until_asked(&stage.instances(), &probe()).await;
        stage.write_env(&address, &operator_address);
        stage
    }

    /// Creates an instance of the example's owner; the API server's words when it is refused.
    pub async fn create(&self, object_name: &str, name: &str) -> Result<(), String> {
        let object = json!({
            "metadata": {"name": object_name}, "spec": {"name": name, "owner": OWNER, "desiredState": "Disconnected"},
        });
        let object: WhatsAppInstance = serde_json::from_value(object).expect("an instance");
        let created = self.instances().create(&PostParams::default(), &object).await;
        created.map(drop).map_err(|error| error.to_string())
    }

    /// `kubectl whatsapp set-primary NAME`.
    pub fn set_primary(&self, name: &str) -> Result<(), String> {
        let plugin = crate::support::program::profile_dir().join("kubectl-whatsapp");
        let kubeconfig = self.dir.join("kubeconfig");
        let output = Command::new(plugin)
            .args(["set-primary", name, "--wait", "--timeout", "30s", "--kubeconfig"])
            .arg(kubeconfig)
            .output()
            .expect("run kubectl-whatsapp");
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// For a person or a script that wants to join in.
    fn write_env(&self, bridge: &BridgeAddress, operator: &OperatorAddress) {
        let mut lines = vec![
            format!("KUBECONFIG={}", self.dir.join("kubeconfig").display()),
            format!("BRIDGE_URL={}", bridge.http),
            format!("BRIDGE_ADMIN_URL={}", bridge.admin),
            format!("BRIDGE_TOKEN_FILE={}", self.dir.join("bridge-token").display()),
            format!("BRIDGE_PID={}", self.bridge.pid()),
            format!("OPERATOR_ADMIN_URL={}", operator.admin),
            format!("OPERATOR_PID={}", self.operator.pid()),
            format!("GATEWAY_URL={}", self.rest.url),
            format!("GATEWAY_PID={}", self.rest.program.pid()),
            format!("GATEWAY_TOKEN_FILE={}", self.dir.join("token").display()),
        ];
        if let Some((program, whatsapp)) = &self.whatsapp {
            lines.push(format!("WHATSAPP_URL={}", whatsapp.url));
            lines.push(format!("WHATSAPP_CONTROL_URL={}", whatsapp.control()));
            lines.push(format!("WHATSAPP_PID={}", program.pid()));
        }
        fs::write(self.dir.join("env"), lines.join("\n") + "\n").expect("write target/demo/env");
    }

    /// The simulated WhatsApp.
    pub fn whatsapp(&self) -> &WhatsApp {
        &self.whatsapp.as_ref().expect("the demo runs with the simulated WhatsApp").1
    }

    fn instances(&self) -> Api<WhatsAppInstance> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// `kubectl apply -f examples/instance.yaml`.
    pub async fn apply_example(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/instance.yaml");
        let text = fs::read_to_string(file).expect("read examples/instance.yaml");
        let object: Value = serde_saphyr::from_str(&text).expect("examples/instance.yaml is YAML");
        let name = object["metadata"]["name"].as_str().expect("the example has a name");
        self.instances()
            .patch(name, &PatchParams::apply("demo"), &Patch::Apply(&object))
            .await
            .expect("apply the example");
    }

    /// Connected or Disconnected.
    pub async fn set_desired_state(&self, name: &str, state: &str) {
        let patch = json!({"spec": {"desiredState": state}});
        self.instances().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch the instance");
    }

    /// `kubectl delete`.
    pub async fn delete(&self, name: &str) {
        self.instances().delete(name, &DeleteParams::default()).await.expect("delete the instance");
    }

    /// A curl line that sends a message; run from the folder of the checkout.
    pub fn send_line(&self) -> String {
        let body = json!({"recipient": FRIEND, "message": "Hello from curl"});
        format!(
            "curl -sS --json '{body}' -H \"Authorization: Bearer $(cat target/demo/token)\" \"{}/api/v1/messages/send/?owner={OWNER}&wait=10\"",
            self.rest.url
        )
    }

    /// The line with which three owners have three instances each.
    pub fn three_owners_line(&self) -> String {
        format!(
            "for o in alice bob carol; do for n in 1 2 3; do sed \"s/name: business-account/name: $o-$n/; s/Business Account/Line $n of $o/; s/alice@/$o@/\" examples/instance.yaml | {} apply -f -; done; done",
            self.kubectl()
        )
    }

    fn kubectl(&self) -> String {
        self.plane.kubectl().map_or_else(|| "kubectl".to_owned(), |path| path.display().to_string())
    }

    /// What a person may do now.
    pub fn print_how_to_join(&self, name: &str, dashboard: &str) {
        let kubectl = self.kubectl();
        println!(
            "\nThe dashboard, signed in as the application \"{APPLICATION}\" of this demo; switch to everyone's to see the example:"
        );
        println!("  {dashboard}");
        println!("In another terminal, from this folder:");
        println!("  export KUBECONFIG=$PWD/target/demo/kubeconfig PATH=$PWD/target/debug:$PATH");
        println!("  {kubectl} get whatsappinstances -o wide -w");
        println!("  kubectl-whatsapp qr {name}");
        if let Some((_, whatsapp)) = &self.whatsapp {
            println!("Scan as the simulated phone:");
            println!(
                "  simulated-whatsapp scan --control {} --phone +15550001111 --push-name Alice --qr \"$(kubectl-whatsapp qr {name} --once -o raw)\"",
                whatsapp.control()
            );
        } else {
            println!("Scan with your phone: WhatsApp > Settings > Linked devices > Link a device.");
        }
        println!("See the rules at work:");
        println!("  # an equal name is refused");
        println!("  sed 's/name: business-account/name: copy/' examples/instance.yaml | {kubectl} apply -f -");
        println!("  # of eleven instances the 11th is refused (the one above is the first)");
        println!(
            "  for n in $(seq 2 11); do sed \"s/name: business-account/name: line-$n/; s/Business Account/Line $n/\" examples/instance.yaml | {kubectl} apply -f -; done"
        );
        println!("  # three owners with three instances each");
        println!("  {}", self.three_owners_line());
        println!("  kubectl-whatsapp owners");
        println!("  # scan line-2 as another phone (--phone +15550002222), then make it the primary one");
        println!("  kubectl-whatsapp set-primary line-2 --wait");
        println!(
            "Use the REST API as an application; the gateway is {0}, a page to try it is {0}/api/v1/docs",
            self.rest.url
        );
        println!(
            "  curl -sS --json '{{\"name\": \"From curl\"}}' -H \"Authorization: Bearer $(cat target/demo/token)\" {}/api/v1/sessions/init/",
            self.rest.url
        );
        println!("Send a message once {name} is scanned:");
        println!("  {}", self.send_line());
        println!("  export WHATSAPP_GATEWAY={}", self.rest.url);
        println!("  kubectl-whatsapp send {name} --to {FRIEND} --wait \"Hello again\"");
        println!("  kubectl-whatsapp messages {name} -o wide");
        if let Some((_, whatsapp)) = &self.whatsapp {
            println!("  simulated-whatsapp inbox --control {} --phone {FRIEND}    # what arrived", whatsapp.control());
        }
        println!("Addresses, pids and logs are in target/demo. Ctrl-C stops everything.\n");
    }
}

/// Runs a line as a person would, from the folder of the checkout.
pub fn shell(line: &str) -> std::process::Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new("bash").args(["-c", line]).current_dir(root).output().expect("run bash")
}

/// An application with the rights of examples/application-role.yaml; its token.
async fn application(client: &Client) -> String {
    make_account(client, NAMESPACE, APPLICATION).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/application-role.yaml");
    let text = fs::read_to_string(file).expect("read examples/application-role.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("examples/application-role.yaml is YAML");
    for object in objects {
        apply(client, &object).await;
    }
    token_of(client, NAMESPACE, APPLICATION, None).await
}

/// Registers the webhooks as an installation does: by address, since there are no Services here.
async fn install_webhooks(client: &Client, url: &str) {
    let wanted = Parameters {
        name: CONFIGURATION.to_owned(),
        reach: Reach::Url(url.to_owned()),
        ca_bundle: None,
        namespaces: None,
    };
    let apply = PatchParams::apply("demo").force();
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(CONFIGURATION, &apply, &Patch::Apply(mutating(&wanted))).await.expect("register the mutating webhook");
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    api.patch(CONFIGURATION, &apply, &Patch::Apply(validating(&wanted)))
        .await
        .expect("register the validating webhook");
}

/// An instance to try by a dry run.
fn probe() -> WhatsAppInstance {
    let object = json!({"metadata": {"name": "probe"}, "spec": {"name": "Probe", "owner": "probe@example.com"}});
    serde_json::from_value(object).expect("an instance")
}

/// One version of the instance, as the demo shows it.
pub fn screen(seen: &Seen) -> String {
    let Some(instance) = &seen.instance else { return format!("{}: deleted", seen.name) };
    let status = instance.status.clone().unwrap_or_default();
    let phase = status.phase.map_or_else(|| "new".to_owned(), |phase| phase.to_string());
    let mut lines = vec![format!("{}: {phase}", seen.name)];
    if let Some(qr) = status.qr {
        let drawn = draw(qr.code.reveal(), Ink::Coloured, None);
        lines.push(drawn.unwrap_or_else(|| "the code is too long to be drawn".to_owned()));
        lines.push(format!("code {} of {}, expires {}", qr.attempt, qr.attempts, qr.expires_at.0));
    }
    if let Some(phone) = status.phone_number {
        lines.push(format!("linked to {}", phone.reveal()));
    }
    lines.join("\n")
}

fn give_up(error: &str) -> ! {
    eprintln!("demo: {error}");
    std::process::exit(1)
}
