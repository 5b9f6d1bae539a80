//! `qr`: the code in the terminal, live.

use std::{
    io::{self, IsTerminal, Write},
    pin::pin,
    time::Duration,
};

use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{
    args::{QrArgs, QrOutput},
    client::Cluster,
    clock::ServerClock,
    error::PluginError,
    refresh,
    screen::{Code, End, Screen, command, next},
    terminal::{Ink, Painter, caption, clipped, fitted, picture},
    wait::{Gate, Patience},
};
use crate::{
    api::{PairingMethod, WhatsAppInstance},
    model::Sensitive,
    platform::qr::svg,
};

/// Shows the codes of an instance until the phone has scanned one.
///
/// # Errors
/// When the window passes unused, when pairing cannot come about, when time is up, and see [`PluginError`].
pub async fn run(cluster: &Cluster, args: &QrArgs) -> Result<(), PluginError> {
    let mut gate = Gate::open();
    if args.refresh {
        let instance = super::client::read(cluster.get(&args.name).await?)?;
        if !matches!(next(&instance), Screen::Ended(End::Connected { .. })) {
            may_be_drawn(args.output, &instance)?;
            gate = Gate::after_refresh(&refresh::ask(cluster, &args.name).await?);
        }
    }
    let mut view = View::new(args, cluster.clock.clone());
    let outcome = follow(cluster, args, gate, &mut view).await;
    // Whatever the end, no code stays on the screen.
    view.clear()?;
    outcome
}

async fn follow(cluster: &Cluster, args: &QrArgs, mut gate: Gate, view: &mut View) -> Result<(), PluginError> {
    let name = args.name.as_str();
    let deadline = args.timeout.0.map(|limit| (limit, Instant::now() + limit));
    let mut changes = pin!(cluster.watch(&args.name));
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut current = Screen::Waiting("asking the API server".to_owned());
    let mut patience = Patience::new(args.refresh);
    let mut lost = false;
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Some(instance))) => {
                    patience.renew();
                    lost = false;
                    current = if gate.lets_through(&instance) { next(&instance) } else {
                        Screen::Waiting("asked for a new pairing window".to_owned())
                    };
                    if let Screen::Ended(end) = &current {
                        view.clear()?;
                        return finish(&command("qr", &instance), end, view);
                    }
                    may_be_drawn(args.output, &instance)?;
                    view.show(name, &current)?;
                    if args.once && matches!(current, Screen::Code(_)) || view.output == QrOutput::Svg && view.shown {
                        view.keep();
                        return Ok(());
                    }
                }
                Some(Ok(None)) => return Err(cluster.not_found(&args.name)),
                // A connection that breaks in the middle comes back by itself; one that was never there does not.
                Some(Err(error)) if patience.bears(&error) => {
                    view.clear()?;
                    // Once is enough: each attempt fails in its own words.
                    if !std::mem::replace(&mut lost, true) {
                        view.note(&format!("lost the connection and keeps trying: {error}"));
                    }
                }
                Some(Err(error)) => return Err(error),
                None => return Err(PluginError::Ended("the API server ended the watch; try again".to_owned())),
            },
            _ = seconds.tick(), if view.live => view.show(name, &current)?,
            () = sleep_until(deadline.map_or_else(Instant::now, |(_, at)| at)), if deadline.is_some() => {
                let after = deadline.map_or(0, |(limit, _)| limit.as_secs());
                let last = match &current {
                    // Another process scans; all that can be said here is that none was.
                    Screen::Code(_) | Screen::Ended(_) => {
                        format!("nobody scanned a code of \"{name}\"; try again with a longer --timeout")
                    }
                    Screen::Waiting(why) => format!("there is no code to scan for \"{name}\": {why}"),
                };
                return Err(PluginError::TimedOut { after, last });
            }
            _ = &mut interrupted => return Err(PluginError::Interrupted),
        }
    }
}

/// A code that is typed could be drawn as well, and no phone would take it.
fn may_be_drawn(output: QrOutput, instance: &WhatsAppInstance) -> Result<(), PluginError> {
    if output != QrOutput::Svg || instance.spec.pairing.method != PairingMethod::Code {
        return Ok(());
    }
    Err(PluginError::Ended(format!(
        "there is no QR code to draw of \"{}\": its pairing method is Code, whose code is typed on the phone; look at it with `{}`",
        instance.metadata.name.as_deref().unwrap_or_default(),
        command("qr", instance)
    )))
}

fn finish(again: &str, end: &End, view: &View) -> Result<(), PluginError> {
    match end {
        End::Connected { phone } => Ok(view.result(&connected(phone.as_ref()))?),
        End::Expired => Err(PluginError::PairingExpired { command: format!("{again} --refresh") }),
        End::LoggedOut => {
            Err(PluginError::NeedsPairing(format!("the device was unlinked; pair it again with `{again} --refresh`")))
        }
        End::Stopped(words) => Err(PluginError::Ended(words.clone())),
    }
}

fn connected(phone: Option<&Sensitive>) -> String {
    phone.map_or_else(|| "Connected".to_owned(), |phone| format!("Connected as {}", phone.reveal()))
}

/// Where the code goes, and what is there already.
struct View {
    output: QrOutput,
    ink: Ink,
    /// Repaints in place; otherwise each code is written once.
    live: bool,
    painter: Painter,
    /// Codes end by it.
    clock: ServerClock,
    last: Option<Code>,
    shown: bool,
    noted: Option<String>,
}

impl View {
    fn new(args: &QrArgs, clock: ServerClock) -> Self {
        let terminal = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let ink = match (colours, args.invert) {
            (true, _) => Ink::Coloured,
            (false, false) => Ink::OnDark,
            (false, true) => Ink::OnLight,
        };
        let live = terminal && args.output == QrOutput::Text && !args.once;
        Self {
            output: args.output,
            ink,
            live,
            painter: Painter::default(),
            clock,
            last: None,
            shown: false,
            noted: None,
        }
    }

    fn show(&mut self, name: &str, screen: &Screen) -> Result<(), PluginError> {
        match screen {
            Screen::Code(code) => self.code(name, code),
            Screen::Waiting(why) if self.live => Ok(self.paint(&clipped(&format!("Waiting: {why}\n"), size()))?),
            Screen::Waiting(why) => {
                self.note(why);
                Ok(())
            }
            Screen::Ended(_) => Ok(()),
        }
    }

    fn code(&mut self, name: &str, code: &Code) -> Result<(), PluginError> {
        let undrawable = || PluginError::Undrawable { name: name.to_owned() };
        if self.live {
            let text = fitted(code, self.ink, size(), self.clock.now()).ok_or_else(undrawable)?;
            return Ok(self.paint(&text)?);
        }
        if self.last.as_ref().is_some_and(|last| last.text == code.text) {
            return Ok(());
        }
        let text = match self.output {
            QrOutput::Raw => format!("{}\n", code.text.reveal()),
            QrOutput::Svg => format!("{}\n", svg(code.text.reveal()).ok_or_else(undrawable)?.trim_end()),
            QrOutput::Text => {
                let drawing = picture(code, self.ink, size().map(|(columns, _)| columns)).ok_or_else(undrawable)?;
                format!("{drawing}{}", caption(code, self.clock.now()))
            }
        };
        write_out(&text)?;
        self.last = Some(code.clone());
        self.shown = true;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.live { self.paint("") } else { Ok(()) }
    }

    fn paint(&mut self, text: &str) -> io::Result<()> {
        self.painter.paint(&mut io::stdout().lock(), text, size().map(|(columns, _)| columns))
    }

    /// Leaves what was painted where it is.
    fn keep(&mut self) {
        self.painter = Painter::default();
    }

    /// The last line. With raw and svg, standard output carries codes only.
    fn result(&self, words: &str) -> io::Result<()> {
        if self.output == QrOutput::Text { write_out(&format!("{words}\n")) } else { writeln!(io::stderr(), "{words}") }
    }

    /// Something for a person, who is there only if standard error is a terminal.
    fn note(&mut self, words: &str) {
        if io::stderr().is_terminal() && self.noted.as_deref() != Some(words) {
            self.noted = Some(words.to_owned());
            // Without standard error there is no reader for the note.
            let _ = writeln!(io::stderr(), "{words}");
        }
    }
}

fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn size() -> Option<(usize, usize)> {
    terminal_size::terminal_size().map(|(columns, rows)| (columns.0.into(), rows.0.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{End, QrOutput, connected, may_be_drawn};
    use crate::{model::Sensitive, plugin::fixtures::instance};

    #[test]
    fn the_last_line_names_the_number_when_it_is_known() {
        assert_eq!(connected(Some(&Sensitive::new("+15550001"))), "Connected as +15550001");
        assert_eq!(connected(None), "Connected");
    }

    #[test]
    fn a_code_that_is_typed_is_no_picture() {
        let typed = instance(json!({"pairing": {"method": "Code", "phoneNumber": "+15551234567"}}), Value::Null);
        let error = may_be_drawn(QrOutput::Svg, &typed).unwrap_err();
        let words = error.to_string();
        assert!(
            words.contains("typed on the phone") && words.contains("`kubectl whatsapp qr shop -n team`"),
            "{words}"
        );
        assert_eq!(error.exit_code(), 1);
        for output in [QrOutput::Text, QrOutput::Raw] {
            assert!(may_be_drawn(output, &typed).is_ok(), "{output:?}");
        }
        assert!(may_be_drawn(QrOutput::Svg, &instance(json!({}), Value::Null)).is_ok());
    }

    #[test]
    fn each_end_has_the_exit_code_of_the_help() {
        let args = clap::Parser::try_parse_from(["kubectl-whatsapp", "qr", "shop"]).unwrap();
        let super::super::args::Args { verb: super::super::args::Verb::Qr(args), .. } = args else { panic!() };
        let view = super::View::new(&args, Default::default());
        let code = |end: End| super::finish("shop", &end, &view).unwrap_err().exit_code();
        assert_eq!(code(End::Expired), 3);
        assert_eq!(code(End::LoggedOut), 5);
        assert_eq!(code(End::Stopped("why".into())), 1);
    }
}
