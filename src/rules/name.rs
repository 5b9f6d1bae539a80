//! When two instance names are the same name.

use std::fmt::Write as _;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};
use sha2::{Digest as _, Sha256};

/// The longest form kept; `LedgerEntry.displayName` allows as much.
const LONGEST: usize = 400;

/// A name in the form names are compared in. Two names are the same when their comparable forms are equal:
///
/// - outer white space does not count: `Sales` = `" sales "`;
/// - case does not count, by full Unicode case folding: `Sales` = `SALES`, `Straße` = `STRASSE`;
/// - the way of writing a character does not count, by compatibility normalisation (NFKC): composed `é` = `e` + U+0301,
///   full-width `Ｓａｌｅｓ` = `Sales`, the ligature `ﬁ` = `fi`;
/// - characters that show nothing (zero-width space, soft hyphen, variation selectors) do not count;
/// - the four i of Turkish are one letter: `I` = `i` = `İ` = `ı`. The language of a name is not known. Two names
///   wrongly taken for one cost the owner another choice of name; one name wrongly taken for two costs them a mix-up.
///
/// The method is Unicode's compatibility caseless match (The Unicode Standard, section 3.13, D146) with the last two
/// points on top.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComparableName(String);

impl ComparableName {
    /// The comparable form of a name as a user wrote it.
    pub fn of(name: &str) -> Self {
        let (compose, decompose) = (ComposingNormalizerBorrowed::new_nfkc(), DecomposingNormalizerBorrowed::new_nfkd());
        let fold = |text: &str| CaseMapper::new().fold_string(&decompose.normalize(text)).into_owned();
        // Folding may leave text that decomposes further, and decomposing text that folds further: D146 does both twice.
        let folded = fold(&fold(name));
        let visible = one_i(&decompose.normalize(&folded));
        Self(shorten(compose.normalize(visible.trim()).into_owned()))
    }

    /// The form itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing visible is left of the name.
    pub fn is_blank(&self) -> bool {
        self.0.is_empty()
    }
}

/// Drops what shows nothing, and makes every i the plain one: folding has left `i`, `ı` and `i` with a dot above.
fn one_i(text: &str) -> String {
    const DOT_ABOVE: char = '\u{307}';
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let mut on_an_i = false;
    text.chars()
        .filter(|&c| !ignorable.contains(c))
        .map(|c| if c == 'ı' { 'i' } else { c })
        .filter(|&c| {
            // Marks below sort before the dot, so that the letter may be a few characters back.
            let mark = ('\u{300}'..='\u{36f}').contains(&c);
            on_an_i = if mark { on_an_i } else { c == 'i' };
            !(on_an_i && c == DOT_ABOVE)
        })
        .collect()
}

/// One character can become 18 (U+FDFA), so 100 characters need not fit; what does not is told apart by its hash.
fn shorten(name: String) -> String {
    if name.chars().count() <= LONGEST {
        return name;
    }
    let hash = Sha256::digest(name.as_bytes());
    let mut short: String = name.chars().take(LONGEST - 33).collect();
    short.push('#');
    for byte in hash.iter().take(16) {
        let _ = write!(short, "{byte:02x}");
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ComparableName, LONGEST};

    fn same(names: &[&str]) {
        for name in names {
            assert_eq!(ComparableName::of(name), ComparableName::of(names[0]), "{name:?} and {:?}", names[0]);
        }
    }

    #[test]
    fn spellings_of_one_name_are_equal() {
        same(&["Sales", " sales ", "SALES", "\tsAlEs\u{a0}", "Ｓａｌｅｓ", "Sa\u{200b}les", "sale\u{ad}s"]);
        same(&["Straße", "STRASSE", "straẞe", "Strasse"]);
        same(&["Café", "CAFE\u{301}", "cafe\u{301}", "CAFÉ"]);
        same(&["Istanbul", "İstanbul", "istanbul", "ıstanbul", "i\u{307}stanbul", "ISTANBUL"]);
        same(&["ΣΊΣΥΦΟΣ", "σίσυφος", "σίσυφοσ"]);
        same(&["ﬁsh", "FISH", "fish"]);
        same(&["ǰ", "J\u{30c}"]);
    }

    #[test]
    fn different_names_stay_different() {
        for (one, other) in
            [("Sales", "Sale"), ("Sales 1", "Sales 2"), ("a b", "ab"), ("é", "e"), ("ġ", "g"), ("ö", "o")]
        {
            assert_ne!(ComparableName::of(one), ComparableName::of(other), "{one} and {other}");
        }
    }

    #[test]
    fn blank_is_what_shows_nothing() {
        for blank in ["", " ", "\u{200b}", "\u{a0}\t", "\u{2060}\u{fe0f} "] {
            assert!(ComparableName::of(blank).is_blank(), "{blank:?}");
        }
    }

    #[test]
    fn a_name_that_grows_fits_and_is_still_its_own() {
        let (one, other) = ("\u{fdfa}".repeat(100), format!("{}x", "\u{fdfa}".repeat(99)));
        assert!(ComparableName::of(&one).as_str().chars().count() <= LONGEST);
        assert_ne!(ComparableName::of(&one), ComparableName::of(&other));
    }

    proptest! {
        #[test]
        fn any_name_has_a_form_that_fits_and_is_its_own_form(name in "\\PC{0,100}") {
            let form = ComparableName::of(&name);
            prop_assert!(form.as_str().chars().count() <= LONGEST);
            if form.as_str().chars().count() < LONGEST {
                prop_assert_eq!(&ComparableName::of(form.as_str()), &form);
            }
            prop_assert_eq!(&ComparableName::of(&format!(" {name}\t")), &form);
        }
    }
}
