//! The command line.

use crate::client;
use crate::control::messages::Name;
use crate::control::{ModeBody, PairCodeRequest, ScanRequest, Sentence};
use crate::faults::{LinkFault, Live, NewcomerRules, Rules};
use crate::letters::{Address, Writing};
use crate::server::Server;
use crate::world::Mode;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

const EXAMPLES: &str = r#"Examples:
  simulated-whatsapp serve --state-dir /tmp/wa --announce /tmp/wa.json
  simulated-whatsapp scan --control $URL --qr "$QR" --phone +15550001 --push-name Alice
  simulated-whatsapp write --control $URL --phone +15550001 --from +15550002 "Hello Alice"
  simulated-whatsapp inbox --control $URL --phone +15550002
  simulated-whatsapp unlink --control $URL --phone +15550001
  simulated-whatsapp ban --control $URL --phone +15550001 --seconds 600
  simulated-whatsapp mode stall --control $URL
  simulated-whatsapp act --control $URL --phone +15550001 '{"act":"reset"}'
  simulated-whatsapp act --control $URL --phone +15550001 '{"act":"end","code":503}'
  simulated-whatsapp act --control $URL --phone +15550001 '{"act":"silent","about":"answers"}'
  simulated-whatsapp rules --control $URL --phone +15550001 '{"endLogin":{"afterMs":2000},"refuse":{"reason":429,"times":3}}'
  simulated-whatsapp rules --control $URL --phone +15550001 '{"unanswered":[{"xmlns":"encrypt","type":"set"}]}'
  simulated-whatsapp rules --control $URL --phone +15550001 '{"acks":{"lost":true,"times":3}}'
  simulated-whatsapp rules --control $URL --phone +15550002 '{"receipts":{"read":true,"afterMs":500},"retry":{"times":1}}'
  simulated-whatsapp newcomers --control $URL '{"references":"one","hello":"truncated","helloTimes":1}'
  simulated-whatsapp newcomers --control $URL '{"refuseCode":{"stage":"companion_hello","code":429,"backoff":60}}'
  simulated-whatsapp devices --control $URL

Every command but serve takes the control address from SIMULATED_WHATSAPP_CONTROL as well."#;

/// A simulated WhatsApp server and phone for tests and demos, on this machine only.
#[derive(Parser)]
#[command(name = "simulated-whatsapp", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server until Ctrl-C; prints one JSON line with its addresses when it is ready
    Serve(Serve),
    /// Scan a QR code with the phone of this number and link the client that shows it
    Scan(Scan),
    /// Type the code a client shows into the phone of this number and link the client
    PairCode(PairCode),
    /// Somebody else writes to the linked devices of the phone of this number
    Write(Write),
    /// Show what became of what was written to the linked devices
    Written(Phone),
    /// Show what a phone received
    Inbox(Inbox),
    /// The owner of a phone reads what it received
    Read(Phone),
    /// The owner changes the account's name
    Rename(Rename),
    /// The owner removes the linked devices in the phone's settings
    Unlink(Phone),
    /// The server logs the linked devices out
    Logout(Phone),
    /// The server tells the connected devices that another connection took their place
    Replace(Phone),
    /// The account is banned for a while
    Ban(Ban),
    /// The account must not write to new people for a while (reach-out time-lock)
    Restrict(Timed),
    /// The restriction is lifted
    Unrestrict(Phone),
    /// The connections of the linked devices break
    Drop(Phone),
    /// Show or change how the server treats connections
    Mode(ModeArgs),
    /// Make something go wrong once on the phone's open connections
    Act(Wrong<Live>),
    /// Make something go wrong on every login of the phone's devices, until other rules replace these
    Rules(Wrong<Rules>),
    /// Make something go wrong for clients that are not linked yet
    Newcomers(Newcomers),
    /// Make the codes of all clients that wait for a scan stale
    RefreshCodes(Control),
    /// List the linked devices
    Devices(Control),
    /// Show counts
    Stats(Control),
}

#[derive(Args)]
struct Serve {
    /// Address for WhatsApp clients; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Address of the control API
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    control: SocketAddr,
    /// Where keys and linked devices are kept; the same directory continues where the last run ended
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// Also write the JSON line to this file, once the server is ready
    #[arg(long, value_name = "FILE")]
    announce: Option<PathBuf>,
    /// Send what is small to clients at once, as a real chat server does, instead of waiting until they have confirmed what went
    /// before (some 40 ms)
    #[arg(long)]
    no_delay: bool,
    /// How much to log on stderr: error, warn, info, debug
    #[arg(long, default_value = "info", env = "SIMULATED_WHATSAPP_LOG", value_name = "LEVEL")]
    log: tracing_subscriber::filter::LevelFilter,
}

#[derive(Args)]
struct Control {
    /// Address of the control API, as printed by serve
    #[arg(long, env = "SIMULATED_WHATSAPP_CONTROL", value_name = "URL")]
    control: String,
}

#[derive(Args)]
struct Phone {
    #[command(flatten)]
    control: Control,
    /// Phone number, compared by its digits
    #[arg(long, value_name = "NUMBER")]
    phone: String,
}

#[derive(Args)]
struct Timed {
    #[command(flatten)]
    phone: Phone,
    /// For how long; 0 ends it at once
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
}

#[derive(Args)]
struct Ban {
    #[command(flatten)]
    timed: Timed,
    /// WhatsApp's sub-reason
    #[arg(long, default_value_t = 101)]
    code: u16,
}

#[derive(Args)]
struct Scan {
    #[command(flatten)]
    phone: Phone,
    /// What the QR code says, with or without the https://wa.me prefix
    #[arg(long, value_name = "STRING")]
    qr: String,
    /// The name of the phone's owner
    #[arg(long, default_value = "", value_name = "NAME")]
    push_name: String,
    /// What is wrong with the link the phone offers
    #[arg(long)]
    fault: Option<LinkFault>,
}

#[derive(Args)]
struct PairCode {
    #[command(flatten)]
    phone: Phone,
    /// The eight characters, with or without the dash
    #[arg(long)]
    code: String,
    /// The name of the phone's owner
    #[arg(long, default_value = "", value_name = "NAME")]
    push_name: String,
}

#[derive(Args)]
struct Write {
    #[command(flatten)]
    phone: Phone,
    /// Who writes
    #[arg(long, value_name = "NUMBER")]
    from: String,
    /// What is written; with --count, followed by each message's own number
    text: String,
    /// The name of whoever writes
    #[arg(long, default_value = "", value_name = "NAME")]
    name: String,
    /// How many messages
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// From one message to the next
    #[arg(long, default_value_t = 0, value_name = "MS")]
    interval_ms: u64,
    /// By which address the one who writes is named
    #[arg(long, default_value = "pn")]
    address: Address,
    /// Keep the messages until the devices log in again
    #[arg(long)]
    queued: bool,
}

#[derive(Args)]
struct Inbox {
    #[command(flatten)]
    control: Control,
    /// Phone number; left out, all phones
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
}

#[derive(Args)]
struct Rename {
    #[command(flatten)]
    phone: Phone,
    /// The new name; may be empty
    #[arg(value_name = "NAME")]
    push_name: String,
}

#[derive(Args)]
struct Wrong<T: FromJson> {
    #[command(flatten)]
    phone: Phone,
    /// What, as JSON: see the examples, and the control API's documentation for all of it
    #[arg(value_parser = T::from_json)]
    what: T,
}

#[derive(Args)]
struct Newcomers {
    #[command(flatten)]
    control: Control,
    /// What, as JSON; {} ends it
    #[arg(value_parser = NewcomerRules::from_json)]
    what: NewcomerRules,
}

/// Arguments that are JSON.
trait FromJson: serde::Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static {
    fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

impl FromJson for Live {}
impl FromJson for Rules {}
impl FromJson for NewcomerRules {}

#[derive(Args)]
struct ModeArgs {
    #[command(flatten)]
    control: Control,
    /// The new mode; left out, the mode stays as it is
    mode: Option<Mode>,
    /// Hold message acks back for so long
    #[arg(long, value_name = "MS")]
    ack_delay_ms: Option<u64>,
}

impl Cli {
    /// Does what was asked; prints results on stdout.
    ///
    /// # Errors
    /// One sentence for stderr.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::Scan(scan) => {
                let Phone { control, phone } = scan.phone;
                let body = ScanRequest { qr: scan.qr, phone, push_name: scan.push_name, fault: scan.fault };
                print(client::call(&control.control, "/v1/scan", Some(&body)).await?)
            }
            Command::PairCode(entered) => {
                let Phone { control, phone } = entered.phone;
                let body = PairCodeRequest { code: entered.code, phone, push_name: entered.push_name, fault: None };
                print(client::call(&control.control, "/v1/pair-code", Some(&body)).await?)
            }
            Command::Write(write) => {
                let Write { phone, from, text, name, count, interval_ms, address, queued } = write;
                let writing = Writing { from, text, name, count: Some(count), interval_ms, address, queued };
                phone.verb("messages", &writing).await
            }
            Command::Written(phone) => {
                let path = format!("/v1/phones/{}/messages", phone.digits()?);
                print(client::call::<()>(&phone.control.control, &path, None).await?)
            }
            Command::Inbox(Inbox { control, phone }) => {
                let query = match phone {
                    Some(number) => format!("?phone={}", digits(&number)?),
                    None => String::new(),
                };
                print(client::call::<()>(&control.control, &format!("/v1/inbox{query}"), None).await?)
            }
            Command::Read(phone) => phone.verb("read", &serde_json::json!({})).await,
            Command::Rename(Rename { phone, push_name }) => phone.verb("rename", &Name { push_name }).await,
            Command::Unlink(phone) => phone.verb("unlink", &Sentence::default()).await,
            Command::Logout(phone) => phone.verb("logout", &Sentence::default()).await,
            Command::Replace(phone) => phone.verb("replace", &Sentence::default()).await,
            Command::Drop(phone) => phone.verb("drop", &Sentence::default()).await,
            Command::Unrestrict(phone) => phone.verb("unrestrict", &Sentence::default()).await,
            Command::Restrict(timed) => {
                timed.phone.verb("restrict", &Sentence { seconds: Some(timed.seconds), code: None }).await
            }
            Command::Ban(Ban { timed, code }) => {
                timed.phone.verb("ban", &Sentence { seconds: Some(timed.seconds), code: Some(code) }).await
            }
            Command::Mode(args) => {
                let body = ModeBody { mode: args.mode, ack_delay_ms: args.ack_delay_ms };
                print(client::call(&args.control.control, "/v1/mode", Some(&body)).await?)
            }
            Command::Act(wrong) => wrong.phone.verb("act", &wrong.what).await,
            Command::Rules(wrong) => wrong.phone.verb("rules", &wrong.what).await,
            Command::Newcomers(Newcomers { control, what }) => {
                print(client::call(&control.control, "/v1/newcomers", Some(&what)).await?)
            }
            Command::RefreshCodes(control) => {
                print(client::call(&control.control, "/v1/pairings/refresh", Some(&serde_json::json!({}))).await?)
            }
            Command::Devices(control) => print(client::call::<()>(&control.control, "/v1/devices", None).await?),
            Command::Stats(control) => print(client::call::<()>(&control.control, "/v1/stats", None).await?),
        }
    }
}

impl Phone {
    async fn verb<B: serde::Serialize + Sync>(self, verb: &str, body: &B) -> anyhow::Result<()> {
        let path = format!("/v1/phones/{}/{verb}", self.digits()?);
        print(client::call(&self.control.control, &path, Some(body)).await?)
    }

    fn digits(&self) -> anyhow::Result<u64> {
        digits(&self.phone)
    }
}

/// Checked here because a number with a slash would name another path.
fn digits(phone: &str) -> anyhow::Result<u64> {
    crate::world::digits(phone).ok_or_else(|| anyhow::anyhow!("--phone must have 5 to 15 digits, like +15550001"))
}

impl Serve {
    async fn run(self) -> anyhow::Result<()> {
        // Only our own lines: the protocol libraries log addresses, which contain phone numbers.
        let filter = tracing_subscriber::filter::Targets::new().with_target("simulated_whatsapp", self.log);
        use tracing_subscriber::layer::SubscriberExt as _;
        use tracing_subscriber::util::SubscriberInitExt as _;
        tracing_subscriber::registry()
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
            .with(filter)
            .init();
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let server = Server::start(self.listen, self.control, &self.state_dir, self.no_delay).await?;
        let line = server.announce(self.announce.as_deref())?;
        write_line(&line)?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result?,
            _ = terminate.recv() => {}
        }
        server.stop().await;
        if let Some(file) = &self.announce {
            crate::files::remove(file)?;
        }
        Ok(())
    }
}

fn print(answer: serde_json::Value) -> anyhow::Result<()> {
    write_line(&serde_json::to_string_pretty(&answer)?)
}

fn write_line(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
