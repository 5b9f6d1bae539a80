//! What a phone reads from a linked-device QR code: `ref,noise,identity,adv secret,client type`.

/// Prefix Baileys (and WhatsApp's own native-camera codes) put in front.
const DEEP_LINK: &str = "https://wa.me/settings/linked_devices#";

/// The scanned content.
#[derive(Clone, PartialEq, Eq)]
pub struct QrContent {
    /// The pairing reference the server gave the companion.
    pub reference: String,
    /// The companion's Noise static key.
    pub noise: [u8; 32],
    /// The companion's Signal identity key.
    pub identity: [u8; 32],
    /// The secret that authenticates the phone's answer.
    pub adv_secret: [u8; 32],
}

impl std::fmt::Debug for QrContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("QrContent(..)")
    }
}

/// Why a text is not a linked-device QR code. Never repeats the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum QrError {
    /// Too few fields.
    #[error("the QR string must have five comma-separated fields, it has {0}")]
    Fields(usize),
    /// A key field is not 32 bytes of base64.
    #[error("field {0} of the QR string must be 32 bytes in base64")]
    Key(&'static str),
    /// The reference is empty.
    #[error("the QR string must start with a pairing reference")]
    Reference,
}

/// Reads a QR string, with or without the deep-link prefix. The fifth field is optional, as on older clients.
///
/// # Errors
/// See [`QrError`].
pub fn parse(text: &str) -> Result<QrContent, QrError> {
    let text = text.trim();
    let fields: Vec<&str> = text.strip_prefix(DEEP_LINK).unwrap_or(text).split(',').collect();
    let [reference, noise, identity, adv_secret, ..] = fields.as_slice() else {
        return Err(QrError::Fields(fields.len()));
    };
    if reference.is_empty() {
        return Err(QrError::Reference);
    }
    Ok(QrContent {
        reference: (*reference).to_owned(),
        noise: key(noise, "2 (noise key)")?,
        identity: key(identity, "3 (identity key)")?,
        adv_secret: key(adv_secret, "4 (secret)")?,
    })
}

fn key(text: &str, field: &'static str) -> Result<[u8; 32], QrError> {
    from_base64(text).and_then(|bytes| bytes.try_into().ok()).ok_or(QrError::Key(field))
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore::companion_reg::CompanionWebClientType;
    use wacore::pair::{DeviceState, PairUtils};

    fn device() -> DeviceState {
        DeviceState {
            identity_key: crate::keys::Key::generate().0,
            noise_key: crate::keys::Key::generate().0,
            adv_secret_key: crate::keys::random(),
        }
    }

    #[test]
    fn reads_what_a_client_draws_with_and_without_prefix() {
        let device = device();
        let text = PairUtils::make_qr_data(&device, "2@abc", CompanionWebClientType::Chrome);
        for text in [text.clone(), format!("{DEEP_LINK}{text}"), format!(" {text}\n")] {
            let read = parse(&text).unwrap();
            assert_eq!(read.reference, "2@abc");
            assert_eq!(read.noise[..], *device.noise_key.public_key.public_key_bytes());
            assert_eq!(read.identity[..], *device.identity_key.public_key.public_key_bytes());
            assert_eq!(read.adv_secret, device.adv_secret_key);
        }
    }

    #[test]
    fn rejects_what_is_not_a_code() {
        assert_eq!(parse("hello"), Err(QrError::Fields(1)));
        assert_eq!(parse(""), Err(QrError::Fields(1)));
        assert_eq!(parse(",a,b,c,1"), Err(QrError::Reference));
        assert_eq!(parse("r,AAAA,b,c,1"), Err(QrError::Key("2 (noise key)")));
        assert_eq!(parse("r,\u{1F600},b,c,1"), Err(QrError::Key("2 (noise key)")));
    }
}
