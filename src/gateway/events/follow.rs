//! One stream: a list and then a watch, made again as often as the API server ends it, until the caller, the token or the
//! gateway ends.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource as _,
    api::{ListParams, WatchEvent, WatchParams},
    core::Status,
};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{
    moves::Moves,
    told::{Line, Outgoing, Told},
};
use crate::{
    api::WhatsAppInstance,
    gateway::{
        caller::Caller,
        failure::{Asked, Failure, of_call},
        feed::News,
        input::digits,
        instances::{Which, pages, readable},
    },
    platform::{
        kubernetes::{CALL_TIMEOUT, CallError, call},
        refusal::{Refusal, refusal},
        watch::{Guarded, watch_config},
    },
};

/// Between two tries to reach an API server that does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// After so many in a row the caller is told, and comes back by itself.
const TRIES: u32 = 20;

type Events = BoxStream<'static, Result<WatchEvent<Guarded<WhatsAppInstance>>, kube::Error>>;

/// What one stream follows.
pub struct Follow {
    api: Api<Guarded<WhatsAppInstance>>,
    fields: Option<String>,
    /// The resource version up to which everything has been told.
    place: String,
    /// The messages of these sessions, where they are wanted.
    moves: Option<Moves>,
}

/// A stream at its beginning.
pub struct Start {
    /// What goes on.
    pub follow: Follow,
    /// What is told first, and the watch after it.
    pub first: First,
}

/// What is told first.
pub struct First {
    reset: Option<&'static str>,
    /// Everything there is; none when the stream goes on where it was.
    all: Option<Vec<WhatsAppInstance>>,
    events: Events,
}

/// Why the watch cannot go on.
enum Broken {
    /// What was missed cannot be told any more.
    TooOld,
    /// The caller is told, and the stream ends.
    End(&'static str),
    /// Tried again.
    Passing,
}

impl Follow {
    /// The beginning: after the event `since`, or with everything. Fails where the caller may not list and watch.
    pub async fn begin(
        which: &Which,
        caller: &Caller,
        since: Option<&str>,
        moves: Option<Moves>,
    ) -> Result<Start, Failure> {
        let mut follow = Self { api: which.api(caller), fields: which.fields(), place: String::new(), moves };
        let mut reset = None;
        if let Some(since) = since {
            match follow.resume(since).await? {
                Ok(events) => return Ok(Start { follow, first: First { reset: None, all: None, events } }),
                Err(reason) => reset = Some(reason),
            }
        }
        let all = follow.list().await.map_err(|error| of_call(&error, LIST))?;
        let events = follow.watch().await.map_err(|error| of_call(&error, WATCH))?;
        Ok(Start { follow, first: First { reset, all: Some(all), events } })
    }

    /// Goes on after `since`, or says why that is not possible.
    async fn resume(&mut self, since: &str) -> Result<Result<Events, &'static str>, Failure> {
        // No object has the version 0: the API server takes it for the wish to begin anywhere.
        let Some(wanted) = digits(since).filter(|wanted| *wanted > 0) else { return Ok(Err("UnknownId")) };
        if self.is_ahead(wanted).await.map_err(|error| of_call(&error, LIST))? {
            return Ok(Err("UnknownId"));
        }
        since.clone_into(&mut self.place);
        match self.watch().await {
            Ok(events) => Ok(Ok(events)),
            Err(error) if error.is(|status| status.code == 410) => Ok(Err("TooLongAgo")),
            Err(error) => Err(of_call(&error, WATCH)),
        }
    }

    /// Whether the API server has not counted as far as this version.
    async fn is_ahead(&self, version: u64) -> Result<bool, CallError> {
        // One object at most: only the version of the list is wanted, and whether the caller may list. Versions of one kind are
        // comparable decimal numbers.
        let params = ListParams { field_selector: self.fields.clone(), ..ListParams::default() }.limit(1);
        let listed = call("list instances for a caller", CALL_TIMEOUT, self.api.list(&params)).await?;
        let now = listed.metadata.resource_version.as_deref().and_then(digits);
        Ok(now.is_some_and(|now| now < version))
    }

    /// Whether the cluster, which was away, was restored from a backup meanwhile: it counts from an earlier version then, and says nothing to
    /// a watch until it has counted as far as before.
    async fn has_lost_its_place(&self) -> Result<bool, CallError> {
        match digits(&self.place) {
            Some(place) => self.is_ahead(place).await,
            None => Ok(false),
        }
    }

    async fn list(&mut self) -> Result<Vec<WhatsAppInstance>, CallError> {
        let (all, place) = pages(&self.api, self.fields.clone()).await?;
        self.place = place;
        Ok(all)
    }

    async fn watch(&self) -> Result<Events, CallError> {
        let params = WatchParams {
            field_selector: self.fields.clone(),
            timeout: watch_config().timeout,
            bookmarks: true,
            ..WatchParams::default()
        };
        let events = call("watch instances for a caller", CALL_TIMEOUT, self.api.watch(&params, &self.place)).await?;
        Ok(events.boxed())
    }

    /// Sends events until the caller, the token or the gateway ends the stream.
    pub async fn run(self, first: First, line: Line, expires: Option<Timestamp>, closing: CancellationToken) {
        let last = line.clone();
        let reason = tokio::select! {
            reason = self.tell(first, &line) => reason,
            () = line.0.closed() => None,
            () = at(expires) => Some("TokenExpired"),
            () = closing.cancelled() => Some("Stopping"),
        };
        if let Some(reason) = reason {
            let _ = last.say(Outgoing::Event(Told::End(reason).event(None))).await;
        }
    }

    /// Sends events; returns why the stream ends, if the caller is to hear that.
    async fn tell(mut self, first: First, line: &Line) -> Option<&'static str> {
        let First { mut reset, mut all, mut events } = first;
        let mut begun = false;
        loop {
            if let Some(reason) = reset.take() {
                say(line, Told::Reset(reason), None).await?;
            }
            if let Some(all) = all.take() {
                for instance in &all {
                    say(line, Told::Session(instance), None).await?;
                }
                self.say(line, Told::Ready).await?;
            }
            if let Some(moves) = &mut self.moves
                && !std::mem::replace(&mut begun, true)
            {
                moves.catch_up(line, &self.place).await?;
            }
            let broken = self.pass_on(&mut events, line).await?;
            match self.again(broken).await {
                Ok((next, afresh)) => {
                    events = next;
                    if afresh.is_some() {
                        (reset, all) = (Some("TooLongAgo"), afresh);
                    }
                }
                Err(reason) => return Some(reason),
            }
        }
    }

    /// Passes on what the watch and the bridges tell until the watch ends; none when the caller takes nothing any more.
    async fn pass_on(&mut self, events: &mut Events, line: &Line) -> Option<Broken> {
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                news = heard(&mut self.moves) => {
                    if let Some(moves) = &mut self.moves {
                        moves.hear(news, line, &self.place).await?;
                    }
                    continue;
                }
            };
            let (object, gone) = match event {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => (object, false),
                Some(Ok(WatchEvent::Deleted(object))) => (object, true),
                Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                    self.place = bookmark.metadata.resource_version;
                    self.say(line, Told::Place).await?;
                    continue;
                }
                Some(Ok(WatchEvent::Error(status))) => return Some(of(&status)),
                Some(Err(_)) | None => return Some(Broken::Passing),
            };
            if let Some(version) = object.meta().resource_version.clone() {
                self.place = version;
            }
            if let Some(instance) = readable(object) {
                let told = if gone { Told::Deleted(&instance) } else { Told::Session(&instance) };
                self.say(line, told).await?;
            }
        }
    }

    /// The next watch, and everything there is where it could not go on.
    async fn again(&mut self, mut broken: Broken) -> Result<(Events, Option<Vec<WhatsAppInstance>>), &'static str> {
        let mut all = None;
        for tried in 0..TRIES {
            if tried > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            match broken {
                Broken::End(reason) => return Err(reason),
                Broken::Passing if tried == 0 => {}
                Broken::Passing => match self.has_lost_its_place().await {
                    Ok(false) => {}
                    Ok(true) => {
                        broken = Broken::TooOld;
                        continue;
                    }
                    Err(error) => {
                        broken = why(&error);
                        continue;
                    }
                },
                Broken::TooOld => match self.list().await {
                    Ok(found) => all = Some(found),
                    Err(error) => {
                        broken = match why(&error) {
                            Broken::Passing => Broken::TooOld,
                            other => other,
                        };
                        continue;
                    }
                },
            }
            match self.watch().await {
                Ok(events) => return Ok((events, all)),
                Err(error) => broken = why(&error),
            }
        }
        Err("Unavailable")
    }

    /// Says it, with the place that it leads to.
    async fn say(&self, line: &Line, told: Told<'_>) -> Option<()> {
        let id = self.moves.as_ref().map(|moves| moves.id(&self.place));
        say(line, told, Some(id.as_deref().unwrap_or(&self.place))).await
    }
}

async fn say(line: &Line, told: Told<'_>, place: Option<&str>) -> Option<()> {
    line.say(Outgoing::Event(told.event(place))).await
}

/// The next news of messages; never where they are not wanted.
async fn heard(moves: &mut Option<Moves>) -> Result<Arc<News>, RecvError> {
    match moves {
        Some(moves) => moves.heard().await,
        None => std::future::pending().await,
    }
}

const LIST: Asked = Asked { verb: "list", hidden: false };
const WATCH: Asked = Asked { verb: "watch", hidden: false };

fn why(error: &CallError) -> Broken {
    match error {
        CallError::Api { source, .. } => match &**source {
            kube::Error::Api(status) => of(status),
            _ => Broken::Passing,
        },
        CallError::Slow { .. } => Broken::Passing,
    }
}

fn of(status: &Status) -> Broken {
    match refusal(status) {
        Refusal::TooOld => Broken::TooOld,
        Refusal::Unauthenticated => Broken::End("TokenExpired"),
        Refusal::RightMissing { .. } | Refusal::ByPolicy { .. } => Broken::End("NotAllowed"),
        _ => Broken::Passing,
    }
}

/// Returns at that time; never when there is none.
async fn at(expires: Option<Timestamp>) {
    let Some(expires) = expires else { return std::future::pending().await };
    let left = Duration::try_from(expires.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_stream_is_told_from_what_passes() {
        let of = |code: u16| of(&serde_json::from_value(serde_json::json!({"code": code})).unwrap());
        assert!(matches!(of(410), Broken::TooOld));
        assert!(matches!(of(401), Broken::End("TokenExpired")));
        assert!(matches!(of(403), Broken::End("NotAllowed")));
        assert!(matches!(of(500), Broken::Passing));
    }
}
