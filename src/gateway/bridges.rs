//! The shards of the bridges, as the gateway reaches them: by `status.bridge` of an instance, with the credentials that the
//! bridge names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::ListParams};
use tokio::time::Instant;

use super::{code::Code, failure::Failure, rendezvous};
use crate::{
    api::{BridgeBinding, WhatsAppBridge},
    bridge_api::{BridgeError, ErrorCode, Open},
    drivers::{self, Driver, Endpoint, Messages},
    platform::{
        kubernetes::{CALL_TIMEOUT, call},
        lock,
    },
};

/// How long a list of the bridges, and a token, count. A new token is taken earlier when a bridge refuses the old one.
const KNOWN: Duration = Duration::from_secs(30);

/// All shards, and how each is reached.
pub type Shards = Arc<Vec<(BridgeBinding, Endpoint)>>;
/// A shard as it was reached, what it was reached by, and until when that counts.
type Reached = (Arc<dyn Driver>, Endpoint, Instant);

/// Finds shards and reaches them.
pub struct Bridges {
    client: Client,
    selector: Option<String>,
    listed: Mutex<Option<(Shards, Instant)>>,
    drivers: Mutex<HashMap<BridgeBinding, Reached>>,
}

impl Bridges {
    /// By the gateway's own client; only bridges with these labels.
    pub fn new(client: Client, selector: Option<String>) -> Self {
        Self { client, selector, listed: Mutex::default(), drivers: Mutex::default() }
    }

    /// All shards of all bridges.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn shards(&self) -> Result<Shards, Failure> {
        if let Some((shards, until)) = &*lock(&self.listed)
            && *until > Instant::now()
        {
            return Ok(Arc::clone(shards));
        }
        let api: Api<WhatsAppBridge> = Api::all(self.client.clone());
        let params = ListParams { label_selector: self.selector.clone(), ..ListParams::default() };
        let found = call("list the bridges", CALL_TIMEOUT, api.list(&params)).await;
        let found = found.map_err(|error| {
            tracing::warn!(%error, "list the bridges");
            unavailable()
        })?;
        let shards: Shards = Arc::new(found.items.iter().flat_map(drivers::endpoints).collect());
        *lock(&self.listed) = Some((Arc::clone(&shards), Instant::now() + KNOWN));
        Ok(shards)
    }

    /// The shard of a session.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn shard(&self, binding: &BridgeBinding) -> Result<Arc<dyn Driver>, Failure> {
        let shards = self.shards().await?;
        let found = shards.iter().find(|(known, _)| known == binding);
        let (_, endpoint) = found.ok_or_else(|| {
            Failure::new(
                Code::BridgeUnavailable,
                "the bridge of this session is gone; have an administrator look at its WhatsAppBridge",
            )
        })?;
        if let Some((driver, known, until)) = lock(&self.drivers).get(binding)
            && known == endpoint
            && *until > Instant::now()
        {
            return Ok(Arc::clone(driver));
        }
        let reference = &endpoint.credentials;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &reference.namespace);
        let secret = call("read a bridge's credentials", CALL_TIMEOUT, secrets.get(&reference.name)).await;
        let secret = secret.map_err(|error| {
            tracing::warn!(%error, "read a bridge's credentials");
            unreachable()
        })?;
        let credentials = drivers::credentials(&secret, reference).ok();
        let driver = credentials.and_then(|credentials| endpoint.driver(credentials).ok());
        let driver = driver.ok_or_else(unreachable)?;
        let entry = (Arc::clone(&driver), endpoint.clone(), Instant::now() + KNOWN);
        lock(&self.drivers).insert(binding.clone(), entry);
        Ok(driver)
    }

    /// The shard that keeps an idempotency key: the same for every gateway, whatever the message's own session is. Chosen by
    /// rendezvous hashing, so that another shard more or less moves as few keys as possible.
    ///
    /// # Errors
    /// When there is none, or it cannot be reached.
    pub async fn home(&self, key: &str) -> Result<Arc<dyn Driver>, Failure> {
        let shards = self.shards().await?;
        let home = shards.iter().map(|(binding, _)| binding).max_by_key(|binding| weight(key, binding));
        self.shard(home.ok_or_else(unavailable)?).await
    }

    /// Forgets a token that the shard refused.
    pub fn forget(&self, binding: &BridgeBinding) {
        lock(&self.drivers).remove(binding);
    }
}

fn weight(key: &str, BridgeBinding { name, shard }: &BridgeBinding) -> [u8; 32] {
    rendezvous::weight(key, &format!("{name}\n{shard}"))
}

/// The messages of a shard.
///
/// # Errors
/// When it is of a kind that sends none.
pub fn messages(driver: &Arc<dyn Driver>) -> Result<&dyn Messages, Failure> {
    driver.messages().ok_or_else(|| {
        Failure::new(
            Code::NotSupported,
            "the bridge of this session is of a kind through which no messages can be sent",
        )
    })
}

fn unavailable() -> Failure {
    Failure::new(Code::Unavailable, "the API server does not answer the gateway; try again in a moment")
}

fn unreachable() -> Failure {
    Failure::new(
        Code::BridgeUnavailable,
        "the bridge of this session cannot be reached; try again in a moment, and have an administrator look at its WhatsAppBridge",
    )
}

/// What a bridge's refusal becomes.
pub fn of_bridge(error: &BridgeError) -> Failure {
    let BridgeError::Refused { code, retry_after } = error else {
        return match error {
            BridgeError::NotFound => Failure::new(
                Code::MessageNotFound,
                "there is no such message, or you may not see it; check the id, and that the session still exists",
            ),
            BridgeError::TimedOut => Failure::new(
                Code::Timeout,
                "the bridge did not answer in time; what it was asked for may have been done all the same: look at the message, then try again",
            ),
            _ => unreachable(),
        };
    };
    let failure = match code {
        Open::Known(ErrorCode::NotPaired) => {
            Failure::new(Code::NotPaired, "no device is linked to this session; scan its QR code first")
        }
        Open::Known(ErrorCode::Conflict) => {
            Failure::new(Code::KeyReused, "the idempotency key was used for another message; use a new one")
        }
        Open::Known(ErrorCode::TooLate) => Failure::new(
            Code::TooLate,
            "the message was handed to WhatsApp already, or is over, so it cannot be called back",
        ),
        Open::Known(ErrorCode::QueueFull) => {
            let later = retry_after.map_or_else(|| "later".to_owned(), |seconds| format!("in {} s", seconds.max(1)));
            Failure::new(
                Code::QueueFull,
                format!(
                    "as many messages wait in this session as may, or this one would expire before its turn; send it again {later}"
                ),
            )
        }
        Open::Known(ErrorCode::StorageFull) => Failure::new(
            Code::StorageFull,
            "the bridge's disk takes no more messages; have an administrator give it more room, then try again",
        ),
        Open::Known(ErrorCode::Deleting) => {
            Failure::new(Code::Terminating, "the session is being deleted; send through another")
        }
        Open::Known(ErrorCode::Invalid) => {
            Failure::new(Code::Invalid, "the bridge calls the message invalid; check recipient and text")
        }
        _ => Failure::new(
            Code::BridgeUnavailable,
            "the bridge of this session has failed, because its disk cannot be written or read for example; try again in a moment, and have an administrator look at its disk and its log",
        ),
    };
    match retry_after {
        Some(seconds) => failure.after(*seconds),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shard(n: usize) -> BridgeBinding {
        BridgeBinding { name: "main".to_owned(), shard: format!("shard-{n}") }
    }

    #[test]
    fn a_key_has_one_home_and_few_move_with_a_new_shard() {
        let home = |key: &str, count: usize| (0..count).map(shard).max_by_key(|shard| weight(key, shard)).unwrap();
        let keys: Vec<String> = (0..600).map(|n| format!("key-{n}")).collect();
        let homes: BTreeSet<_> = keys.iter().map(|key| home(key, 3).shard).collect();
        assert_eq!(homes.len(), 3);
        let moved: Vec<_> = keys.iter().filter(|key| home(key, 3) != home(key, 4)).collect();
        assert!((100..200).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|key| home(key, 4) == shard(3)), "only to the new one");
    }

    #[test]
    fn a_bridge_that_sends_nothing_is_told_from_one_that_is_away() {
        let driver: Arc<dyn Driver> = Arc::new(drivers::scripted_driver::Scripted::default());
        assert_eq!(messages(&driver).err().unwrap().code, Code::NotSupported);
    }

    #[test]
    fn every_refusal_of_a_bridge_has_a_code() {
        let code = |code: ErrorCode| of_bridge(&BridgeError::Refused { code: code.into(), retry_after: Some(7) });
        assert_eq!(
            (code(ErrorCode::QueueFull).code, code(ErrorCode::QueueFull).retry_after),
            (Code::QueueFull, Some(7))
        );
        assert_eq!(code(ErrorCode::NotPaired).code, Code::NotPaired);
        assert!(code(ErrorCode::QueueFull).message.contains("in 7 s"));
        // It takes messages again by itself once there is room.
        let full = of_bridge(&BridgeError::Refused { code: ErrorCode::StorageFull.into(), retry_after: None });
        assert_eq!((full.code, full.retry_after), (Code::StorageFull, Some(60)));
        // It answers, so it is there.
        let failed = code(ErrorCode::Internal);
        assert!(failed.code == Code::BridgeUnavailable && failed.message.contains("disk"), "{}", failed.message);
        assert_eq!(of_bridge(&BridgeError::NotFound).code, Code::MessageNotFound);
        assert_eq!(of_bridge(&BridgeError::StreamEnded).code, Code::BridgeUnavailable);
    }
}
