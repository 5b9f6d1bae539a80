//! Certificates given as files, as cert-manager mounts them: `tls.crt` and `tls.key`, read again when they change.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{fs, time::sleep};
use tokio_util::sync::CancellationToken;

use super::served::Served;

/// The kubelet itself needs up to a minute to bring a change into the mount.
pub const LOOK: Duration = Duration::from_secs(10);

/// Shows what the files in `directory` hold until `stop`, looking every `look`. While a pair cannot be used, for example
/// because it is half written, the one before stays.
pub async fn keep(directory: &Path, look: Duration, served: Arc<Served>, stop: CancellationToken) {
    let (mut shown, mut complained) = (None, None);
    loop {
        let found = read(directory).await;
        if found.is_err() || found.as_ref().ok() != shown.as_ref() {
            match found
                .and_then(|(chain, key)| served.swap(&chain, &key).map(|()| (chain, key)).map_err(|e| e.to_string()))
            {
                Ok(pair) => {
                    tracing::info!(directory = %directory.display(), "loaded the webhook's certificate");
                    (shown, complained) = (Some(pair), None);
                }
                Err(error) if complained.as_ref() != Some(&error) => {
                    tracing::error!(directory = %directory.display(), error, "load the webhook's certificate");
                    complained = Some(error);
                }
                Err(_) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(look) => {}
        }
    }
}

async fn read(directory: &Path) -> Result<(String, String), String> {
    let file = async |name: &str| {
        fs::read_to_string(directory.join(name)).await.map_err(|error| format!("read {name}: {error}"))
    };
    Ok((file("tls.crt").await?, file("tls.key").await?))
}
