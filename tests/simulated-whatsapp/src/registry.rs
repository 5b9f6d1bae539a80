//! What survives a restart: the server's keys, the accounts and the device table with the keys the devices uploaded.
//!
//! One file per record, replaced whole, so that pairing two hundred devices writes each of them once.

use crate::certificates::ServerIdentity;
use crate::files;
use crate::keys::{Bytes, Key};
use crate::phone::Account;
use crate::prekeys::Bundle;
use anyhow::Context as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wacore_binary::Jid;

/// A companion device of an account. Ordered, so that listings are stable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceKey {
    /// The phone number's digits.
    pub phone: u64,
    /// The companion's number, from 1; 0 is the phone itself.
    pub device: u16,
}

impl DeviceKey {
    /// `<phone>:<device>@s.whatsapp.net`.
    #[must_use]
    pub fn jid(self) -> Jid {
        Jid::pn_device(self.phone.to_string(), self.device)
    }

    fn file(self) -> String {
        format!("{}-{}", self.phone, self.device)
    }
}

/// A paired companion.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Whose companion it is, and which.
    pub key: DeviceKey,
    /// The Noise static key it logs in with.
    pub noise: Bytes,
    /// Its Signal identity key.
    pub identity: Bytes,
    /// The `ADVSignedDeviceIdentity` with both signatures.
    pub signed_identity: Bytes,
    /// Its index in the account's key index list.
    pub key_index: u32,
    /// When it was paired, in unix seconds.
    pub registered_at: u64,
    /// Whether it confirmed the phone's app-state key share.
    pub has_app_state_key: bool,
}

#[derive(Default)]
struct Tables {
    accounts: BTreeMap<u64, Account>,
    devices: BTreeMap<DeviceKey, Device>,
    bundles: BTreeMap<DeviceKey, Bundle>,
}

/// The tables and the directory they are kept in. Locks are held for a lookup or an insert only, never across
/// cryptography or a file write.
pub struct Registry {
    dir: PathBuf,
    tables: Mutex<Tables>,
}

impl Registry {
    /// Opens the directory, creating it and the server's keys when they are not there.
    ///
    /// # Errors
    /// With the file that cannot be read, understood or written.
    pub fn open(dir: &Path, now: u64) -> anyhow::Result<(Self, ServerIdentity)> {
        for part in ["accounts", "devices", "bundles"] {
            let part = dir.join(part);
            std::fs::create_dir_all(&part)
                .with_context(|| format!("cannot create the state directory {}", part.display()))?;
        }
        let keys = dir.join("server.json");
        let identity = match read(&keys)? {
            Some(identity) => identity,
            None => {
                let identity = ServerIdentity::generate(now).context("cannot make the server's certificate chain")?;
                files::replace(&keys, &serde_json::to_vec(&identity)?)?;
                identity
            }
        };
        let mut tables = Tables::default();
        for account in read_all::<Account>(&dir.join("accounts"))? {
            tables.accounts.insert(account.phone, account);
        }
        for device in read_all::<Device>(&dir.join("devices"))? {
            let bundle = dir.join("bundles").join(device.key.file());
            if let Some(bundle) = Bundle::read(&bundle)? {
                tables.bundles.insert(device.key, bundle);
            }
            tables.devices.insert(device.key, device);
        }
        Ok((Self { dir: dir.to_owned(), tables: Mutex::new(tables) }, identity))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account of a phone number.
    #[must_use]
    pub fn account(&self, phone: u64) -> Option<Account> {
        self.tables().accounts.get(&phone).cloned()
    }

    /// Whether there is an account with this number.
    #[must_use]
    pub fn has_account(&self, phone: u64) -> bool {
        self.tables().accounts.contains_key(&phone)
    }

    /// The account with this LID user part.
    #[must_use]
    pub fn account_by_lid(&self, lid: u64) -> Option<Account> {
        self.tables().accounts.values().find(|account| account.lid == lid).cloned()
    }

    /// The account of a number, which is made when nobody asked for it before.
    ///
    /// # Errors
    /// See [`change_account`](Self::change_account).
    pub fn account_or_new(&self, phone: u64) -> anyhow::Result<Account> {
        match self.account(phone) {
            Some(account) => Ok(account),
            None => self.change_account(phone, |_| {}),
        }
    }

    /// Changes an account, making it first when the number is new, and writes it down. Returns it as it is afterwards.
    ///
    /// # Errors
    /// When the keys of a new account cannot be made or the file cannot be written.
    pub fn change_account(&self, phone: u64, change: impl FnOnce(&mut Account)) -> anyhow::Result<Account> {
        let fresh = if self.tables().accounts.contains_key(&phone) { None } else { Some(Account::new(phone)?) };
        let account = {
            let mut tables = self.tables();
            let account = match fresh {
                Some(fresh) => tables.accounts.entry(phone).or_insert(fresh),
                None => tables.accounts.get_mut(&phone).context("no such account")?,
            };
            change(account);
            account.clone()
        };
        files::replace(&self.dir.join("accounts").join(format!("{phone}.json")), &serde_json::to_vec(&account)?)?;
        Ok(account)
    }

    /// A paired device.
    #[must_use]
    pub fn device(&self, key: DeviceKey) -> Option<Device> {
        self.tables().devices.get(&key).cloned()
    }

    /// All paired devices, of one phone number when given.
    #[must_use]
    pub fn devices(&self, phone: Option<u64>) -> Vec<Device> {
        let tables = self.tables();
        tables.devices.values().filter(|device| phone.is_none_or(|phone| device.key.phone == phone)).cloned().collect()
    }

    /// How many devices are paired.
    #[must_use]
    pub fn device_count(&self) -> usize {
        self.tables().devices.len()
    }

    /// Adds or replaces a device.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put_device(&self, device: Device) -> anyhow::Result<()> {
        let path = self.device_path(device.key);
        let bytes = serde_json::to_vec(&device)?;
        self.tables().devices.insert(device.key, device);
        files::replace(&path, &bytes)
    }

    /// Takes a device and its keys off the table; false when it was not there.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn remove_device(&self, key: DeviceKey) -> anyhow::Result<bool> {
        let found = {
            let mut tables = self.tables();
            tables.bundles.remove(&key);
            tables.devices.remove(&key).is_some()
        };
        files::remove(&self.device_path(key))?;
        files::remove(&self.bundle_path(key))?;
        Ok(found)
    }

    /// Whether the device has uploaded keys.
    #[must_use]
    pub fn has_bundle(&self, key: DeviceKey) -> bool {
        self.tables().bundles.contains_key(&key)
    }

    /// Reads a device's keys.
    pub fn with_bundle<T>(&self, key: DeviceKey, read: impl FnOnce(&Bundle) -> T) -> Option<T> {
        self.tables().bundles.get(&key).map(read)
    }

    /// Changes a device's keys and writes them down. `None` when the device uploaded none.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn change_bundle<T>(&self, key: DeviceKey, change: impl FnOnce(&mut Bundle) -> T) -> anyhow::Result<Option<T>> {
        let changed = {
            let mut tables = self.tables();
            tables.bundles.get_mut(&key).map(|bundle| (change(bundle), bundle.encode()))
        };
        let Some((answer, bytes)) = changed else { return Ok(None) };
        files::replace(&self.bundle_path(key), &bytes)?;
        Ok(Some(answer))
    }

    /// Stores a device's keys. Keys of a device that was removed meanwhile are dropped.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put_bundle(&self, key: DeviceKey, bundle: Bundle) -> anyhow::Result<()> {
        let bytes = bundle.encode();
        {
            let mut tables = self.tables();
            if !tables.devices.contains_key(&key) {
                return Ok(());
            }
            tables.bundles.insert(key, bundle);
        }
        files::replace(&self.bundle_path(key), &bytes)
    }

    fn device_path(&self, key: DeviceKey) -> PathBuf {
        self.dir.join("devices").join(format!("{}.json", key.file()))
    }

    fn bundle_path(&self, key: DeviceKey) -> PathBuf {
        self.dir.join("bundles").join(key.file())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| {
                format!("cannot understand {}: remove the state directory to start afresh", path.display())
            })
            .map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn read_all<T: DeserializeOwned>(dir: &Path) -> anyhow::Result<Vec<T>> {
    let mut records = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(record) = read(&path)?
        {
            records.push(record);
        }
    }
    Ok(records)
}

/// A key pair of an account's phone, kept with its Signal identifiers.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedKey {
    /// The signed prekey's id.
    pub id: u32,
    /// The signed prekey.
    pub key: Key,
    /// The identity key's signature over it.
    pub signature: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(phone: u64, device: u16) -> Device {
        Device {
            key: DeviceKey { phone, device },
            noise: Bytes(vec![1; 32]),
            identity: Bytes(vec![2; 32]),
            signed_identity: Bytes(vec![3; 8]),
            key_index: 1,
            registered_at: 1_800_000_000,
            has_app_state_key: false,
        }
    }

    #[test]
    fn the_tables_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, identity) = Registry::open(dir.path(), 1_800_000_000).unwrap();
        let account = registry.change_account(15_550_001, |account| account.push_name = "Alice".into()).unwrap();
        registry.put_device(device(15_550_001, 1)).unwrap();
        registry.put_device(device(15_550_001, 2)).unwrap();
        registry.put_device(device(15_550_002, 1)).unwrap();
        let key = DeviceKey { phone: 15_550_001, device: 1 };
        registry.put_bundle(key, crate::prekeys::tests::bundle(5)).unwrap();
        assert!(registry.remove_device(DeviceKey { phone: 15_550_001, device: 2 }).unwrap());

        let (again, same) = Registry::open(dir.path(), 1_900_000_000).unwrap();
        assert_eq!(same.noise.public(), identity.noise.public());
        assert_eq!(same.chain.0, identity.chain.0);
        assert_eq!(again.devices(Some(15_550_001)).len(), 1);
        assert_eq!(again.device_count(), 2);
        assert_eq!(again.with_bundle(key, |bundle| bundle.one_time.len()), Some(5));
        let back = again.account(15_550_001).unwrap();
        assert_eq!((back.push_name.as_str(), back.identity.public()), ("Alice", account.identity.public()));
        assert_eq!(again.account_by_lid(back.lid).unwrap().phone, 15_550_001);
    }

    #[test]
    fn keys_of_a_removed_device_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, _) = Registry::open(dir.path(), 1).unwrap();
        let key = DeviceKey { phone: 15_550_001, device: 1 };
        registry.put_bundle(key, crate::prekeys::tests::bundle(1)).unwrap();
        assert!(!registry.has_bundle(key));
        assert!(!registry.remove_device(key).unwrap());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        Registry::open(dir.path(), 1).unwrap();
        std::fs::write(dir.path().join("server.json"), "{").unwrap();
        let error = Registry::open(dir.path(), 1).err().unwrap().to_string();
        assert!(error.contains("server.json") && error.contains("remove the state directory"), "{error}");
    }
}
