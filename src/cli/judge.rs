//! One judgement of everything typed: each value is read once, over its environment variable, and every
//! problem ends up in one list.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use super::options::{Env, Given};

/// Variables that Kubernetes sets by itself for a Service called `balsa`; they are not ours.
fn set_by_kubernetes(value: &OsStr) -> bool {
    value.as_encoded_bytes().starts_with(b"tcp://")
}

/// What was typed, the environment behind it, and the findings so far.
pub(crate) struct Judge<'a> {
    given: Given,
    env: Env<'a>,
    taken: BTreeSet<&'static str>,
}

impl<'a> Judge<'a> {
    /// Begins with what is wrong already.
    pub(crate) fn new(given: Given, env: Env<'a>) -> Judge<'a> {
        Judge { given, env, taken: BTreeSet::new() }
    }

    /// Notes something wrong.
    pub(crate) fn problem(&mut self, sentence: impl Into<String>) {
        self.given.problems.push(sentence.into());
    }

    /// The words that are no options.
    pub(crate) fn take_words(&mut self) -> Vec<OsString> {
        std::mem::take(&mut self.given.words)
    }

    /// A setting: the option, else its variable, judged by `read`. `name` is the option's field name.
    pub(crate) fn setting<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.taken.insert(name);
        if self.given.values.contains_key(name) {
            return self.option(name, read);
        }
        let variable = variable(name);
        let value = (self.env)(&variable).filter(|value| !value.is_empty())?;
        if set_by_kubernetes(&value) {
            return None;
        }
        self.judge(&variable, &value, read)
    }

    /// An option that is no setting: no variable stands behind it.
    pub(crate) fn option<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.taken.insert(name);
        let value = self.given.values.get(name)?.last()?.clone();
        self.judge(&long(name), &value, read)
    }

    /// The bytes of an option that need not be text.
    pub(crate) fn bytes(&mut self, name: &'static str) -> Option<OsString> {
        self.taken.insert(name);
        self.given.values.get(name)?.last().cloned()
    }

    /// All values of an option that may be repeated and may hold several, separated by commas.
    pub(crate) fn list(&mut self, name: &'static str) -> Vec<String> {
        self.taken.insert(name);
        let values = self.given.values.get(name).cloned().unwrap_or_default();
        let texts = values.iter().map(|value| value.to_string_lossy().into_owned());
        texts.flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// A flag that is no setting.
    pub(crate) fn flag(&mut self, name: &'static str) -> bool {
        self.taken.insert(name);
        self.given.flags.contains(name)
    }

    /// A flag that is a setting: its variable counts too.
    pub(crate) fn flag_setting(&mut self, name: &'static str) -> bool {
        self.flag(name)
            || match (self.env)(&variable(name)).as_deref().and_then(OsStr::to_str) {
                None | Some("" | "0" | "false" | "no") => false,
                Some("1" | "true" | "yes") => true,
                Some(other) => {
                    self.problem(format!(
                        "{}: '{other}' is neither true nor false",
                        variable(name)
                    ));
                    false
                }
            }
    }

    /// Whether an option or a flag was typed, whatever it says.
    pub(crate) fn typed(&self, name: &'static str) -> bool {
        self.given.values.contains_key(name) || self.given.flags.contains(name)
    }

    /// The same, and it has been dealt with.
    pub(crate) fn flag_or_value(&mut self, name: &'static str) -> bool {
        self.taken.insert(name);
        self.typed(name)
    }

    /// Ends the judgement: options that nobody asked for mean nothing here and are named.
    pub(crate) fn finish(mut self, whose: &str) -> Vec<String> {
        let typed = self.given.values.keys().chain(self.given.flags.iter());
        let idle: Vec<_> = typed.filter(|name| !self.taken.contains(*name)).copied().collect();
        for name in idle {
            self.problem(format!("{} means nothing to {whose}", long(name)));
        }
        self.given.problems
    }

    fn judge<T>(
        &mut self,
        origin: &str,
        value: &OsStr,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let judged = match value.to_str() {
            Some(text) => read(text),
            None => Err(format!("'{}' is not UTF-8", value.to_string_lossy())),
        };
        judged.map_err(|why| self.problem(format!("{origin}: {why}"))).ok()
    }
}

fn long(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

fn variable(name: &str) -> String {
    format!("BALSA_{}", name.to_uppercase())
}
