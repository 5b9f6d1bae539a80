//! Accounts with the rights that `whatsapp-operator rbac` prints and no others, and what the audit log says they did with them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::{
    gateway::{apply, make_account, token_of, until_allowed, user},
    program::executable,
    world::World,
};

/// Whose rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Operator,
    Gateway,
}

/// The roles and bindings as printed, under this world's names: tests share a cluster. `limited`: only for its namespace.
pub fn committed(world: &World, program: Program, limited: bool) -> Vec<Value> {
    let name = &world.name;
    let mut command = Command::new(executable("whatsapp-operator"));
    command.args(["rbac", "--namespace", name, "--service-account", name]);
    if limited {
        command.args(["--watch-namespaces", name]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects: Vec<Value> = serde_saphyr::from_slice_multiple(&output.stdout).unwrap();
    let gateway = format!("{name}-gateway");
    let is_gateways = |object: &Value| object["metadata"]["name"].as_str().unwrap().starts_with(&gateway);
    let mut objects: Vec<Value> =
        objects.into_iter().filter(|object| is_gateways(object) == (program == Program::Gateway)).collect();
    for rule in objects
        .iter_mut()
        .flat_map(|object| object.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten())
    {
        for one in rule.get_mut("resourceNames").and_then(Value::as_array_mut).into_iter().flatten() {
            match one.as_str().unwrap() {
                "whatsapp-bridge-token" | "whatsapp-operator" => *one = name.as_str().into(),
                "builtin" => *one = format!("{name}-default").into(),
                "whatsapp-operator-webhook" | "whatsapp-bridge-tls" => {}
                other => panic!("a name that the test does not know: {other}"),
            }
        }
    }
    objects
}

/// Gives the account of a program its rights; its kubeconfig.
pub async fn kubeconfig(world: &World, program: Program, rights: &[Value]) -> PathBuf {
    let account = account(world, program);
    for object in rights {
        apply(&world.client, object).await;
    }
    make_account(&world.client, &world.name, &account).await;
    let asks = user(world, &account);
    until_allowed(&world.client, &asks, None, "create", "authorization.k8s.io", "subjectaccessreviews").await;
    let token = token_of(&world.client, &world.name, &account, None).await;
    let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
    for user in config["users"].as_array_mut().unwrap() {
        user["user"] = json!({ "token": token });
    }
    let path = world.dir.join(format!("{account}.kubeconfig"));
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// The service account of a program.
pub fn account(world: &World, program: Program) -> String {
    match program {
        Program::Operator => world.name.clone(),
        Program::Gateway => format!("{}-gateway", world.name),
    }
}

/// One request, or one thing that a role allows: group, resource with subresource, verb, namespace (none: the cluster), name
/// (none: any).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
    namespace: Option<String>,
    name: Option<String>,
}

impl Right {
    fn shown(&self) -> String {
        let Self { group, resource, verb, namespace, name } = self;
        let place = namespace.as_ref().map_or("the cluster", |_| "its namespace");
        let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let group = if group.is_empty() { "" } else { &format!(".{group}") };
        format!("{verb} {resource}{group}{name} in {place}")
    }

    fn covers(&self, request: &Self) -> bool {
        let same = (&self.group, &self.resource, &self.verb) == (&request.group, &request.resource, &request.verb);
        same && (self.namespace.is_none() || self.namespace == request.namespace)
            && (self.name.is_none() || self.name == request.name)
    }
}

/// What an audit log says of rights.
#[derive(Debug, Default)]
pub struct Replay {
    /// Requests that no role allows.
    pub missing: BTreeSet<String>,
    /// What roles allow and nobody asked for.
    pub unused: BTreeSet<String>,
    /// Requests that were looked at.
    pub requests: usize,
}

/// Holds every request of `user` in the log against these roles.
pub fn replay(log: &Path, user: &str, roles: &[Value]) -> Replay {
    let allowed = allowed(roles);
    let mut used = BTreeSet::new();
    let mut replay = Replay::default();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let object = &event["objectRef"];
        if event["user"]["username"] != user || !object.is_object() {
            continue;
        }
        replay.requests += 1;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let resource = match object["subresource"].as_str() {
            Some(part) => format!("{}/{part}", object["resource"].as_str().unwrap()),
            None => object["resource"].as_str().unwrap().to_owned(),
        };
        let request = Right {
            group: text(&object["apiGroup"]).unwrap_or_default(),
            resource,
            verb: event["verb"].as_str().unwrap().to_owned(),
            namespace: text(&object["namespace"]),
            name: text(&object["name"]),
        };
        let by: Vec<&Right> = allowed.iter().filter(|right| right.covers(&request)).collect();
        if by.is_empty() {
            replay.missing.insert(request.shown());
        }
        used.extend(by);
    }
    replay.unused = allowed.iter().filter(|right| !used.contains(right)).map(Right::shown).collect();
    replay
}

fn allowed(roles: &[Value]) -> Vec<Right> {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = Vec::new();
    for role in roles {
        let namespace = role["metadata"]["namespace"].as_str().map(str::to_owned);
        for rule in role["rules"].as_array().into_iter().flatten() {
            let mut names: Vec<Option<String>> = strings(&rule["resourceNames"]).into_iter().map(Some).collect();
            if names.is_empty() {
                names.push(None);
            }
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    for verb in strings(&rule["verbs"]) {
                        rights.extend(names.iter().map(|name| Right {
                            group: group.clone(),
                            resource: resource.clone(),
                            verb: verb.clone(),
                            namespace: namespace.clone(),
                            name: name.clone(),
                        }));
                    }
                }
            }
        }
    }
    rights
}
