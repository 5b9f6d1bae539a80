//! Every option of whatsapp-rust's caches and stores, chosen on purpose: a bridge holds a thousand sessions for months. No
//! `..Default::default()`, so that an option that a later version adds does not go unnoticed.

use std::time::Duration;

use whatsapp_rust::{CacheConfig, CacheEntryConfig, CacheStores, MsgSecretPolicy, MsgSecretRetention};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The options.
pub fn caches() -> CacheConfig {
    let at_most = |timeout: Duration, capacity| CacheEntryConfig::new(Some(timeout), capacity);
    CacheConfig {
        // Sessions write to people and to some groups; a group that is not in here costs one question.
        group_cache: at_most(HOUR, 250),
        // One entry per person written to, or per member of a large group (about 1,024).
        device_registry_cache: at_most(HOUR, 5_000),
        // A mapping that is evicted while valid sends to the wrong address: never, as WhatsApp's own client does.
        lid_pn_cache: CacheEntryConfig::new(None, u64::MAX),
        // What was sent is found on the disk when it is asked for again (keys/sent.rs).
        recent_messages: at_most(5 * MINUTE, 0),
        // How often a message that came in is asked for again has to be known for longer than the pauses between; how often one that
        // went out is sent again, keys/sent.rs bounds.
        message_retry_counts: at_most(HOUR, 500),
        // A message that cannot be decrypted is told of once, though the server sends it again.
        undecryptable_dispatched: at_most(5 * MINUTE, 1_000),
        // The phone answers within seconds or not at all.
        pdo_pending_requests: at_most(MINUTE / 2, 200),
        // The phone is asked once a day at most for the same message.
        pdo_requested: at_most(DAY, 512),
        // As long as a group's own entry.
        sender_key_devices_cache: at_most(HOUR, 500),
        // Keeps a device that asks again and again from having a new session made each time.
        session_recreate_history: at_most(HOUR, 256),
        // Locks: one that is evicted while held lets two writers at the same Signal session. Far above what is in use.
        session_locks_capacity: 10_000,
        chat_lanes_capacity: 5_000,
        group_distribution_locks_capacity: 512,
        resend_rate_limiter_capacity: 4_096,
        // None are kept there (keys/sent.rs); what builds before 0.1.0 have left there goes.
        sent_message_ttl_secs: HOUR.as_secs(),
        // Needed to read reactions to polls, edits and the like, which the bridge does not read. The default writes a row per
        // message that arrives.
        msg_secret_policy: MsgSecretPolicy::Disabled,
        msg_secret_retention: MsgSecretRetention::default(),
        seed_msg_secrets_from_history: false,
        original_message_resolver: None,
        msg_secret_resolver_timeout: Duration::from_secs(5),
        // Caches belong to their session and die with it; what has to last is in its keys.
        cache_stores: CacheStores::default(),
    }
}
