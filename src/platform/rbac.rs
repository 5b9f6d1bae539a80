//! The rights a program needs of Kubernetes, said once: rendered as RBAC objects and as a table.

use k8s_openapi::{
    api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// In the whole cluster: a rule of a `ClusterRole`.
    Cluster,
    /// Wherever instances are looked after: in the whole cluster, or a rule of a `Role` in each of some namespaces.
    Instances,
    /// In the namespace that the operator is installed in: a rule of a `Role`.
    ReleaseNamespace,
}

/// One right, and what it is needed for.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources, with their subresource where it is about one.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Only objects of these names; any name when empty. The verb `create` cannot be limited to names.
    pub names: &'static [&'static str],
    /// Where.
    pub reach: Reach,
    /// What for: the end of a sentence.
    pub why: &'static str,
}

/// Whom the rights are given to.
#[derive(Clone, Debug)]
pub struct Account {
    /// Name of the roles, bindings and the service account.
    pub name: String,
    /// The release namespace.
    pub namespace: String,
    /// The namespaces whose instances are looked after; all of them when empty.
    pub watched: Vec<String>,
}

/// The rights as a Markdown table.
pub fn table(rights: &[Right]) -> String {
    let mut text = String::from(
        "| API group | resources | names | verbs | where | what for |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for Right { group, resources, verbs, names, reach, why } in rights {
        let group = if group.is_empty() { &"(core)" } else { group };
        let names = if names.is_empty() { "any".to_owned() } else { names.join(", ") };
        let reach = match reach {
            Reach::Cluster => "cluster",
            Reach::Instances => "cluster, or each of --watch-namespaces",
            Reach::ReleaseNamespace => "release namespace",
        };
        let (resources, verbs) = (resources.join(", "), verbs.join(", "));
        text.push_str(&format!("| {group} | {resources} | {names} | {verbs} | {reach} | {why} |\n"));
    }
    text
}

/// The rights as roles and bindings for a service account, as YAML documents.
///
/// # Errors
/// When an object cannot be written as YAML: a defect.
pub fn manifests(rights: &[Right], account: &Account) -> Result<String, serde_saphyr::ser::Error> {
    let named = |namespace: Option<&str>| ObjectMeta {
        name: Some(account.name.clone()),
        namespace: namespace.map(str::to_owned),
        ..ObjectMeta::default()
    };
    let subjects = Some(vec![Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.name.clone(),
        namespace: Some(account.namespace.clone()),
        ..Subject::default()
    }]);
    let role_ref = |kind: &str| RoleRef {
        api_group: Some("rbac.authorization.k8s.io".to_owned()),
        kind: kind.to_owned(),
        name: account.name.clone(),
    };
    let mut documents = Vec::new();
    let limited = !account.watched.is_empty();
    let wide = rules(rights, |reach| reach == Reach::Cluster || (reach == Reach::Instances && !limited));
    if !wide.is_empty() {
        documents.push(document(&ClusterRole { metadata: named(None), rules: Some(wide), aggregation_rule: None })?);
        documents.push(document(&ClusterRoleBinding {
            metadata: named(None),
            role_ref: role_ref("ClusterRole"),
            subjects: subjects.clone(),
        })?);
    }
    let narrow = rules(rights, |reach| reach == Reach::ReleaseNamespace);
    if !narrow.is_empty() {
        let here = || named(Some(&account.namespace));
        documents.push(document(&Role { metadata: here(), rules: Some(narrow) })?);
        let binding = RoleBinding { metadata: here(), role_ref: role_ref("Role"), subjects: subjects.clone() };
        documents.push(document(&binding)?);
    }
    let instances = rules(rights, |reach| reach == Reach::Instances);
    for namespace in account.watched.iter().filter(|_| !instances.is_empty()) {
        // The release namespace may be one of them.
        let name = format!("{}-instances", account.name);
        let metadata = || ObjectMeta { name: Some(name.clone()), ..named(Some(namespace)) };
        documents.push(document(&Role { metadata: metadata(), rules: Some(instances.clone()) })?);
        let role_ref = RoleRef { name: name.clone(), ..role_ref("Role") };
        documents.push(document(&RoleBinding { metadata: metadata(), role_ref, subjects: subjects.clone() })?);
    }
    Ok(documents.join("---\n"))
}

fn document(object: &impl Serialize) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(object)
}

fn rules(rights: &[Right], wanted: impl Fn(Reach) -> bool) -> Vec<PolicyRule> {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    // Two programs in one process may need the same; the wider right says it for both.
    let covers = |wide: &Right, right: &Right| {
        let same = (wide.group, wide.resources, wide.names, wide.reach)
            == (right.group, right.resources, right.names, right.reach);
        same && right.verbs.iter().all(|verb| wide.verbs.contains(verb))
    };
    let needed = |at: usize, right: &Right| {
        let others = rights.iter().enumerate();
        !others
            .into_iter()
            .any(|(other, wide)| covers(wide, right) && (other < at || (other > at && !covers(right, wide))))
    };
    let rule = |right: &Right| PolicyRule {
        api_groups: Some(vec![right.group.to_owned()]),
        resources: Some(owned(right.resources)),
        resource_names: (!right.names.is_empty()).then(|| owned(right.names)),
        verbs: owned(right.verbs),
        non_resource_urls: None,
    };
    let rights = rights.iter().enumerate().filter(|(at, right)| wanted(right.reach) && needed(*at, right));
    rights.map(|(_, right)| rule(right)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHTS: &[Right] = &[
        Right {
            group: "example.dev",
            resources: &["things", "things/status"],
            verbs: &["get"],
            names: &[],
            reach: Reach::Cluster,
            why: "the watch",
        },
        Right {
            group: "",
            resources: &["secrets"],
            verbs: &["get"],
            names: &["token"],
            reach: Reach::ReleaseNamespace,
            why: "the token",
        },
    ];

    #[test]
    fn table_and_objects_say_the_same() {
        let table = table(RIGHTS);
        assert!(table.contains("| example.dev | things, things/status | any | get | cluster | the watch |"), "{table}");
        assert!(table.contains("| (core) | secrets | token | get | release namespace | the token |"), "{table}");
        let account = Account { name: "operator".into(), namespace: "here".into(), watched: Vec::new() };
        let yaml = manifests(RIGHTS, &account).unwrap();
        let documents: Vec<serde_json::Value> =
            yaml.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
        let kinds: Vec<_> = documents.iter().map(|document| document["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
        assert_eq!(documents[0]["rules"][0]["resources"][1], "things/status");
        assert_eq!(documents[2]["rules"][0]["resourceNames"][0], "token");
        assert_eq!(documents[3]["subjects"][0]["namespace"], "here");
    }

    #[test]
    fn what_is_about_instances_can_be_limited_to_namespaces() {
        let instances = Right { resources: &["instances"], reach: Reach::Instances, ..RIGHTS[0] };
        let rights = [RIGHTS[0], instances];
        let account = |watched: &[&str]| {
            let watched = watched.iter().map(|&one| one.to_owned()).collect();
            Account { name: "operator".into(), namespace: "here".into(), watched }
        };
        let everywhere = manifests(&rights, &account(&[])).unwrap();
        assert!(everywhere.contains("instances") && !everywhere.contains("kind: Role\n"), "{everywhere}");
        let limited = manifests(&rights, &account(&["a", "b"])).unwrap();
        let documents: Vec<serde_json::Value> =
            limited.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect();
        assert!(!documents[0].to_string().contains("instances"), "{limited}");
        let places: Vec<_> = documents[2..].iter().map(|one| one["metadata"]["namespace"].as_str().unwrap()).collect();
        assert_eq!(places, ["a", "a", "b", "b"]);
        assert_eq!(documents[5]["roleRef"]["name"], "operator-instances");
    }
}
