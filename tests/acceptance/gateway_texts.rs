//! A text that was accepted arrives as it was written, and one that could not is refused.

use serde_json::{Value, json};

use crate::{
    gateway::world,
    gateway_messages::{connected, until_primary},
    support::gateway::{ALL_VERBS, Answer, Rest, account, answered, until},
};

const FRIEND: &str = "+15550208881";
const PHONE: &str = "+15550208081";
/// The longest text that a message may have, in characters.
const LONGEST: usize = 65_536;

/// Only ASCII, as many programs write JSON: an emoji takes twelve bytes.
fn in_ascii(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let mut units = [0; 2];
            text.extend(character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_accepted_arrives_exactly_as_it_was_written() {
    let world = world("gateway-texts").await;
    let rest = Rest::start(&world, &["--rate-limit", "0"]).await;
    let token = account(&world, "app", ALL_VERBS).await;
    let id = connected(&world, &rest, &token, "Line", PHONE).await;
    until_primary(&rest, &token, &id).await;
    let post = async |body: String| -> Answer {
        let request = rest.request("POST", "/api/v1/messages/send/").bearer_auth(&token);
        answered(request.header("content-type", "application/json").body(body)).await
    };
    let body = |text: &str| json!({"recipient": FRIEND, "message": text});
    let controls: String = (1..0x20).chain([0x7f]).chain(0x80..0xa0).filter_map(char::from_u32).collect();
    let texts = [
        // Nothing is trimmed, and no line end becomes another.
        "  \tat both ends \u{a0}\r\n".to_owned(),
        "one\ntwo\r\nthree\rfour\u{85}five\u{2028}six".to_owned(),
        controls,
        // Nothing that shows to us, and yet something.
        "\u{feff}".to_owned(),
        "\u{200b}\u{2060}\u{2800}\u{3164}".to_owned(),
        // Not normalised: composed, decomposed, a ligature and an emoji of five code points.
        "\u{e9} e\u{301} \u{fb01} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}".to_owned(),
        "\u{202e}right to left\u{202c} \u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{ffff}\u{10fffe}\u{10ffff}".to_owned(),
        r#"\u0000 "quoted" \ {"type":"text"} '; DROP TABLE messages; -- %00 &#0; <b>"#.to_owned(),
        "\u{1f600}".repeat(LONGEST),
        "\u{1}".repeat(LONGEST),
    ];
    for (number, text) in texts.iter().enumerate() {
        let written = if number % 2 == 0 { in_ascii(&body(text)) } else { body(text).to_string() };
        let accepted = post(written).await;
        assert_eq!(accepted.status, 202, "{number}: {}", accepted.body["error"]);
        let path = format!("/api/v1/messages/{}/", accepted.data(202)["id"].as_str().unwrap());
        let shown = rest.get(&token, &path).await;
        assert!(shown.data(200)["message"] == **text, "text {number} is shown as another one");
    }
    let arrived = async || world.whatsapp.inbox(FRIEND).await.len() == texts.len();
    until("has everything arrived", arrived).await;
    for (number, (line, text)) in world.whatsapp.inbox(FRIEND).await.iter().zip(&texts).enumerate() {
        assert!(line.text == *text, "text {number} arrives as another one");
    }

    for (text, says) in [
        ("a\0b".to_owned(), "U+0000"),
        ("\0".to_owned(), "U+0000"),
        ("\u{a0}\u{2003}\r\n\u{3000}".to_owned(), "must not be blank"),
        ("\u{1f600}".repeat(LONGEST + 1), "1 to 65536 characters"),
    ] {
        let refused = post(in_ascii(&body(&text))).await;
        let said = refused.refused(422, "Invalid");
        assert!(said.contains("field \"message\"") && said.contains(says), "{said}");
    }
    for half in [r"\ud83d", r"\ude00", r"\ude00\ud83d", r"\ud83dx"] {
        let written = body("HALF").to_string().replace("HALF", half);
        assert!(
            post(written)
                .await
                .refused(422, "Invalid")
                .contains("field \"message\" must be a string of whole characters"),
            "{half}"
        );
    }
    assert_eq!(world.whatsapp.inbox(FRIEND).await.len(), texts.len(), "nothing else arrives");
    rest.nothing_leaked(&world, &[FRIEND, PHONE, "right to left", "DROP TABLE"], &[&token]).await;
    world.nothing_leaked(&[FRIEND, PHONE, "right to left", "DROP TABLE"]).await;
}
