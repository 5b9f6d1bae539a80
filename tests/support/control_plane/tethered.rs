//! etcd or kube-apiserver at the end of its tether.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use super::{Error, READY_WITHIN, doing, room, run};
use crate::support::program::tail;

/// One program on its tether.
pub struct Tethered {
    name: &'static str,
    pid_file: PathBuf,
    /// Open, because it can be read even after etcd's tether has removed the directory.
    log: fs::File,
    child: Child,
}

impl Tethered {
    /// Starts `binaries/name`; `tether` are the tether's own arguments, `by` is a command that runs the one that follows it, if
    /// any. Log and pid file are in `dir`.
    pub fn spawn(
        name: &'static str,
        binaries: &Path,
        dir: &Path,
        tether: &[&OsStr],
        by: &[&str],
        arguments: &[String],
    ) -> Result<Self, Error> {
        let log = dir.join(format!("{name}.log"));
        let writing = fs::File::create(&log).map_err(doing(format!("create {}", log.display())))?;
        let log = fs::File::open(&log).map_err(doing(format!("open {}", log.display())))?;
        let pid_file = dir.join(format!("{name}.pid"));
        let child = Command::new(room().join("tether"))
            .arg("--pid-file")
            .arg(&pid_file)
            .args(tether)
            .arg("--")
            .args(by)
            .arg(binaries.join(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(writing.try_clone().map_err(doing("share a log"))?)
            .stderr(writing)
            .spawn()
            .map_err(doing(format!("start {name} by tests/control-plane/tether")))?;
        Ok(Self { name, pid_file, log, child })
    }

    fn log(&self) -> String {
        let (mut log, mut bytes) = (&self.log, Vec::new());
        // What cannot be read is missing from an error's text, no more.
        let _ = log.seek(io::SeekFrom::Start(0)).and_then(|_| log.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// An error when the program has ended or the deadline has passed.
    pub fn check(&mut self, deadline: Instant) -> Result<(), Error> {
        let ended = self.child.try_wait().map_err(doing(format!("ask after {}", self.name)))?;
        let what = match ended {
            Some(status) => format!("{} ended at start ({status})", self.name),
            None if Instant::now() > deadline => {
                format!("{} is not ready after {} s", self.name, READY_WITHIN.as_secs())
            }
            None => return Ok(()),
        };
        Err(Error::NotReady(format!("{what}; the end of its log:\n{}", tail(&self.log()))))
    }

    /// Whether it ended because somebody else has bound its port.
    pub fn lost_its_port(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_))) && self.log().contains("address already in use")
    }

    /// The program's own process id.
    pub fn pid(&self) -> u32 {
        let text = fs::read_to_string(&self.pid_file).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: &str) -> Result<(), Error> {
        run(Command::new("kill").args([signal, &self.pid().to_string()]))
    }

    /// Lets go of the tether and waits until the program is gone.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        self.stop();
    }
}
