//! Who an instance belongs to, and what that owner's `WhatsAppOwner` is called.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::Denial;

/// DNS-1123 subdomain, the longest name an object may have.
const LONGEST_NAME: usize = 253;
/// Enough of the owner to recognise it by.
const LONGEST_SLUG: usize = 63;
/// Hex digits of SHA-256 in a made-up name; 64 bits, so that two owners with one name cannot be found by trying.
const HASH_DIGITS: usize = 16;

/// The name of an owner's `WhatsAppOwner`.
///
/// The owner itself when that is a valid object name (a DNS-1123 subdomain: lower-case letters, digits, `-` and `.`) and
/// does not look like a made-up name. Else `SLUG-HASH`: the owner in lower case with every other character as `-`, at
/// most 63 characters of it, and the first 16 hex digits of the SHA-256 of the owner. Since whatever ends like a made-up
/// name is hashed itself, no owner can take the name of another one's object by being called like it.
///
/// `alice` -> `alice`; `alice@example.com` -> `alice-example.com-ff8d9819fc0e12bf`.
pub fn object_name(owner: &str) -> String {
    if is_subdomain(owner) && !ends_in_hash(owner) {
        return owner.to_owned();
    }
    let mut name = slug(owner);
    name.push('-');
    for byte in Sha256::digest(owner.as_bytes()).iter().take(HASH_DIGITS / 2) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// A `WhatsAppOwner` under any other name would never be looked at.
///
/// # Errors
/// The refusal, when `name` is not the one that `owner` calls for.
pub fn check_object_name(name: &str, owner: &str) -> Result<(), Denial> {
    let right = object_name(owner);
    if name == right {
        return Ok(());
    }
    Err(Denial::new(
        "WrongObjectName",
        422,
        format!(
            "the WhatsAppOwner of this spec.owner must be named {right:?}, not {name:?}; create it under that name"
        ),
    ))
}

fn is_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        !label.starts_with('-')
            && !label.ends_with('-')
            && !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= LONGEST_NAME && text.split('.').all(label)
}

fn ends_in_hash(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(_, end)| {
        end.len() == HASH_DIGITS && end.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn slug(owner: &str) -> String {
    let plain: String = owner
        .chars()
        .take(LONGEST_SLUG)
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' { c } else { '-' })
        .collect();
    let labels: Vec<&str> = plain.split('.').map(|label| label.trim_matches('-')).filter(|l| !l.is_empty()).collect();
    if labels.is_empty() { "owner".to_owned() } else { labels.join(".") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{check_object_name, is_subdomain, object_name};

    #[test]
    fn a_valid_name_is_kept_and_others_are_made_up() {
        for kept in ["alice", "alice.example.com", "a-1", "0"] {
            assert_eq!(object_name(kept), kept);
        }
        assert_eq!(object_name("alice@example.com"), "alice-example.com-ff8d9819fc0e12bf");
        assert!(object_name("system:serviceaccount:shop:app").starts_with("system-serviceaccount-shop-app-"));
        assert!(object_name("Ünal").starts_with("nal-"));
        assert!(object_name("@").starts_with("owner-"));
    }

    #[test]
    fn owners_that_look_alike_have_objects_of_their_own() {
        let names =
            ["Alice", "alice", "ALICE", "alice@example.com", "alice-example.com", "alice@example-com"].map(object_name);
        for (i, one) in names.iter().enumerate() {
            assert!(names[i + 1..].iter().all(|other| other != one), "{one} twice");
        }
    }

    #[test]
    fn nobody_takes_a_made_up_name_by_being_called_like_it() {
        let made_up = object_name("alice@example.com");
        assert_ne!(object_name(&made_up), made_up);
        let denial = check_object_name(&made_up, &made_up).unwrap_err();
        assert!(denial.message.contains(&object_name(&made_up)), "{denial}");
        assert_eq!(check_object_name(&made_up, "alice@example.com"), Ok(()));
    }

    proptest! {
        #[test]
        fn every_owner_has_a_valid_name(owner in "\\PC{1,253}") {
            let name = object_name(&owner);
            prop_assert!(is_subdomain(&name), "{} for {:?}", name, owner);
        }
    }
}
