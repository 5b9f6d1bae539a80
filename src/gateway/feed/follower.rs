//! One connection to each shard, made again as often as it ends.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Feeds;
use crate::{
    api::BridgeBinding,
    bridge_api::{Cursor, MessageEvent},
    platform::{
        backoff::{Backoff, spread},
        lock,
    },
};

/// First pause before a shard is tried again; doubles, up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// How often to look which shards there are, and whether any stream or request follows messages.
const LOOK: Duration = Duration::from_secs(10);
/// After so many looks without a stream or request, no shard is followed any more.
const QUIET: u32 = 6;

/// Follows a shard for ever.
pub(super) async fn follow(feeds: &Feeds, binding: &BridgeBinding) {
    let (mut at, mut backoff) = (None, Backoff::new(PAUSE, LONGEST_PAUSE));
    loop {
        let before = at.clone();
        let ended = once(feeds, binding, &mut at).await;
        feeds.tried(binding);
        if at != before {
            backoff.reset();
        }
        let Ended(why) = ended;
        tracing::debug!(bridge = binding.name, shard = binding.shard, why, "following messages anew");
        sleep(spread(backoff.pause())).await;
    }
}

/// Why a connection is over.
struct Ended(String);

/// Follows a shard from `at` on, over one connection.
async fn once(feeds: &Feeds, binding: &BridgeBinding, at: &mut Option<Cursor>) -> Ended {
    let since = at.as_ref();
    let mut events = match feeds.0.bridges.ask(binding, |shard| async move { shard.events(since).await }).await {
        Ok(events) => events,
        Err(why) => return Ended(why.to_string()),
    };
    let mut first = true;
    while let Some(event) = events.next().await {
        let (cursor, moved) = match event {
            Ok((Some(cursor), MessageEvent::Moved(status))) => (cursor, Some(*status)),
            Ok((Some(cursor), MessageEvent::Begins | MessageEvent::Missed)) => (cursor, None),
            Ok((None, _)) => continue,
            Err(error) => return Ended(error.to_string()),
        };
        // It goes on where it was: nothing is new.
        if moved.is_some() || at.as_ref() != Some(&cursor) {
            feeds.heard(binding, &cursor, moved);
            *at = Some(cursor);
        }
        if std::mem::take(&mut first) {
            feeds.tried(binding);
        }
    }
    Ended("the bridge ended the stream".to_owned())
}

/// Follows shards that are new, no longer those that are gone, and none at all after [`QUIET`] looks without a stream or request.
pub(super) async fn keep(feeds: &Feeds) {
    let (mut looks, mut quiet) = (interval(LOOK), 0);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let shards = feeds.0.bridges.shards().await;
        let mut state = lock(&feeds.0.state);
        let wanted = state.news.receiver_count() > 0 || !state.waiting.is_empty();
        quiet = if wanted { 0 } else { quiet + 1 };
        if quiet >= QUIET {
            state.shards.drain().for_each(|(_, shard)| shard.stop.cancel());
            state.keeping = false;
            return;
        }
        let Ok(shards) = shards else { continue };
        state.shards.retain(|binding, shard| {
            let there = shards.iter().any(|(known, _)| known == binding);
            if !there {
                shard.stop.cancel();
            }
            there
        });
        drop(state);
        if wanted {
            shards.iter().for_each(|(binding, _)| feeds.follow(binding));
        }
    }
}
