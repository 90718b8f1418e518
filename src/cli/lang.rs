//! English or Spanish.

use std::ffi::OsString;

use super::options::Env;

/// The language of answers for people. JSON is the same in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Spanish.
    Es,
}

impl Lang {
    /// The value of `--lang`.
    pub(crate) fn read(text: &str) -> Result<Lang, String> {
        match text {
            "en" => Ok(Lang::En),
            "es" => Ok(Lang::Es),
            _ => Err(format!("'{text}' is neither en nor es")),
        }
    }

    /// What the locale says: the first of `LC_ALL`, `LC_MESSAGES` and `LANG` that is set and not empty
    /// (POSIX, section 8.2).
    #[must_use]
    pub fn of_locale(env: Env<'_>) -> Lang {
        let set = |name| env(name).filter(|value: &OsString| !value.is_empty());
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set);
        let locale = locale.unwrap_or_default();
        match locale.to_string_lossy().split(['_', '.', '@']).next() {
            Some("es") => Lang::Es,
            _ => Lang::En,
        }
    }

    /// One of two texts.
    #[must_use]
    pub fn pick<'t>(self, english: &'t str, spanish: &'t str) -> &'t str {
        match self {
            Lang::En => english,
            Lang::Es => spanish,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        let cases: [(&[(&str, &str)], Lang); 7] = [
            (&[], Lang::En),
            (&[("LANG", "es_ES.UTF-8")], Lang::Es),
            (&[("LANG", "es")], Lang::Es),
            (&[("LANG", "est_EE")], Lang::En),
            (&[("LANG", "es_ES"), ("LC_ALL", "C")], Lang::En),
            (&[("LANG", "en_US"), ("LC_MESSAGES", "es@euro")], Lang::Es),
            (&[("LANG", "es_MX"), ("LC_ALL", "")], Lang::Es),
        ];
        for (variables, lang) in cases {
            let env = |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            };
            assert_eq!(Lang::of_locale(&env), lang, "{variables:?}");
        }
    }
}
