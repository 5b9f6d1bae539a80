//! A gateway that is found again, for verbs that go on: pods are replaced and tokens end, and what was opened at the start then
//! leads nowhere for ever.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::Mutex;

use super::Gateway;
use crate::plugin::{client::Cluster, error::PluginError, message_args::GatewayFlags, output, wait::Patience};

/// How old a token may get: those of a service account last ten minutes.
const RENEW: Duration = Duration::from_secs(300);
/// Between two tries to find the gateway, or a token, anew.
const AGAIN: Duration = Duration::from_secs(2);

type Opening = Box<dyn Fn() -> BoxFuture<'static, Result<Gateway, PluginError>> + Send + Sync>;

/// The gateway, whichever pod it is now and with whichever token.
pub struct Lasting {
    open: Opening,
    held: Mutex<Held>,
}

struct Held {
    gateway: Arc<Gateway>,
    /// Since when it is this one.
    since: Instant,
    /// When it was last looked for.
    asked: Instant,
}

impl Lasting {
    /// Finds it for the first time.
    ///
    /// # Errors
    /// See [`PluginError`].
    pub async fn open(cluster: &Cluster, flags: &GatewayFlags) -> Result<Self, PluginError> {
        let (cluster, flags) = (Arc::new(cluster.clone()), Arc::new(flags.clone()));
        Self::by(Box::new(move || {
            let (cluster, flags) = (Arc::clone(&cluster), Arc::clone(&flags));
            async move { Gateway::open(&cluster, &flags).await }.boxed()
        }))
        .await
    }

    async fn by(open: Opening) -> Result<Self, PluginError> {
        let (gateway, now) = (Arc::new(open().await?), Instant::now());
        Ok(Self { open, held: Mutex::new(Held { gateway, since: now, asked: now }) })
    }

    /// The gateway, with a token that is not old unless there is no other.
    pub async fn current(&self) -> Arc<Gateway> {
        let mut held = self.held.lock().await;
        if held.since.elapsed() > RENEW && held.asked.elapsed() > AGAIN {
            // The one there is may still do; if not, that is told.
            let _ = self.renew(&mut held).await;
        }
        Arc::clone(&held.gateway)
    }

    /// Another one than `useless`, if one can be had already.
    ///
    /// # Errors
    /// When it was looked for in vain.
    pub async fn instead_of(&self, useless: &Arc<Gateway>) -> Result<Arc<Gateway>, PluginError> {
        let mut held = self.held.lock().await;
        if Arc::ptr_eq(useless, &held.gateway) && held.asked.elapsed() > AGAIN {
            self.renew(&mut held).await?;
        }
        Ok(Arc::clone(&held.gateway))
    }

    async fn renew(&self, held: &mut Held) -> Result<(), PluginError> {
        let opened = (self.open)().await;
        held.asked = Instant::now();
        held.gateway = Arc::new(opened?);
        held.since = held.asked;
        Ok(())
    }
}

/// What a verb that goes on has been through since it last worked.
pub struct Trouble {
    patience: Patience,
    said: bool,
}

impl Trouble {
    /// None so far: the gateway has been found.
    pub fn none() -> Self {
        Self { patience: Patience::new(true), said: false }
    }

    /// It works again.
    pub fn is_over(&mut self) {
        self.patience.renew();
        self.said = false;
    }

    /// Bears an error of this gateway and looks for another one, or a new token, if that may help. Says so once.
    ///
    /// # Errors
    /// With one that is not to be borne any longer.
    pub async fn bear(
        &mut self,
        lasting: &Lasting,
        used: &Arc<Gateway>,
        error: PluginError,
    ) -> Result<(), PluginError> {
        let error = if error.wants_another_gateway() {
            match lasting.instead_of(used).await {
                Ok(_) => error,
                // Why there is no other says more.
                Err(error) => error,
            }
        } else {
            error
        };
        if !self.patience.bears(&error) {
            return Err(error);
        }
        if !std::mem::replace(&mut self.said, true) {
            output::note(&format!("lost the connection and keeps trying: {error}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use reqwest::Url;

    use super::*;
    use crate::model::Sensitive;

    fn gateway(place: &str) -> Gateway {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Gateway {
            http: reqwest::Client::new(),
            base: Url::parse("http://127.0.0.1:1/").unwrap(),
            token: Sensitive::new("t"),
            limit: None,
            place: place.to_owned(),
            _forward: None,
        }
    }

    /// One for which these are found, the last of them first.
    async fn found(places: &[Option<&'static str>]) -> Lasting {
        let places = StdMutex::new(places.to_vec());
        let open = move || {
            let next = places.lock().unwrap().pop().flatten();
            let opened = next.map(gateway).ok_or_else(|| PluginError::NoGateway("no pod is ready".into()));
            async move { opened }.boxed()
        };
        Lasting::by(Box::new(open)).await.unwrap()
    }

    async fn later(lasting: &Lasting) {
        lasting.held.lock().await.asked = Instant::now().checked_sub(AGAIN * 2).unwrap();
    }

    fn lost() -> PluginError {
        PluginError::GatewayUnreachable { place: "one".into(), cause: "gone".into() }
    }

    #[tokio::test]
    async fn what_leads_nowhere_is_replaced_and_not_asked_for_at_every_turn() {
        let lasting = found(&[Some("three"), None, Some("two"), Some("one")]).await;
        let one = lasting.current().await;
        assert_eq!(lasting.instead_of(&one).await.unwrap().place, "one", "it was only just found");
        later(&lasting).await;
        let two = lasting.instead_of(&one).await.unwrap();
        assert_eq!(two.place, "two");
        later(&lasting).await;
        assert_eq!(lasting.instead_of(&one).await.unwrap().place, "two", "there is another one already");
        assert!(matches!(lasting.instead_of(&two).await, Err(PluginError::NoGateway(_))));
        assert_eq!(lasting.instead_of(&two).await.unwrap().place, "two", "it was only just looked for");
        later(&lasting).await;
        assert_eq!(lasting.instead_of(&two).await.unwrap().place, "three");
    }

    #[tokio::test]
    async fn an_old_token_is_replaced_before_it_ends() {
        let lasting = found(&[None, Some("two"), Some("one")]).await;
        let age = async || {
            let long_ago = Instant::now().checked_sub(RENEW * 2).unwrap();
            let mut held = lasting.held.lock().await;
            (held.since, held.asked) = (long_ago, long_ago);
        };
        assert_eq!(lasting.current().await.place, "one");
        age().await;
        assert_eq!(lasting.current().await.place, "two");
        age().await;
        assert_eq!(lasting.current().await.place, "two", "there is no other");
    }

    #[tokio::test]
    async fn a_rollout_is_sat_out_and_a_token_that_nobody_takes_is_not() {
        let lasting = found(&[None, None, Some("one")]).await;
        let used = lasting.current().await;
        let mut trouble = Trouble::none();
        for _ in 0..20 {
            later(&lasting).await;
            trouble.bear(&lasting, &used, lost()).await.expect("no pod is ready yet");
        }
        let refused = |code: &str| PluginError::GatewayRefused {
            code: code.into(),
            message: "no".into(),
            request: "r".into(),
            retryable: false,
        };
        assert!(refused("Unauthorized").wants_another_gateway() && !refused("Invalid").wants_another_gateway());
        trouble.is_over();
        let mut times = 0;
        while trouble.bear(&lasting, &used, refused("Unauthorized")).await.is_ok() {
            times += 1;
        }
        assert!((1..20).contains(&times), "{times}");
    }
}
