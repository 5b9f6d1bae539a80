//! Every method of the library's store, on the open file. The list is that of the library's traits: after an upgrade, a method that is
//! missing here fails to compile.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use wacore::{
    appstate::{hash::HashState, processor::AppStateMutationMAC},
    stats::StorageResourceReport,
    store::{
        Device,
        error::Result,
        traits::{
            AppStateSyncKey, AppSyncStore, DeviceListRecord, DeviceStore, LidPnMappingEntry, MessageSecret,
            MsgSecretEntry, MsgSecretStore, PendingInboundKey, PendingInboundRow, ProtocolStore, SignalStore,
            TcTokenEntry,
        },
    },
};
use whatsapp_rust::bytes::Bytes;

use super::{file::FileKeys, own};

// The traits' own versions of some methods are several steps where the library's store takes one: all must be passed on. What
// stands behind `=` is done by us instead; what `changes tokens` has us forget those that were looked up.
macro_rules! pass_on {
    ($(impl $store:ident { $(fn $method:ident($($name:ident: $type:ty),*) -> $answer:ty $(= $own:path)? $(, changes $kept:ident)?;)* })*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl $store for FileKeys {
            $(async fn $method(&self, $($name: $type),*) -> Result<$answer> {
                call!(self, $method, ($($name),*) $(, = $own)? $(, changes $kept)?)
            })*
        }
    )*};
}

macro_rules! call {
    ($keys:ident, $method:ident, ($($name:ident),*)) => { $keys.open().await?.$method($($name),*).await };
    ($keys:ident, $method:ident, ($($name:ident),*), = $own:path) => { $own($keys, $($name),*).await };
    ($keys:ident, $method:ident, ($($name:ident),*), changes tokens) => {{
        let answer = own::to_change_tokens($keys).await?.$method($($name),*).await;
        $keys.tokens().changed();
        answer
    }};
}

pass_on! {
    impl SignalStore {
        fn put_identity(address: &str, key: [u8; 32]) -> ();
        fn put_identities_batch(identities: &[(Arc<str>, [u8; 32])]) -> ();
        fn load_identity(address: &str) -> Option<[u8; 32]>;
        fn delete_identity(address: &str) -> ();
        fn get_session(address: &str) -> Option<Bytes>;
        fn put_session(address: &str, session: &[u8]) -> ();
        fn put_sessions_batch(sessions: &[(Arc<str>, Bytes)]) -> ();
        fn delete_session(address: &str) -> ();
        fn has_session(address: &str) -> bool;
        fn has_signal_state_for_user(user: &str) -> bool;
        fn store_prekey(id: u32, record: &[u8], uploaded: bool) -> ();
        fn store_prekeys_batch(keys: &[(u32, Bytes)], uploaded: bool) -> ();
        fn load_prekey(id: u32) -> Option<Bytes>;
        fn load_prekeys_batch(ids: &[u32]) -> Vec<(u32, Bytes)>;
        fn mark_prekeys_uploaded(ids: &[u32]) -> ();
        fn remove_prekey(id: u32) -> ();
        fn get_max_prekey_id() -> u32;
        fn store_signed_prekey(id: u32, record: &[u8]) -> ();
        fn load_signed_prekey(id: u32) -> Option<Vec<u8>>;
        fn load_all_signed_prekeys() -> Vec<(u32, Vec<u8>)>;
        fn remove_signed_prekey(id: u32) -> ();
        fn put_sender_key(address: &str, record: &[u8]) -> ();
        fn put_sender_keys_batch(sender_keys: &[(Arc<str>, Bytes)]) -> ();
        fn get_sender_key(address: &str) -> Option<Vec<u8>>;
        fn delete_sender_key(address: &str) -> ();
    }

    impl AppSyncStore {
        fn get_sync_key(key_id: &[u8]) -> Option<AppStateSyncKey>;
        fn set_sync_key(key_id: &[u8], key: AppStateSyncKey) -> ();
        fn get_version(name: &str) -> HashState;
        fn set_version(name: &str, state: HashState) -> ();
        fn put_mutation_macs(name: &str, version: u64, mutations: &[AppStateMutationMAC]) -> ();
        fn get_mutation_mac(name: &str, index_mac: &[u8]) -> Option<Vec<u8>>;
        fn get_mutation_macs(name: &str, index_macs: &[[u8; 32]]) -> HashMap<[u8; 32], Vec<u8>>;
        fn delete_mutation_macs(name: &str, index_macs: &[Vec<u8>]) -> ();
        fn clear_mutation_macs(name: &str) -> ();
        fn get_latest_sync_key_id() -> Option<Vec<u8>>;
    }

    impl ProtocolStore {
        fn get_sender_key_devices(group: &str) -> Vec<(String, bool)>;
        fn set_sender_key_status(group: &str, entries: &[(&str, bool)]) -> ();
        fn clear_sender_key_devices(group: &str) -> ();
        fn delete_sender_key_device_rows(devices: &[&str]) -> ();
        fn clear_all_sender_key_devices() -> ();
        fn get_lid_mapping(lid: &str) -> Option<LidPnMappingEntry>;
        fn get_pn_mapping(phone: &str) -> Option<LidPnMappingEntry>;
        fn put_lid_mapping(entry: &LidPnMappingEntry) -> ();
        fn put_lid_mappings(entries: &[LidPnMappingEntry]) -> ();
        fn get_all_lid_mappings() -> Vec<LidPnMappingEntry>;
        fn save_base_key(address: &str, message_id: &str, base_key: &[u8]) -> ();
        fn has_same_base_key(address: &str, message_id: &str, current_base_key: &[u8]) -> bool;
        fn delete_base_key(address: &str, message_id: &str) -> ();
        fn update_device_list(record: DeviceListRecord) -> ();
        fn update_device_lists(records: Vec<DeviceListRecord>) -> ();
        fn get_devices(user: &str) -> Option<DeviceListRecord>;
        fn delete_devices(user: &str) -> ();
        fn get_group_metadata(group: &str) -> Option<Vec<u8>>;
        fn put_group_metadata(group: &str, blob: &[u8]) -> ();
        fn delete_group_metadata(group: &str) -> ();
        fn get_tc_token(jid: &str) -> Option<TcTokenEntry> = own::token;
        fn put_tc_token(jid: &str, entry: &TcTokenEntry) -> (), changes tokens;
        fn delete_tc_token(jid: &str) -> (), changes tokens;
        fn get_all_tc_token_jids() -> Vec<String>;
        fn delete_expired_tc_tokens(token_cutoff: i64, sender_cutoff: i64) -> u32, changes tokens;
        fn touch_tc_token_sender_timestamp(jid: &str, sender_timestamp: i64) -> (), changes tokens;
        fn store_received_tc_token(jid: &str, token: &[u8], token_timestamp: i64) -> (), changes tokens;
        fn store_sent_message(chat: &str, message_id: &str, payload: &[u8]) -> () = own::keep_sent;
        fn take_sent_message(chat: &str, message_id: &str) -> Option<Vec<u8>> = own::read_sent;
        fn delete_expired_sent_messages(cutoff: i64) -> u32;
        fn store_pending_inbound(chat: &str, sender: &str, id: &str, message: &[u8]) -> ();
        fn get_pending_inbound(chat: &str, sender: &str, id: &str) -> Option<Vec<u8>>;
        fn delete_pending_inbound(chat: &str, sender: &str, id: &str) -> ();
        fn delete_expired_pending_inbound(cutoff: i64) -> u32;
        fn store_pending_inbound_batch(rows: &[PendingInboundRow<'_>]) -> ();
        fn delete_pending_inbound_batch(keys: &[PendingInboundKey<'_>]) -> ();
    }

    impl MsgSecretStore {
        fn put_msg_secret(chat: &str, sender: &str, message_id: &str, secret: &MessageSecret) -> ();
        fn put_msg_secrets(entries: Vec<MsgSecretEntry>) -> usize;
        fn get_msg_secret(chat: &str, sender: &str, message_id: &str) -> Option<Vec<u8>>;
        fn get_msg_secret_with_ts(chat: &str, sender: &str, message_id: &str) -> Option<(Vec<u8>, i64)>;
        fn delete_expired_msg_secrets(cutoff: i64) -> u32;
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl DeviceStore for FileKeys {
    async fn save(&self, device: &Device) -> Result<()> {
        let store = self.open().await?;
        store.save(device).await?;
        // A device that was just linked is linked at WhatsApp, too: with its keys lost, only a person could remove it there.
        self.flush().await
    }

    async fn load(&self) -> Result<Option<Device>> {
        self.open().await?.load().await
    }

    async fn exists(&self) -> Result<bool> {
        self.open().await?.exists().await
    }

    async fn create(&self) -> Result<i32> {
        self.open().await?.create().await
    }

    async fn snapshot_db(&self, name: &str, extra_content: Option<&[u8]>) -> Result<()> {
        self.open().await?.snapshot_db(name, extra_content).await
    }

    async fn resource_report(&self) -> StorageResourceReport {
        match self.open().await {
            Ok(store) => store.resource_report().await,
            Err(_) => StorageResourceReport::default(),
        }
    }
}
