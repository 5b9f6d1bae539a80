//! `send`: a message through an instance.

use std::{io::Read as _, time::Duration};

use kube::ResourceExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    client::Cluster,
    error::PluginError,
    gateway::{Gateway, Lasting, Trouble},
    message::{self, is_sent, standing},
    message_args::SendArgs,
    output,
    values::Lifetime,
};
use crate::bridge_api::LONGEST_TEXT;

/// How long the gateway is asked to wait, so that progress can be shown.
const STEP: u64 = 5;
/// Between two tries to reach a gateway that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends it. Every try carries the same idempotency key, so all of them are one message.
///
/// # Errors
/// When it is refused or ends without being sent, and see [`PluginError`].
pub async fn run(cluster: &Cluster, args: &SendArgs) -> Result<(), PluginError> {
    let text = text(&args.text)?;
    let gateway = Lasting::open(cluster, &args.gateway).await?;
    let instance = cluster.get(&args.name).await?;
    let key = args.idempotency_key.clone().unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)));
    let mut body = json!({"recipient": args.to, "message": text, "session_id": instance.uid()});
    if let Some(Lifetime(lasts)) = args.expires_in {
        body["expires_in"] = lasts.as_secs().into();
    }
    let sending = Sending { gateway: &gateway, key: &key, body: &body };
    let accepted = sending.once(&*gateway.current().await, 0).await.map_err(|error| explain(error, args, &key))?;
    if args.output.is_none() {
        said(&accepted)?;
    }
    let last = if args.wait { sending.until_sent(accepted, args).await? } else { accepted };
    if let Some(text) = message::formatted(&last, args.output)? {
        output::text(&text)?;
    }
    is_sent(&last).map(drop)
}

struct Sending<'a> {
    gateway: &'a Lasting,
    key: &'a str,
    body: &'a Value,
}

impl Sending<'_> {
    /// Sends it, or asks how far it has come: the key makes both the same.
    async fn once(&self, gateway: &Gateway, wait: u64) -> Result<Value, PluginError> {
        let wait_text = wait.to_string();
        let request = gateway.request(Method::POST, &["messages", "send", ""], &[("wait", &wait_text)])?;
        let request = request.header("idempotency-key", self.key).json(self.body);
        Ok(gateway.ask(request, Duration::from_secs(wait)).await?.data)
    }

    /// Follows it until it waits no longer, and says what it waits for as that changes.
    async fn until_sent(&self, accepted: Value, args: &SendArgs) -> Result<Value, PluginError> {
        let (began, mut last) = (Instant::now(), accepted);
        let deadline = args.timeout.0.map(|limit| began + limit);
        let (mut shown, mut trouble) = (standing(&last), Trouble::none());
        while last["status"] == "queued" {
            let left =
                deadline.map_or(STEP, |at| at.saturating_duration_since(Instant::now()).as_secs().clamp(1, STEP));
            let asked = async {
                let gateway = self.gateway.current().await;
                match self.once(&gateway, left).await {
                    // A gateway that is restarted, or a bridge, or a token that ended: the message is kept.
                    Err(error) if error.is_passing() || error.wants_another_gateway() => {
                        trouble.bear(self.gateway, &gateway, error).await?;
                        sleep(PAUSE).await;
                        Ok(None)
                    }
                    answer => answer.map(Some),
                }
            };
            let asked = match deadline {
                Some(at) => timeout_at(at, asked).await.unwrap_or(Ok(None)),
                None => asked.await,
            };
            if let Some(now) = asked? {
                trouble.is_over();
                last = now;
            }
            let stands = standing(&last);
            if stands != shown && args.output.is_none() {
                said(&last)?;
            }
            shown = stands;
            if last["status"] == "queued" && deadline.is_some_and(|at| at <= Instant::now()) {
                let after = began.elapsed().as_secs();
                let last = format!(
                    "{} is {shown}, and still will be sent; call it back with `kubectl whatsapp cancel {}`",
                    message::name(&last),
                    last["id"].as_str().unwrap_or_default()
                );
                return Err(PluginError::TimedOut { after, last });
            }
        }
        Ok(last)
    }
}

fn said(now: &Value) -> Result<(), PluginError> {
    Ok(output::line(&format!("{} {}", message::name(now), standing(now)))?)
}

/// The text, or what comes on standard input.
fn text(given: &str) -> Result<String, PluginError> {
    let text = if given == "-" { from_input()? } else { given.to_owned() };
    if text.trim().is_empty() {
        return Err(PluginError::Usage(
            "there is no text; give it as the last argument, or - and pipe it in".to_owned(),
        ));
    }
    Ok(text)
}

fn from_input() -> Result<String, PluginError> {
    // A character has at most four bytes, the mark at the beginning three, and the line break at the end two; one more tells that there is
    // too much.
    let most = 4 * LONGEST_TEXT as u64 + 6;
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(most).read_to_end(&mut bytes);
    read.map_err(|error| PluginError::Usage(format!("cannot read the text from standard input: {error}")))?;
    if bytes.len() as u64 == most {
        return Err(PluginError::Usage(format!(
            "the text on standard input is too long; a message has at most {LONGEST_TEXT} characters"
        )));
    }
    as_text(bytes)
}

/// The text in a file or from another program, without what is only there because it is one: a byte order mark at the beginning, and the
/// line break at the end.
fn as_text(bytes: Vec<u8>) -> Result<String, PluginError> {
    let is_wide = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    let text = String::from_utf8(bytes).map_err(|_| {
        let hint = if is_wide { ", and is UTF-16, as PowerShell writes it" } else { "" };
        PluginError::Usage(format!("the text on standard input must be UTF-8{hint}"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)).to_owned())
}

/// What a first try that failed means for this command.
fn explain(error: PluginError, args: &SendArgs, key: &str) -> PluginError {
    if let PluginError::GatewayRefused { code, message, .. } = &error
        && code == "NotPaired"
    {
        return PluginError::NeedsPairing(format!("{message}: `kubectl whatsapp qr {}`", args.name));
    }
    if error.is_passing() {
        return PluginError::Ended(format!(
            "{error}; repeat the command with --idempotency-key {key}, and it is sent once whether or not it was accepted now"
        ));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::plugin::args::{Args, Verb};

    #[test]
    fn what_makes_a_text_a_file_is_not_sent() {
        let text = |bytes: &[u8]| as_text(bytes.to_vec()).map_err(|error| error.to_string());
        for (bytes, sent) in [
            (&b"Hello"[..], "Hello"),
            (b"Hello\n", "Hello"),
            (b"one\r\ntwo\r\n", "one\r\ntwo"),
            (b"two\n\n", "two\n"),
            (b"\xef\xbb\xbfHello\r\n", "Hello"),
            (b"", ""),
        ] {
            assert_eq!(text(bytes).unwrap(), sent, "{bytes:?}");
        }
        assert!(text(b"\xff\xfeH\0i\0").unwrap_err().contains("must be UTF-8, and is UTF-16"));
        assert!(text(b"Hall\xf6").unwrap_err().ends_with("must be UTF-8"));
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_a_mistake_on_the_line() {
        let parse = |key: &str| {
            Args::try_parse_from(["kubectl-whatsapp", "send", "shop", "--to", "1", "--idempotency-key", key, "Hi"])
        };
        assert!(parse("order-17").is_ok() && parse(&"k".repeat(255)).is_ok());
        for bad in ["", "order 17", "order-17\r", "schl\u{fc}ssel", &"k".repeat(256)] {
            let said = parse(bad).unwrap_err().to_string();
            assert!(said.contains("1 to 255 visible ASCII characters"), "{said}");
        }
    }

    fn args(line: &[&str]) -> SendArgs {
        let line = ["kubectl-whatsapp", "send", "shop"].iter().chain(line);
        let Verb::Send(args) = Args::try_parse_from(line).unwrap().verb else { panic!() };
        args
    }

    #[test]
    fn a_text_may_begin_with_a_dash_and_must_show_something() {
        let args = args(&["--to", "+15550001", "-5 % today", "--wait"]);
        assert!(args.text == "-5 % today" && args.wait);
        assert_eq!(text(&args.text).unwrap(), "-5 % today");
        assert_eq!(text(" \n").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_refusal_says_what_to_do_in_the_plugins_words() {
        let args = args(&["--to", "+15550001", "Hello"]);
        let refused = |code: &str, retryable| PluginError::GatewayRefused {
            code: code.into(),
            message: "no device is linked".into(),
            request: "r".into(),
            retryable,
        };
        let unpaired = explain(refused("NotPaired", false), &args, "k");
        assert_eq!(unpaired.exit_code(), 5);
        assert!(unpaired.to_string().contains("kubectl whatsapp qr shop"), "{unpaired}");
        assert!(explain(refused("Timeout", true), &args, "k-1").to_string().contains("--idempotency-key k-1"));
        assert!(!explain(refused("Invalid", false), &args, "k-1").to_string().contains("k-1"));
    }
}
