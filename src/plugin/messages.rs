//! `messages`: the messages of an instance, and what becomes of them.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    client::{Cluster, read},
    error::PluginError,
    gateway::{Events, Gateway, Lasting, Trouble},
    message::{is_on_a_companion, rows},
    message_args::{MessagesArgs, MessagesOutput},
    output,
};

/// Messages on a page of the gateway.
const PAGE: u64 = 50;
/// Between two tries to follow a gateway that does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Messages whose shown state is remembered.
const REMEMBERED: usize = 20_000;

/// Lists them; with `--watch`, goes on.
///
/// # Errors
/// See [`PluginError`].
pub async fn run(cluster: &Cluster, args: &MessagesArgs) -> Result<(), PluginError> {
    let lasting = Lasting::open(cluster, &args.gateway).await?;
    let instance = read(cluster.get(&args.name).await?)?;
    let session = instance.uid().unwrap_or_default();
    let owner = instance.owner().unwrap_or("*").to_owned();
    if !args.watch {
        let found = list(&*lasting.current().await, &session, args.limit).await?;
        if found.is_empty() && matches!(args.output, None | Some(MessagesOutput::Wide)) {
            return Ok(output::note(&format!("No messages of \"{}\".", args.name))?);
        }
        return show(&found, args.output, true);
    }
    let namespace = cluster.namespace.as_str();
    let watch = Watch {
        gateway: &lasting,
        session: &session,
        owner: &owner,
        namespace,
        args,
        shown: HashMap::new(),
        since: None,
        begun: false,
        behind: true,
    };
    watch.run().await
}

async fn list(gateway: &Gateway, session: &str, limit: u64) -> Result<Vec<Value>, PluginError> {
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let left = limit.saturating_sub(found.len() as u64).min(PAGE).to_string();
        let mut query = vec![("session_id", session), ("limit", left.as_str())];
        if let Some(cursor) = &cursor {
            query.push(("cursor", cursor));
        }
        let request = gateway.request(Method::GET, &["messages", "list", ""], &query)?;
        let mut page = gateway.ask(request, Duration::ZERO).await?.data;
        if let Value::Array(messages) = page["messages"].take() {
            found.extend(messages);
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || found.len() as u64 >= limit {
            return Ok(found);
        }
    }
}

fn show(found: &[Value], format: Option<MessagesOutput>, heading: bool) -> Result<(), PluginError> {
    let all = || json!({ "messages": found });
    let text = match format {
        Some(MessagesOutput::Json) => output::json(&all())?,
        Some(MessagesOutput::Yaml) => output::yaml(&all())?,
        wide => rows(found, wide.is_some(), heading, Timestamp::now()),
    };
    Ok(output::text(&text)?)
}

struct Watch<'a> {
    gateway: &'a Lasting,
    session: &'a str,
    owner: &'a str,
    namespace: &'a str,
    args: &'a MessagesArgs,
    /// In which state a message was shown last.
    shown: HashMap<String, String>,
    /// The last event that was heard.
    since: Option<String>,
    /// The stream has worked.
    begun: bool,
    /// What was missed has to be asked for.
    behind: bool,
}

/// Why a stream is over.
enum Over {
    /// It is followed anew, from where it was.
    Passing,
    /// So it is, with another token.
    Expired,
    /// What it was told with does not count any more.
    Ended(PluginError),
}

impl Watch<'_> {
    async fn run(mut self) -> Result<(), PluginError> {
        let mut trouble = Trouble::none();
        loop {
            let gateway = self.gateway.current().await;
            let error = match self.once(&gateway, &mut trouble).await {
                Ok(Over::Passing) => None,
                Ok(Over::Expired) => self.gateway.instead_of(&gateway).await.err(),
                Ok(Over::Ended(error)) => return Err(error),
                // Nothing to write to.
                Err(error @ (PluginError::Output(_) | PluginError::Unprintable { .. })) => return Err(error),
                Err(error) if !self.begun => return Err(error),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                trouble.bear(self.gateway, &gateway, error).await?;
            }
            sleep(PAUSE).await;
        }
    }

    /// Follows one stream to its end.
    async fn once(&mut self, gateway: &Gateway, trouble: &mut Trouble) -> Result<Over, PluginError> {
        let query = [("owner", self.owner), ("namespace", self.namespace)];
        let mut events = gateway.events(&query, self.since.as_deref()).await?;
        // Followed before they are listed, so that nothing is missed.
        if self.behind {
            self.list(gateway, !self.begun).await?;
        }
        self.begun = true;
        trouble.is_over();
        self.follow(gateway, &mut events).await
    }

    async fn follow(&mut self, gateway: &Gateway, events: &mut Events) -> Result<Over, PluginError> {
        while let Some(event) = events.next().await {
            if !event.id.is_empty() {
                self.since = Some(event.id);
            }
            let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
            match &*event.name {
                "message" if data["message"]["session_id"] == self.session => {
                    self.print(vec![data["message"].clone()])?;
                }
                "reset" if data["reason"] != "TooLongAgo" => {
                    self.behind = true;
                    self.list(gateway, false).await?;
                }
                "end" if data["reason"] == "TokenExpired" => return Ok(Over::Expired),
                "end" if data["reason"] == "NotAllowed" => {
                    return Ok(Over::Ended(PluginError::Ended(
                        "you may not follow these sessions any more; ask for a role with verbs \"list\" and \"watch\" on whatsappinstances".to_owned(),
                    )));
                }
                "deleted" if data["session"]["id"] == self.session => {
                    return Ok(Over::Ended(PluginError::Ended(format!("instance \"{}\" was deleted", self.args.name))));
                }
                _ => {}
            }
        }
        Ok(Over::Passing)
    }

    /// Shows what is new among the newest.
    async fn list(&mut self, gateway: &Gateway, heading: bool) -> Result<(), PluginError> {
        let mut found = list(gateway, self.session, self.args.limit).await?;
        self.behind = false;
        // The newest last: what comes stands below.
        found.reverse();
        if heading && matches!(self.args.output, None | Some(MessagesOutput::Wide)) {
            for message in &found {
                self.note(message);
            }
            return show(&found, self.args.output, true);
        }
        self.print(found)
    }

    fn print(&mut self, messages: Vec<Value>) -> Result<(), PluginError> {
        let news: Vec<Value> = messages.into_iter().filter(|message| self.note(message)).collect();
        match self.args.output {
            // One after another, as kubectl does.
            Some(MessagesOutput::Json) => news.iter().try_for_each(|one| Ok(output::text(&output::json(one)?)?)),
            Some(MessagesOutput::Yaml) => {
                news.iter().try_for_each(|one| Ok(output::text(&format!("---\n{}", output::yaml(one)?))?))
            }
            table => Ok(output::text(&rows(&news, table.is_some(), false, Timestamp::now()))?),
        }
    }

    /// Whether it has not been shown in this state.
    fn note(&mut self, message: &Value) -> bool {
        let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
        let mut status = text("status");
        if is_on_a_companion(message) {
            status.push_str(" on a companion");
        }
        // For a watch of weeks: what was shown that long ago does not come again.
        if self.shown.len() >= REMEMBERED {
            self.shown.clear();
        }
        self.shown.insert(text("id"), status.clone()).is_none_or(|before| before != status)
    }
}
