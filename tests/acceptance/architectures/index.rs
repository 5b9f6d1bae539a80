//! One archive with the image for every architecture, of one archive for each.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::chart::ROOT;
use super::refusal;

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a folder holds under `blobs`, by digest; every one of them has to be what its name says.
fn blob(folder: &Path, digest: &str) -> Vec<u8> {
    let hash = digest.strip_prefix("sha256:").unwrap();
    let bytes = fs::read(folder.join("blobs/sha256").join(hash)).unwrap();
    assert_eq!(sha256(&bytes), hash);
    bytes
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An OCI archive as a builder of images leaves it, with the time of packing in it.
fn archive(dir: &Path, file: &str, name: &str, architecture: &str) {
    let work = dir.join("part");
    let blobs = work.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |text: String| {
        let digest = sha256(text.as_bytes());
        fs::write(blobs.join(&digest), &text).unwrap();
        json!({"mediaType": "application/vnd.oci.image.x", "digest": format!("sha256:{digest}"), "size": text.len()})
    };
    let layer = put(format!("what runs on {architecture}"));
    let labels = json!({"org.opencontainers.image.title": "x"});
    let config = put(json!({"architecture": architecture, "config": {"Labels": labels}, "os": "linux"}).to_string());
    let manifest = put(json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string());
    let mut entry = manifest.clone();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    fs::write(work.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
    fs::write(work.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    run(Command::new("tar").arg("-C").arg(&work).arg("-cf").arg(dir.join(file)).arg("."));
    fs::remove_dir_all(work).unwrap();
}

/// The image that an archive names, with its digest, and its first layer for each architecture.
pub fn read(file: &Path) -> (String, String, Vec<(String, Vec<u8>)>) {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("tar").arg("-C").arg(folder.path()).arg("-xf").arg(file));
    let top: Value = serde_json::from_slice(&fs::read(folder.path().join("index.json")).unwrap()).unwrap();
    let [entry] = top["manifests"].as_array().unwrap().as_slice() else { panic!("one image: {top}") };
    assert_eq!(entry["mediaType"], "application/vnd.oci.image.index.v1+json");
    let digest = entry["digest"].as_str().unwrap();
    let bytes = blob(folder.path(), digest);
    assert_eq!(entry["size"], bytes.len());
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(index["mediaType"], entry["mediaType"]);
    let mut found = Vec::new();
    for one in index["manifests"].as_array().unwrap() {
        let bytes = blob(folder.path(), one["digest"].as_str().unwrap());
        assert_eq!(one["size"], bytes.len());
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let layer = blob(folder.path(), manifest["layers"][0]["digest"].as_str().unwrap());
        let config = blob(folder.path(), manifest["config"]["digest"].as_str().unwrap());
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(one["platform"], json!({"architecture": config["architecture"], "os": config["os"]}));
        found.push((config["architecture"].as_str().unwrap().to_owned(), layer));
    }
    let annotations = &entry["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], annotations["org.opencontainers.image.ref.name"]);
    (annotations["io.containerd.image.name"].as_str().unwrap().to_owned(), digest.to_owned(), found)
}

#[test]
fn an_index_holds_every_architecture_under_one_digest() {
    let dir = tempfile::tempdir().unwrap();
    let name = "localhost/whatsapp-operator/whatsapp-operator:0.1.0";
    let index = |out: &str, archives: &[&str]| {
        let mut command = Command::new(format!("{ROOT}/.ci/index"));
        command.current_dir(dir.path()).arg(out).args(archives).env("SOURCE_DATE_EPOCH", "1000");
        command
    };
    for (file, architecture) in [("amd64.tar", "amd64"), ("arm64.tar", "arm64"), ("again.tar", "arm64")] {
        archive(dir.path(), file, name, architecture);
    }
    let said = run(&mut index("one.tar", &["arm64.tar", "amd64.tar"]));
    let (named, digest, found) = read(&dir.path().join("one.tar"));
    assert_eq!((named.as_str(), said.trim()), (name, digest.as_str()));
    let architectures: Vec<&str> = found.iter().map(|(architecture, _)| architecture.as_str()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);

    // The same images, packed at another time and given in another order.
    run(&mut index("two.tar", &["amd64.tar", "again.tar"]));
    assert!(fs::read(dir.path().join("one.tar")).unwrap() == fs::read(dir.path().join("two.tar")).unwrap());
    // One architecture alone has an index too: what is done with the archive is the same.
    run(&mut index("alone.tar", &["amd64.tar"]));
    assert_eq!(read(&dir.path().join("alone.tar")).2.len(), 1);

    let twice = refusal(&mut index("no.tar", &["arm64.tar", "again.tar"])).expect("refused");
    assert!(twice.contains("two of the archives are for arm64"), "{twice}");
    archive(dir.path(), "bridge.tar", "localhost/whatsapp-operator/whatsapp-bridge:0.1.0", "amd64");
    let other = refusal(&mut index("no.tar", &["arm64.tar", "bridge.tar"])).expect("refused");
    assert!(other.contains("bridge.tar holds localhost/whatsapp-operator/whatsapp-bridge:0.1.0, not"), "{other}");
}
