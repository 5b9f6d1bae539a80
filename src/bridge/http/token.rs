//! The token callers have to show.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// A changed file counts after this long at most. Kubernetes itself needs up to a minute to change a mounted Secret.
const REREAD: Duration = Duration::from_secs(2);
/// A token shorter than this can be guessed.
const MIN_LENGTH: usize = 16;

/// The token file cannot be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the token file {path}: {source}; name the file that holds the token with --token-file")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it holds is not a token.
    #[error(
        "the token in {path} has {length} characters: it must have at least {MIN_LENGTH}, without white space inside"
    )]
    TooShort {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        length: usize,
    },
}

/// The token, read again from time to time so that it can be changed without a restart.
pub struct Token {
    path: PathBuf,
    current: Mutex<(Instant, [u8; 32])>,
}

impl Token {
    /// The token in the file at `path`; white space around it does not count.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let digest = load(path)?;
        Ok(Self { path: path.to_owned(), current: Mutex::new((Instant::now(), digest)) })
    }

    /// Whether `shown` is the token. Takes the same time whatever is shown, because digests are compared.
    pub fn accepts(&self, shown: &str) -> bool {
        let digest = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.0.elapsed() >= REREAD {
                // While the file is being replaced the last token stays good.
                let fresh = load(&self.path).unwrap_or(current.1);
                *current = (Instant::now(), fresh);
            }
            current.1
        };
        let shown: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
        shown.iter().zip(digest).fold(0, |difference, (left, right)| difference | (left ^ right)) == 0
    }
}

fn load(path: &Path) -> Result<[u8; 32], TokenError> {
    let text = fs::read_to_string(path).map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
    let token = text.trim();
    if token.len() < MIN_LENGTH || token.contains(char::is_whitespace) {
        return Err(TokenError::TooShort { path: path.to_owned(), length: token.chars().count() });
    }
    Ok(Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "0123456789abcdef\n").unwrap();
        let token = Token::read(&path).unwrap();
        assert!(token.accepts("0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef\n", "0123456789ABCDEF"] {
            assert!(!token.accepts(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_short_or_missing_token_is_refused_without_being_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(matches!(Token::read(&path), Err(TokenError::Unreadable { .. })));
        fs::write(&path, "hunter2").unwrap();
        let refusal = Token::read(&path).err().unwrap().to_string();
        assert!(refusal.contains("7 characters") && !refusal.contains("hunter2"), "{refusal}");
    }
}
