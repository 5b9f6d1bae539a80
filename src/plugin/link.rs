//! `link`: a page for the person with the phone, who has no account of the cluster.

use std::time::Duration;

use kube::ResourceExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    args::{LinkArgs, ObjectOutput},
    client::{Cluster, read},
    error::PluginError,
    gateway::Gateway,
    output,
};

/// Makes a link and prints its address, or takes the link back.
///
/// # Errors
/// When there is no device to link, and see [`PluginError`].
pub async fn run(cluster: &Cluster, args: &LinkArgs) -> Result<(), PluginError> {
    let gateway = Gateway::open(cluster, &args.gateway).await?;
    let session = read(cluster.get(&args.name).await?)?.uid().unwrap_or_default();
    let path = ["sessions", "link", session.as_str(), ""];
    if args.revoke {
        gateway.ask(gateway.request(Method::DELETE, &path, &[])?, Duration::ZERO).await?;
        return Ok(output::line(&format!("whatsappinstance/{}: no link opens it any more", args.name))?);
    }
    let lasts = args.expires_in.0.as_secs();
    let request = gateway.request(Method::POST, &path, &[])?.json(&json!({"expires_in": lasts}));
    let mut made = gateway.ask(request, Duration::ZERO).await?.data;
    let has_host = complete(&mut made, args.gateway.gateway.as_deref());
    output::note(&words(&made, args.name.as_str(), has_host))?;
    let text = match args.output {
        Some(ObjectOutput::Json) => output::json(&made)?,
        Some(ObjectOutput::Yaml) => output::yaml(&made)?,
        None => format!("{}\n", made["link"].as_str().unwrap_or_default()),
    };
    Ok(output::text(&text)?)
}

/// A gateway that was not told its public address gives the path only: then it is the address at which it was called. Whether
/// there is one.
fn complete(made: &mut Value, called: Option<&str>) -> bool {
    let Some(path) = made["link"].as_str().filter(|link| link.starts_with('/')) else { return true };
    let Some(called) = called.filter(|called| !called.is_empty()) else { return false };
    made["link"] = format!("{}{path}", called.trim_end_matches('/')).into();
    true
}

fn words(made: &Value, name: &str, has_host: bool) -> String {
    let until = made["expires_at"].as_str().unwrap_or_default();
    let mut words = format!(
        "Send this address to the person with the phone. It shows the pairing codes to the first browser that opens it, until a \
         device is linked, {until} at the latest. Take it back with `kubectl whatsapp link {name} --revoke`.",
    );
    if !has_host {
        words.push_str(
            "\nIt is only a path: put the gateway's public address in front, or tell the gateway (gateway.publicUrl of the chart).",
        );
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gets_the_address_at_which_the_gateway_was_called() {
        let complete = |link: &str, called: Option<&str>| {
            let mut made = json!({"link": link, "expires_at": "2026-01-01T12:10:00Z"});
            let has_host = complete(&mut made, called);
            assert_eq!(words(&made, "shop", has_host).contains("only a path"), !has_host);
            (made["link"].as_str().unwrap().to_owned(), has_host)
        };
        let path = "/dashboard/link#a.b";
        assert_eq!(complete(path, Some("http://127.0.0.1:1/")), ("http://127.0.0.1:1/dashboard/link#a.b".into(), true));
        for nowhere in [None, Some("")] {
            assert_eq!(complete(path, nowhere), (path.to_owned(), false));
        }
        let whole = "https://whatsapp.example.com/dashboard/link#a.b";
        assert_eq!(complete(whole, Some("http://127.0.0.1:1")), (whole.to_owned(), true));
    }
}
