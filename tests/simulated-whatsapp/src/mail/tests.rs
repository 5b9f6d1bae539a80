use super::*;
use wacore_binary::marshal::{marshal_auto, unmarshal_ref};

const WRITER: DeviceKey = DeviceKey { phone: 15_550_001, device: 1 };
const CONNECTION: u64 = 7;

fn receipt(device: u16) -> Letter {
    let from = Jid::pn_device("15550002", device);
    let node = NodeBuilder::new("receipt").attr("from", from).attr("id", "ONE").build();
    Letter { class: Class::Receipt, ..Letter::notification("ONE".to_owned(), node) }
}

/// The writer's device acknowledges a receipt of this device.
fn acknowledges(mail: &Mail, device: u16) {
    let to = Jid::pn_device("15550002", device);
    let ack = NodeBuilder::new("ack").attr("id", "ONE").attr("class", "receipt").attr("to", to).build();
    let bytes = marshal_auto(&ack).unwrap();
    // The first byte says whether the rest is compressed.
    mail.acknowledged(WRITER, &unmarshal_ref(&bytes[1..]).unwrap());
}

fn sends(mail: &Mail) -> Option<u16> {
    let node = mail.next(WRITER, CONNECTION, None)?;
    node.attrs.get("from").and_then(NodeValue::to_jid).map(|from| from.device)
}

/// The phone and a companion confirm the same message; the ack of the one that was first comes when the other one's receipt is there
/// and has not been sent.
#[test]
fn the_ack_of_one_receipt_leaves_that_of_another_device_to_be_delivered() {
    for (first, second) in [(0, 5), (5, 0), (5, 6)] {
        let mail = Mail::default();
        mail.open(WRITER, CONNECTION);
        mail.post(WRITER, [receipt(first)]);
        assert_eq!(sends(&mail), Some(first));
        mail.post(WRITER, [receipt(second)]);
        acknowledges(&mail, first);
        assert_eq!(sends(&mail), Some(second));
        acknowledges(&mail, second);
        // Nothing is left for the next login.
        assert_eq!(mail.open(WRITER, CONNECTION + 1).1, 0);
    }
}

/// Both were sent, and their acks come in either order: what was not acknowledged comes again at the next login, and nothing else.
#[test]
fn what_was_not_acknowledged_comes_again() {
    for (acknowledged, left) in [(0, 5), (5, 0)] {
        let mail = Mail::default();
        mail.open(WRITER, CONNECTION);
        mail.post(WRITER, [receipt(0), receipt(5)]);
        assert_eq!((sends(&mail), sends(&mail)), (Some(0), Some(5)));
        acknowledges(&mail, acknowledged);
        mail.open(WRITER, CONNECTION + 1);
        let again = mail.next(WRITER, CONNECTION + 1, Some(0)).unwrap();
        assert_eq!(again.attrs.get("from").and_then(NodeValue::to_jid).unwrap().device, left);
        assert!(mail.next(WRITER, CONNECTION + 1, Some(1)).is_none());
    }
}
