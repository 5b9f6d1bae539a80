//! The token callers have to show.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use thiserror::Error;
use whatsapp_operator::platform::lock;

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
        "a token in {path} has {length} characters: it must have at least {MIN_LENGTH}, without white space inside; one token a line"
    )]
    TooShort {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        length: usize,
    },
}

/// The token, read again from time to time so that it can be changed without a restart.
///
/// The file may hold several, one a line, of which any is good: while a token is changed, some callers still show the one
/// before, and others already the next.
pub struct Token {
    path: PathBuf,
    current: Mutex<(Instant, Vec<Digested>)>,
}

/// What is kept of a token.
type Digested = [u8; 32];

impl Token {
    /// The tokens in the file at `path`; white space around them and empty lines do not count.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let digests = load(path)?;
        Ok(Self { path: path.to_owned(), current: Mutex::new((Instant::now(), digests)) })
    }

    /// Whether `shown` is one of them. Takes the same time whatever is shown, because digests are compared, all of them.
    pub fn accepts(&self, shown: &str) -> bool {
        let digests = {
            let mut current = lock(&self.current);
            if current.0.elapsed() >= REREAD {
                // While the file is being replaced the last token stays good.
                if let Ok(fresh) = load(&self.path) {
                    current.1 = fresh;
                }
                current.0 = Instant::now();
            }
            current.1.clone()
        };
        let shown: Digested = Sha256::digest(shown.as_bytes()).into();
        let is = |digest: &Digested| {
            shown.iter().zip(digest).fold(0, |difference, (left, right)| difference | (left ^ right)) == 0
        };
        digests.iter().fold(false, |found, digest| found | is(digest))
    }
}

fn load(path: &Path) -> Result<Vec<Digested>, TokenError> {
    let text = fs::read_to_string(path).map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
    let mut tokens: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() {
        tokens.push("");
    }
    let digest = |token: &str| {
        if token.len() < MIN_LENGTH || token.contains(char::is_whitespace) {
            return Err(TokenError::TooShort { path: path.to_owned(), length: token.chars().count() });
        }
        Ok(Sha256::digest(token.as_bytes()).into())
    };
    tokens.into_iter().map(digest).collect()
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
    fn while_a_token_is_changed_both_are_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accepted");
        fs::write(&path, "0123456789abcdef\n\nfedcba9876543210\n").unwrap();
        let token = Token::read(&path).unwrap();
        assert!(token.accepts("0123456789abcdef") && token.accepts("fedcba9876543210"));
        assert!(!token.accepts("0123456789abcdef\n\nfedcba9876543210") && !token.accepts(""));
        fs::write(&path, "0123456789abcdef\nshort\n").unwrap();
        assert!(Token::read(&path).is_err());
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
