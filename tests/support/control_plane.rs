//! A Kubernetes control plane of our own: a real etcd and a real kube-apiserver on loopback, with RBAC and webhooks.
//!
//! There is no controller-manager, hence no garbage collection of children, no end of deleted namespaces and no default
//! service accounts. Everything is in one temporary directory, and both programs run on a `tether`
//! (`tests/control-plane/tether`): they end with us, whatever becomes of us.

use std::{
    fmt, fs, io,
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use tethered::Tethered;

mod identity;
mod tethered;

/// The user whose token `kubeconfig` holds; a member of `system:masters`.
const ADMIN: &str = "admin";
/// kube-apiserver is ready 4 to 5 s after its start on two idle cores; a machine that also compiles needs more.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks at a starting program.
const LOOK: Duration = Duration::from_millis(50);
/// A port found free may be taken before the program binds it. More often than this in a row is not bad luck.
const ATTEMPTS: u32 = 5;
/// Metadata is enough to count writes, and never holds a code or a token. One line a request, when it is answered.
const AUDIT_POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n";

/// What a control plane may be told before it starts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where etcd and kube-apiserver are; otherwise `tests/control-plane/binaries` finds or builds them.
    pub assets: Option<PathBuf>,
    /// Record every request (metadata only), see `ControlPlane::audit_log`.
    pub audit: bool,
    /// Users without any right, each with a token of its own, see `ControlPlane::kubeconfig_of`.
    pub users: Vec<String>,
    /// Goes before other processes where the machine allows that: all of a run's tests wait for it.
    pub favoured: bool,
    /// Everything is reached by IPv6 and by nothing else, as in a cluster that has no IPv4.
    pub ipv6: bool,
}

impl Options {
    fn loopback(&self) -> IpAddr {
        if self.ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
    }
}

/// Why there is no control plane.
#[derive(Debug)]
pub enum Error {
    /// There are no binaries; the sentence says what to do.
    Binaries(String),
    /// A file or a process of ours could not be had.
    Io(String, io::Error),
    /// A program ended or never got ready; with the end of its log.
    NotReady(String),
    /// Every port found free was taken the next moment.
    Ports,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binaries(sentence) => f.write_str(sentence),
            Self::Io(what, error) => write!(f, "control plane: {what}: {error}"),
            Self::NotReady(story) => write!(f, "control plane: {story}"),
            Self::Ports => write!(f, "control plane: no free port after {ATTEMPTS} attempts; try again"),
        }
    }
}

impl std::error::Error for Error {}

/// Turns an I/O error into ours, saying what was tried.
fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io(what.into(), error)
}

/// A running control plane. Dropping it stops kube-apiserver, then etcd, and removes the directory.
pub struct ControlPlane {
    dir: PathBuf,
    url: String,
    binaries: PathBuf,
    tokens: Vec<(String, String)>,
    audit: bool,
    apiserver: Tethered,
    etcd: Tethered,
}

impl ControlPlane {
    /// Starts one and waits until it answers.
    pub async fn start(options: &Options) -> Result<Self, Error> {
        Self::start_as(options, None).await
    }

    /// Starts another one that is what this one is now: with its objects and versions, certificates and tokens, as if it were restored from
    /// a backup of etcd. From then on they have nothing to do with each other.
    pub async fn restored(&self) -> Result<Self, Error> {
        Self::start_as(&Options::default(), Some(self)).await
    }

    async fn start_as(options: &Options, of: Option<&Self>) -> Result<Self, Error> {
        let binaries = binaries(options.assets.as_deref()).await?;
        for _ in 0..ATTEMPTS {
            if let Some(plane) = Self::attempt(&binaries, options, of).await? {
                return Ok(plane);
            }
        }
        Err(Error::Ports)
    }

    /// The one that all tests of this process share. It ends with the process, when the pipes to its tethers close.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        let options = Options { audit: true, favoured: true, ..Options::default() };
        SHARED.get_or_init(|| async { Self::start(&options).await.unwrap_or_else(|error| panic!("{error}")) }).await
    }

    /// `None` when a port was taken between our finding it free and the program binding it.
    async fn attempt(binaries: &Path, options: &Options, of: Option<&Self>) -> Result<Option<Self>, Error> {
        let dir = private_dir()?;
        let ip = options.loopback();
        let [client, peer, secure] = free_ports(ip)?.map(|port| SocketAddr::new(ip, port));
        let users = [ADMIN].into_iter().map(str::to_owned).chain(options.users.iter().cloned());
        let tokens = match of {
            Some(other) => other.copy_to(&dir).map(|()| other.tokens.clone())?,
            None => users.map(|user| Ok((user, token()?))).collect::<Result<Vec<_>, Error>>()?,
        };

        let etcd_url = format!("http://{client}");
        let peer_url = format!("http://{peer}");
        let data = dir.join("etcd-data");
        let etcd_arguments = [
            "--name=tests".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={etcd_url}"),
            format!("--advertise-client-urls={etcd_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=tests={peer_url}"),
            // The data need not survive a power failure.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        // etcd's tether goes last, hence it removes the directory of both. Without etcd kube-apiserver ignores SIGTERM.
        let wait_for = dir.join("kube-apiserver.pid");
        let tether = ["--after".as_ref(), wait_for.as_os_str(), "--remove".as_ref(), dir.as_os_str()];
        // Where that is not allowed, `nice` says so in the log and runs the program all the same.
        let by: &[&str] = if options.favoured { &["nice", "-n", "-10"] } else { &[] };
        let mut etcd = Tethered::spawn("etcd", binaries, &dir, &tether, by, &etcd_arguments)?;
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect(client).is_err() {
            if etcd.lost_its_port() {
                return Ok(None);
            }
            etcd.check(deadline)?;
            tokio::time::sleep(LOOK).await;
        }

        let arguments = apiserver_arguments(&dir, &etcd_url, secure, &tokens, options.audit)?;
        let apiserver = Tethered::spawn("kube-apiserver", binaries, &dir, &[], by, &arguments)?;
        let url = format!("https://{secure}");
        let (binaries, audit) = (binaries.to_owned(), options.audit);
        let mut plane = Self { dir, url, binaries, tokens, audit, apiserver, etcd };
        if !plane.until_ready(deadline).await? {
            return Ok(None);
        }
        plane.write_kubeconfig(ADMIN)?;
        for user in &options.users {
            plane.write_kubeconfig(user)?;
        }
        Ok(Some(plane))
    }

    /// Ready is: /readyz says so, and the namespace `default` is there. `false` when the port was lost.
    async fn until_ready(&mut self, deadline: Instant) -> Result<bool, Error> {
        loop {
            if self.apiserver.lost_its_port() {
                return Ok(false);
            }
            // Whoever is late is asked first: an etcd that has ended is noticed long before.
            self.apiserver.check(deadline)?;
            self.etcd.check(deadline)?;
            // kube-apiserver writes its certificate before it listens. Read at every look: one that was half written, or empty, once
            // would never be answered.
            if let Some(client) = fs::read(self.certificate()).ok().and_then(|pem| trusting(&pem))
                && self.answers(&client, "/readyz").await
                && self.answers(&client, "/api/v1/namespaces/default").await
            {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn answers(&self, client: &reqwest::Client, path: &str) -> bool {
        let request =
            client.get(format!("{}{path}", self.url)).bearer_auth(self.token()).timeout(Duration::from_secs(5));
        request.send().await.is_ok_and(|response| response.status().is_success())
    }

    fn certificate(&self) -> PathBuf {
        self.dir.join("certificates/apiserver.crt")
    }

    fn write_kubeconfig(&self, user: &str) -> Result<(), Error> {
        let file = self.kubeconfig_of(user);
        // JSON is YAML, and quotes whatever the user is called.
        let content = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": {"server": self.url, "certificate-authority": self.certificate()}}],
            "users": [{"name": user, "user": {"token": self.token_of(user)}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user, "namespace": "default"}}],
            "current-context": "tests",
        });
        fs::write(&file, content.to_string()).map_err(doing(format!("write {}", file.display())))
    }

    /// The administrator's kubeconfig. It names the certificate by its path, so it is good while the control plane runs.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_of(ADMIN)
    }

    /// The kubeconfig of one of `Options::users`.
    pub fn kubeconfig_of(&self, user: &str) -> PathBuf {
        // A user name may hold anything, a file name may not.
        let safe: String = user.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        self.dir.join(format!("{safe}.kubeconfig"))
    }

    /// The administrator's bearer token.
    pub fn token(&self) -> &str {
        self.token_of(ADMIN)
    }

    fn token_of(&self, user: &str) -> &str {
        self.tokens.iter().find(|(name, _)| name == user).map_or("", |(_, token)| token)
    }

    /// Where the API server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// With `Options::audit`: one JSON object a line for each answered request (verb, user, objectRef, responseStatus).
    pub fn audit_log(&self) -> Option<PathBuf> {
        self.audit.then(|| self.dir.join("audit.log"))
    }

    /// The authority of the certificate that the API server shows to webhooks, PEM.
    pub fn webhook_client_ca(&self) -> PathBuf {
        self.dir.join("webhook-client.crt")
    }

    /// The kubectl provided with the control plane when there is none on the PATH.
    pub fn kubectl(&self) -> Option<PathBuf> {
        let on_path =
            std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join("kubectl").is_file()));
        Some(self.binaries.join("kubectl")).filter(|own| !on_path && own.is_file())
    }

    /// Copies data and certificates as they are at one moment, as a crash would leave them.
    fn copy_to(&self, dir: &Path) -> Result<(), Error> {
        self.etcd.signal("-STOP")?;
        let copied = run(Command::new("cp")
            .arg("-a")
            .args(["etcd-data", "certificates"].map(|name| self.dir.join(name)))
            .arg(dir));
        self.etcd.signal("-CONT")?;
        copied
    }

    /// The process ids of kube-apiserver and etcd.
    pub fn pids(&self) -> [u32; 2] {
        [self.apiserver.pid(), self.etcd.pid()]
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.apiserver.stop();
        self.etcd.stop();
    }
}

fn apiserver_arguments(
    dir: &Path,
    etcd: &str,
    address: SocketAddr,
    tokens: &[(String, String)],
    audit: bool,
) -> Result<Vec<String>, Error> {
    let certificates = dir.join("certificates");
    let token_file = dir.join("tokens.csv");
    let line = |(n, (user, token)): (usize, &(String, String))| {
        let group = if user == ADMIN { ",system:masters" } else { "" };
        format!("{token},\"{}\",uid-{n}{group}\n", user.replace('"', "\"\""))
    };
    let lines: String = tokens.iter().enumerate().map(line).collect();
    fs::write(&token_file, lines).map_err(doing("write the token file"))?;
    // The key that kube-apiserver makes for its own certificate signs service account tokens too: one file less to make.
    let key = certificates.join("apiserver.key");
    let mut arguments = vec![
        format!("--etcd-servers={etcd}"),
        format!("--bind-address={}", address.ip()),
        format!("--advertise-address={}", address.ip()),
        // Nobody reaches it through the Service `kubernetes`, and an endpoint may not be a loopback address.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={}", address.port()),
        format!("--cert-dir={}", certificates.display()),
        format!("--token-auth-file={}", token_file.display()),
        "--authorization-mode=RBAC".to_owned(),
        format!("--service-cluster-ip-range={}", if address.is_ipv6() { "fd00:10::/112" } else { "10.0.0.0/24" }),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", key.display()),
        format!("--service-account-signing-key-file={}", key.display()),
        "--profiling=false".to_owned(),
        format!("--admission-control-config-file={}", identity::write(dir)?.display()),
    ];
    if audit {
        let policy = dir.join("audit-policy.yaml");
        fs::write(&policy, AUDIT_POLICY).map_err(doing("write the audit policy"))?;
        arguments.push(format!("--audit-policy-file={}", policy.display()));
        arguments.push(format!("--audit-log-path={}", dir.join("audit.log").display()));
    }
    Ok(arguments)
}

/// The folder `tests/control-plane`, from any package of this workspace.
pub fn room() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = own.ancestors().map(|dir| dir.join("tests/control-plane")).find(|room| room.join("tether").is_file());
    found.unwrap_or_else(|| own.join("tests/control-plane"))
}

/// Runs `tests/control-plane/binaries`, whose progress goes to our standard error as it comes.
async fn binaries(assets: Option<&Path>) -> Result<PathBuf, Error> {
    let mut command = tokio::process::Command::new(room().join("binaries"));
    if let Some(assets) = assets {
        command.env("KUBEBUILDER_ASSETS", assets);
    }
    // Its last line of progress is the reason when it fails, so it is both shown and kept.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(doing("run tests/control-plane/binaries"))?;
    let mut last = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stderr));
        while let Ok(Some(line)) = lines.next_line().await {
            eprintln!("{line}");
            last = line;
        }
    }
    let output = child.wait_with_output().await.map_err(doing("wait for tests/control-plane/binaries"))?;
    if !output.status.success() {
        return Err(Error::Binaries(last));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// A client that trusts this API server only.
fn trusting(pem: &[u8]) -> Option<reqwest::Client> {
    // An error means that another part of this process has chosen already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = reqwest::Certificate::from_pem_bundle(pem).ok()?;
    reqwest::Client::builder().tls_certs_only(roots).build().ok()
}

/// Three different ports that were free a moment ago.
fn free_ports(ip: IpAddr) -> Result<[u16; 3], Error> {
    let bind = || TcpListener::bind((ip, 0));
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    // All are held until all are known, or the same one might come twice.
    let find = || {
        let held = [bind()?, bind()?, bind()?];
        Ok([port(&held[0])?, port(&held[1])?, port(&held[2])?])
    };
    find().map_err(doing(format!("find a free port on {ip}; this machine has to have that address")))
}

/// 128 random bits in hexadecimal, from the operating system.
fn token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    let mut source = fs::File::open("/dev/urandom").map_err(doing("open /dev/urandom"))?;
    source.read_exact(&mut bytes).map_err(doing("read /dev/urandom"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// A new directory that only we can read, because tokens and keys are in it.
/// Runs a command that says nothing.
fn run(command: &mut Command) -> Result<(), Error> {
    let ran = command
        .status()
        .and_then(|status| if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) });
    ran.map_err(doing(format!("{command:?}")))
}

fn private_dir() -> Result<PathBuf, Error> {
    let dir = std::env::temp_dir().join(format!("whatsapp-control-plane-{}", token()?));
    fs::DirBuilder::new().mode(0o700).create(&dir).map_err(doing(format!("create {}", dir.display())))?;
    Ok(dir)
}
