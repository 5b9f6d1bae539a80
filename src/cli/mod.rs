//! Turns flags and environment into typed configuration; touches nothing else.

pub mod bridge;
mod cluster;
pub mod controller;
pub mod crd;
pub mod gateway;
mod process;
pub mod rbac;
pub mod release;
pub mod storage;
mod values;
pub mod webhook;

pub use cluster::ClusterArgs;
pub use process::ProcessArgs;

use clap::{Parser, Subcommand};

/// Manages WhatsApp Web sessions on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "whatsapp-operator", version, max_term_width = 100)]
pub struct Args {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `whatsapp-operator`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller: reconcile WhatsAppInstances until told to stop
    Controller(Box<controller::ControllerArgs>),
    /// Serve the admission webhooks alone, without a controller
    Webhook(Box<webhook::AloneArgs>),
    /// Serve the REST API for applications
    Gateway(Box<gateway::GatewayArgs>),
    /// Print the REST API's OpenAPI document
    Openapi(gateway::OpenapiArgs),
    /// Print the Mutating- and ValidatingWebhookConfiguration
    WebhookConfiguration(webhook::ConfigurationArgs),
    /// Print the CustomResourceDefinitions, or write them into a directory
    Crd(crd::CrdArgs),
    /// Print the roles and bindings the operator needs, or a table that says what each right is for
    Rbac(rbac::RbacArgs),
    /// After an uninstallation: take our finalizer off all instances, so that nobody waits for an operator that is gone
    ReleaseInstances(release::ReleaseArgs),
    /// After an upgrade that brought a new version of the API: write what is stored in an old version anew, so that a later
    /// release may drop that version
    MigrateStorage(storage::StorageArgs),
}
