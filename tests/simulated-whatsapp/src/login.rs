//! What a client wants after the handshake, and whether it may.

use crate::registry::DeviceKey;
use crate::stanza;
use crate::world::World;
use buffa::Message as _;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp::ClientPayload;

/// What the encoded `ClientPayload` asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// To be linked: no user name yet.
    Register,
    /// To log in as this device.
    Login(DeviceKey),
}

/// Reads the payload; `None` when it cannot be decoded.
#[must_use]
pub fn intent(payload: &[u8]) -> Option<Intent> {
    let payload = ClientPayload::decode_from_slice(payload).ok()?;
    Some(match payload.username {
        Some(phone) => Intent::Login(DeviceKey { phone, device: u16::try_from(payload.device.unwrap_or(0)).ok()? }),
        None => Intent::Register,
    })
}

/// `success`, or the `failure` that refuses the login.
///
/// # Errors
/// The failure to send before closing.
pub fn admit(world: &World, key: DeviceKey, noise: &[u8; 32], now: u64) -> Result<Node, Node> {
    let device = world.registry.device(key).filter(|device| device.noise.0 == noise);
    let account = world.registry.account(key.phone);
    let (Some(device), Some(account)) = (device, account) else {
        return Err(stanza::failure(401).build());
    };
    if let Some(refusal) = world.faults.take_refusal(key.phone) {
        return Err(refusal);
    }
    if let Some(ban) = account.banned(now) {
        return Err(banned(ban.code, ban.until - now));
    }
    Ok(NodeBuilder::new("success")
        .attr("t", now)
        .attr("creation", device.registered_at)
        .attr("props", 1_u32)
        .attr("abprops", 1_u32)
        .attr("location", "sim")
        .attr("lid", account.lid_jid(key.device))
        .build())
}

/// `<failure reason=402>`: a temporary ban with WhatsApp's sub-reason and the seconds it has left.
#[must_use]
pub fn banned(code: u16, seconds: u64) -> Node {
    stanza::failure(402).attr("code", code).attr("expire", seconds).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_login_from_a_registration() {
        let login = ClientPayload { username: Some(15_550_001), device: Some(3), ..Default::default() };
        assert!(intent(&login.encode_to_vec()) == Some(Intent::Login(DeviceKey { phone: 15_550_001, device: 3 })));
        assert!(intent(&ClientPayload::default().encode_to_vec()) == Some(Intent::Register));
        assert!(intent(&[0xff]).is_none());
        let outside = ClientPayload { username: Some(1), device: Some(70_000), ..Default::default() };
        assert!(intent(&outside.encode_to_vec()).is_none());
    }
}
