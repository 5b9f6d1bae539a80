//! The fields of a JSON body.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Number, value::RawValue};

use super::{
    bad, invalid,
    names::{each_once, listed, shortened},
};
use crate::{
    gateway::{code::Code, failure::Failure},
    rules::{ComparableName, text},
};

/// No value.
const NULL: &str = "null";

/// The fields of a JSON object, each once.
#[derive(Debug)]
pub struct Fields {
    /// What stands before a field's name in a sentence, for example `pairing.`.
    within: String,
    fields: Vec<(String, Box<RawValue>)>,
}

impl Fields {
    /// The object in a body, which may have these fields and no others.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(text: Option<&str>, allowed: &[&str]) -> Result<Self, Failure> {
        let text =
            text.ok_or_else(|| bad(format!("the body is missing; send a JSON object with {}", listed(allowed))))?;
        Self::parse(text, String::new(), allowed)
    }

    /// The object in a body that need not be there. Some clients write "no body" as null.
    ///
    /// # Errors
    /// See [`Self::of`].
    pub fn optional(text: Option<&str>, allowed: &[&str]) -> Result<Option<Self>, Failure> {
        let text = text.filter(|text| text.trim() != NULL);
        text.map(|text| Self::parse(text, String::new(), allowed)).transpose()
    }

    /// Nothing, or an empty object: for requests that say everything by their path.
    ///
    /// # Errors
    /// When there is something in it.
    pub fn none(text: Option<&str>) -> Result<(), Failure> {
        Self::optional(text, &[]).map(drop)
    }

    fn parse(text: &str, within: String, allowed: &[&str]) -> Result<Self, Failure> {
        let what =
            if within.is_empty() { "the body".to_owned() } else { format!("field {:?}", within.trim_end_matches('.')) };
        let Pairs(fields) = serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data if !within.is_empty() => invalid(format!("{what} must be a JSON object")),
            serde_json::error::Category::Data => bad(format!("{what} must be a JSON object")),
            _ => bad(format!("{what} is no valid JSON (line {}, column {})", error.line(), error.column())),
        })?;
        let rule = || match allowed {
            [] => "it has no fields".to_owned(),
            allowed => format!("it may have {}", listed(allowed)),
        };
        each_once(
            fields.iter().map(|(name, _)| name.as_str()),
            allowed,
            |name| bad(format!("{what} has an unknown field {:?}; {}", shortened(name), rule())),
            |name| bad(format!("field {:?} is given twice; give it once", format!("{within}{name}"))),
        )?;
        Ok(Self { within, fields })
    }

    /// The name of a field with the names of the fields that it is in.
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.within)
    }

    fn there<T>(&self, name: &str, value: Option<T>) -> Result<T, Failure> {
        let is_null = || self.fields.iter().any(|(field, _)| field == name);
        value.ok_or_else(|| {
            let wrong = if is_null() { "must not be null" } else { "is missing" };
            invalid(format!("field {:?} {wrong}", self.full(name)))
        })
    }

    /// What stands there. A field that is null counts as one that is not given: many clients write all the fields they know.
    fn get(&self, name: &str) -> Option<&str> {
        let given = self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.get());
        given.filter(|text| *text != NULL)
    }

    fn typed<'a, T: Deserialize<'a>>(&'a self, name: &str, must: &str) -> Result<Option<T>, Failure> {
        let wrong = |_| invalid(format!("field {:?} must be {must}", self.full(name)));
        self.get(name).map(|text| serde_json::from_str(text).map_err(wrong)).transpose()
    }

    /// A string.
    ///
    /// # Errors
    /// When it is something else, or longer or shorter than `length` allows (in characters).
    pub fn text(&self, name: &str, length: (usize, usize)) -> Result<Option<String>, Failure> {
        let (least, most) = length;
        // A quoted text that is none is one that was cut in the middle of a character: JavaScript's slice() does that.
        let begins = self.get(name).is_some_and(|text| text.starts_with('"'));
        let must =
            if begins { "a string of whole characters: it holds half of one (a lone surrogate)" } else { "a string" };
        let text: Option<String> = self.typed(name, must)?;
        if text.as_ref().is_some_and(|text| !(least..=most).contains(&text.chars().count())) {
            let name = self.full(name);
            return Err(invalid(format!("field {name:?} must be {least} to {most} characters long")));
        }
        Ok(text)
    }

    /// A string that must be there.
    ///
    /// # Errors
    /// When it is not, or see [`Self::text`].
    pub fn required(&self, name: &str, length: (usize, usize)) -> Result<String, Failure> {
        self.there(name, self.text(name, length)?)
    }

    /// A list of strings that must be there.
    ///
    /// # Errors
    /// When it is something else, holds fewer or more than `count` allows, or one that is longer or shorter than `length` allows (in
    /// characters).
    pub fn texts(&self, name: &str, count: (usize, usize), length: (usize, usize)) -> Result<Vec<String>, Failure> {
        let must = format!("a list of {} to {} strings", count.0, count.1);
        let texts: Vec<String> = self.there(name, self.typed(name, &must)?)?;
        let name = self.full(name);
        if !(count.0..=count.1).contains(&texts.len()) {
            return Err(invalid(format!("field {name:?} must be {must}")));
        }
        if !texts.iter().all(|text| (length.0..=length.1).contains(&text.chars().count())) {
            return Err(invalid(format!(
                "in field {name:?} each must be {} to {} characters long",
                length.0, length.1
            )));
        }
        Ok(texts)
    }

    /// A whole number. To JSON 60 and 60.0 are one number, and languages without whole numbers write the second.
    ///
    /// # Errors
    /// When it is something else, or outside these bounds.
    pub fn number(&self, name: &str, (least, most): (u64, u64)) -> Result<Option<u64>, Failure> {
        let must = format!("a whole number from {least} to {most}");
        let given: Option<Number> = self.typed(name, &must)?;
        let whole = |given: Number| given.as_u64().or_else(|| whole(given.as_f64()?));
        let fits = |given| whole(given).filter(|number| (least..=most).contains(number));
        let wrong = || invalid(format!("field {:?} must be {must}", self.full(name)));
        given.map(|given| fits(given).ok_or_else(wrong)).transpose()
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.typed(name, "true or false")
    }

    /// An object with these fields and no others.
    ///
    /// # Errors
    /// When it is something else.
    pub fn object(&self, name: &str, allowed: &[&str]) -> Result<Option<Self>, Failure> {
        self.get(name).map(|text| Self::parse(text, format!("{}.", self.full(name)), allowed)).transpose()
    }
}

/// The whole number that a number with a point or an exponent is, if it is one.
fn whole(number: f64) -> Option<u64> {
    // As text, since a conversion would round what does not fit.
    let text = format!("{number:.0}");
    text.parse().ok().filter(|whole: &u64| number.fract() == 0.0 && text == whole.to_string())
}

/// The field `name` as a display name: what the rules say of it is said before the API server's schema says less.
///
/// # Errors
/// When it is none.
pub fn display_name(fields: &Fields) -> Result<String, Failure> {
    let name = fields.required("name", (1, 100))?;
    text::check_name(&name)?;
    if ComparableName::of(&name).is_blank() {
        return Err(Failure::new(
            Code::NameBlank,
            "field \"name\" must not be blank; give 1 to 100 characters that show",
        ));
    }
    Ok(name)
}

/// A JSON object as it stands there: nothing is lost that stands there twice.
#[derive(Debug)]
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALLOWED: &[&str] = &["name", "primary", "pairing"];

    fn refused(text: &str) -> (Code, String) {
        let fields = Fields::of(Some(text), ALLOWED);
        let failure = fields
            .and_then(|fields| {
                fields.required("name", (1, 5))?;
                fields.flag("primary")?;
                fields.object("pairing", &["method"])?.map(|pairing| pairing.required("method", (1, 9))).transpose()
            })
            .unwrap_err();
        (failure.code, failure.message)
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field_and_rule() {
        for (text, code, says) in [
            ("", Code::BadRequest, "no valid JSON (line 1, column 0)"),
            ("[]", Code::BadRequest, "the body must be a JSON object"),
            ("{\"name\":\"a\"", Code::BadRequest, "no valid JSON"),
            ("{\"name\":\"a\"} x", Code::BadRequest, "no valid JSON"),
            ("{\"name\":\"\\ud800\"}", Code::Invalid, "field \"name\" must be a string of whole characters"),
            ("{}", Code::Invalid, "field \"name\" is missing"),
            ("{\"name\":7}", Code::Invalid, "field \"name\" must be a string"),
            ("{\"name\":null}", Code::Invalid, "field \"name\" must not be null"),
            ("{\"name\":\"\"}", Code::Invalid, "field \"name\" must be 1 to 5 characters long"),
            ("{\"name\":\"sechse\"}", Code::Invalid, "1 to 5"),
            ("{\"name\":\"a\",\"name\":\"b\"}", Code::BadRequest, "field \"name\" is given twice"),
            (
                "{\"name\":\"a\",\"nmae\":\"b\"}",
                Code::BadRequest,
                "unknown field \"nmae\"; it may have name, primary, pairing",
            ),
            ("{\"name\":\"a\",\"primary\":\"yes\"}", Code::Invalid, "field \"primary\" must be true or false"),
            ("{\"name\":\"a\",\"pairing\":[]}", Code::Invalid, "field \"pairing\" must be a JSON object"),
            ("{\"name\":\"a\",\"pairing\":{}}", Code::Invalid, "field \"pairing.method\" is missing"),
            (
                "{\"name\":\"a\",\"pairing\":{\"method\":\"a\",\"method\":\"a\"}}",
                Code::BadRequest,
                "field \"pairing.method\" is given twice",
            ),
            (
                "{\"name\":\"a\",\"pairing\":{\"x\":1}}",
                Code::BadRequest,
                "field \"pairing\" has an unknown field \"x\"",
            ),
        ] {
            let (found, said) = refused(text);
            assert!(found == code && said.contains(says), "{text}: {found:?} {said}");
        }
        assert!(Fields::of(None, ALLOWED).unwrap_err().message.contains("the body is missing"));
        assert!(
            Fields::none(None).is_ok() && Fields::none(Some("{}")).is_ok() && Fields::none(Some("{\"a\":1}")).is_err()
        );
    }

    #[test]
    fn a_field_that_is_null_is_one_that_is_not_given() {
        let fields = Fields::of(Some(r#"{"name":"a","primary":null,"pairing": null }"#), ALLOWED).unwrap();
        assert_eq!(fields.text("primary", (1, 5)).unwrap(), None);
        assert_eq!((fields.flag("primary").unwrap(), fields.number("primary", (1, 5)).unwrap()), (None, None));
        assert!(fields.object("pairing", &["method"]).unwrap().is_none());
        assert!(fields.texts("primary", (1, 5), (1, 5)).unwrap_err().message.contains("must not be null"));
        assert!(Fields::none(Some(" null\n")).is_ok() && Fields::optional(Some("null"), ALLOWED).unwrap().is_none());
        assert!(Fields::of(Some("null"), ALLOWED).unwrap_err().message.contains("must be a JSON object"));
    }

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        let number = |text: &str| {
            let fields = Fields::of(Some(&format!("{{\"name\":{text}}}")), ALLOWED).unwrap();
            fields.number("name", (1, 2_592_000)).ok().flatten()
        };
        for (text, read) in [
            ("60", Some(60)),
            ("60.0", Some(60)),
            ("6e1", Some(60)),
            ("2592000.0", Some(2_592_000)),
            ("60.5", None),
            ("0.0", None),
            ("-60.0", None),
            ("-0.0", None),
            ("2592000.5", None),
            ("1e300", None),
            ("\"60\"", None),
            ("true", None),
        ] {
            assert_eq!(number(text), read, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = Fields::of(Some(&text), ALLOWED).map(|fields| (fields.text("name", (1, 5)), fields.object("pairing", &[])));
        }
    }
}
