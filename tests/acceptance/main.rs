//! Acceptance tests: the real programs, a real etcd and kube-apiserver, the wire-level simulated WhatsApp.
//!
//! Each test has a `World` of its own (namespace, WhatsApp, bridge, operator), so all of them run side by side and may kill
//! whatever they like. They share one API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code)] // the demo uses more of what is shared

#[path = "../support/mod.rs"]
mod support;

mod a_long_wait;
mod admission;
mod admission_storms;
mod alerts;
mod api_check;
mod architectures;
mod arguments;
mod audit_replay;
mod authorities;
mod bad_bridges;
mod bad_servers;
mod big_messages;
mod bridge;
mod bridge_ends;
mod chart;
mod clocks;
mod control_plane;
mod crashes;
mod crds;
mod created_anew;
mod dashboard;
mod dashboard_codes;
mod dashboard_crowd;
mod dashboard_linking;
mod dashboard_many;
mod dashboard_more;
mod dashboard_paint;
mod dashboard_phases;
mod dashboard_pictures;
mod dashboard_plugin;
mod dashboard_proxy;
mod dashboard_refusals;
mod dashboard_sign_in;
mod dashboard_states;
mod dashboard_windows;
mod deletion;
mod doctor;
mod egress_proxy;
mod examples;
mod gate;
mod gateway;
mod gateway_access;
mod gateway_bounds;
mod gateway_bulk;
mod gateway_crowd;
mod gateway_deaths;
mod gateway_document;
mod gateway_errors;
mod gateway_events;
mod gateway_input;
mod gateway_message_events;
mod gateway_messages;
mod gateway_once;
mod gateway_restarts;
mod gateway_storm;
mod gateway_texts;
mod gitops;
mod half_open;
mod identities;
mod ipv6;
mod least_privilege;
mod lifecycle;
mod linked_devices;
mod linking_link;
mod logins;
mod lost_answers;
mod lost_keys;
mod lost_slots;
mod messages;
mod moved_volumes;
mod names;
mod owners;
mod pairing_window;
mod plugin;
mod plugin_alone;
mod plugin_messages;
mod plugin_proxy;
mod presence;
mod primary;
mod quiet;
mod readiness;
mod refused_questions;
mod release;
mod reports;
mod restored_cluster;
mod rolled_back_keys;
mod storage;
mod strict_bridge;
mod together;
mod traces;
mod turns;
mod two_installations;
mod unclaimed;
