//! One of our programs, running as a child that cannot outlive us.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

/// How long a program may take until it has announced its addresses. Debug builds on a busy machine need a few seconds.
const STARTUP: Duration = Duration::from_secs(60);

/// A program that can be killed and started again with the same arguments.
pub struct Program {
    name: &'static str,
    executable: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    dir: PathBuf,
    starts: u32,
    child: Option<Child>,
}

impl Program {
    /// Describes a program whose log, pid and announcement files live in `dir`. `start` starts it.
    pub fn new(name: &'static str, dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("create the program's directory");
        Self {
            name,
            executable: executable(name),
            arguments: Vec::new(),
            environment: Vec::new(),
            dir: dir.to_owned(),
            starts: 0,
            child: None,
        }
    }

    /// Uses another executable than the one built beside the tests.
    pub fn executable(mut self, path: PathBuf) -> Self {
        self.executable = path;
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Adds arguments, for the next start.
    pub fn add<A: Into<OsString>>(&mut self, arguments: impl IntoIterator<Item = A>) {
        self.arguments.extend(arguments.into_iter().map(Into::into));
    }

    /// Replaces the value that follows `flag`, for the next start.
    pub fn set(&mut self, flag: &str, value: impl Into<OsString>) {
        let at = self.arguments.iter().position(|a| a == flag).expect("the flag was given at first");
        self.arguments[at + 1] = value.into();
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.{suffix}", self.name))
    }

    /// Everything the program has logged, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.file("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Starts the program and returns at once.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let _ = fs::remove_file(self.file("announce"));
        let _ = fs::remove_file(self.file("pid"));
        let log = fs::OpenOptions::new().create(true).append(true).open(self.file("log")).expect("open the log");
        self.starts += 1;
        let child = Command::new(tether())
            .arg("--pid-file")
            .arg(self.file("pid"))
            .arg("--")
            .arg(&self.executable)
            .args(&self.arguments)
            .arg("--announce")
            .arg(self.file("announce"))
            .env("RUST_BACKTRACE", "1")
            // Of panics only: errors that are handled would pay for theirs as well, which no user's program does.
            .env("RUST_LIB_BACKTRACE", "0")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", self.executable.display()));
        self.child = Some(child);
    }

    /// Starts the program and waits for what it announces.
    pub async fn start<T: DeserializeOwned>(&mut self) -> T {
        self.spawn();
        let deadline = Instant::now() + STARTUP;
        loop {
            if let Ok(text) = fs::read_to_string(self.file("announce")) {
                return serde_json::from_str(&text).expect("the announcement is JSON");
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                // Another test's program may have been given the port that this one had before a restart; not for long.
                if tail(&self.log()).contains("Address already in use") && Instant::now() < deadline {
                    self.child = None;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    self.spawn();
                    continue;
                }
                panic!("{} ended at start ({status}):\n{}", self.name, tail(&self.log()));
            }
            assert!(Instant::now() < deadline, "{} announced nothing:\n{}", self.name, tail(&self.log()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The program's own process id. A program that was spawned a moment ago gets one in a few milliseconds.
    pub fn pid(&self) -> u32 {
        let deadline = Instant::now() + STARTUP;
        loop {
            match fs::read_to_string(self.file("pid")) {
                Ok(pid) => return pid.trim().parse().expect("a pid"),
                Err(error) => assert!(Instant::now() < deadline, "{} has no pid file: {error}", self.name),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.pid().to_string()).status().expect("run kill");
        assert!(status.success(), "kill {signal} {}", self.name);
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.wait();
    }

    /// SIGSTOP: it is there, takes connections and answers nothing, until it is killed.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGTERM; [`Program::wait`] waits for what becomes of it.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Starts the program, which is to end by itself with an error; what it has said.
    pub fn fail(&mut self) -> String {
        let before = self.log().len();
        self.spawn();
        let mut child = self.child.take().expect("it was spawned");
        let rope = child.stdin.take();
        let deadline = Instant::now() + STARTUP;
        let status = loop {
            if let Some(status) = child.try_wait().expect("ask after the child") {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not end:\n{}", self.name, tail(&self.log()));
            std::thread::sleep(Duration::from_millis(20));
        };
        drop(rope);
        let said = self.log().split_off(before);
        assert!(!status.success(), "{} ended well:\n{said}", self.name);
        said
    }

    /// SIGTERM, and waits until it is gone.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        self.wait();
    }

    /// Whether it has ended by itself, and nobody has waited for that yet.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("ask after the child").is_some())
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) {
        if let Some(mut child) = self.child.take() {
            // `Child::wait` would close it first, and the tether take that for our end.
            let rope = child.stdin.take();
            child.wait().expect("wait for the child");
            drop(rope);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Closing its standard input makes the tether end the program.
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// The executable of this build, beside the running test or demo.
pub fn executable(name: &str) -> PathBuf {
    let path = profile_dir().join(name);
    assert!(path.exists(), "{name} is not built: run the tests with `make test`, which builds all programs first");
    path
}

/// Where cargo put the running test or demo, and everything built with it.
pub fn profile_dir() -> PathBuf {
    let own = std::env::current_exe().expect("know our own path");
    let profile = own.ancestors().find(|dir| dir.join(".cargo-lock").exists());
    profile.expect("run from a cargo target folder").to_owned()
}

fn tether() -> PathBuf {
    super::control_plane::room().join("tether")
}

/// The end of a log, for an error.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
