//! `dashboard`: the gateway's page in a browser, signed in.
//!
//! The browser talks to a port of this machine, which passes on what it asks for with the caller's token ([`proxy`]): so the
//! token is in no browser, no address and no history, and a new one takes its place before it ends. Who may use the port is
//! decided by a code that works once, and the cookie that it is exchanged for ([`door`]).

mod door;
mod proxy;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use reqwest::Method;
use tokio::{net::TcpListener, process::Command, signal::ctrl_c};

use self::{door::Door, proxy::Proxy};
use super::{args::DashboardArgs, client::Cluster, error::PluginError, gateway::Lasting, output};

/// The program that opens an address in this machine's browser.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Serves it until it is interrupted.
///
/// # Errors
/// When there is no gateway, or it does not take the token; and see [`PluginError`].
pub async fn run(cluster: &Cluster, args: &DashboardArgs) -> Result<(), PluginError> {
    let lasting = Lasting::open(cluster, &args.gateway).await?;
    let gateway = lasting.current().await;
    let me = gateway.ask(gateway.request(Method::GET, &["me"], &[])?, Duration::ZERO).await?.data;
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await.map_err(|error| {
        PluginError::Usage(format!(
            "port {} of this machine cannot be opened ({error}); give another with --port",
            args.port
        ))
    })?;
    let address: SocketAddr = tcp.local_addr()?;
    let door = Door::new(address, Instant::now())?;
    let way_in = door.address();
    let page = page(me["namespace"].as_str().unwrap_or_default(), &cluster.namespace);
    let proxy = Arc::new(Proxy::new(lasting, door, page));
    let serving = axum::serve(tcp, Router::new().fallback(proxy::answer).with_state(proxy));
    output::line(&way_in)?;
    output::note(&format!(
        "The address works once, within two minutes, and is signed in as {}. Ctrl-C ends it.",
        me["user"].as_str().unwrap_or_default()
    ))?;
    if !args.no_open {
        open(&way_in)?;
    }
    tokio::select! {
        served = async { serving.await } => Ok(served?),
        interrupted = ctrl_c() => Ok(interrupted?),
    }
}

/// The page, with the instances of the namespace that the other verbs are about.
fn page(of_the_gateway: &str, ours: &str) -> String {
    if ours == of_the_gateway { "/dashboard".to_owned() } else { format!("/dashboard?namespace={ours}") }
}

/// Has the address opened; who has no browser here is told to.
fn open(address: &str) -> Result<(), PluginError> {
    let started =
        Command::new(OPENER).arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            Ok(output::note(&format!("No browser could be started ({OPENER}: {error}); open the address in one."))?)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_shows_the_namespace_of_the_command_line() {
        assert_eq!(super::page("shops", "shops"), "/dashboard");
        assert_eq!(super::page("default", "shops"), "/dashboard?namespace=shops");
    }
}
