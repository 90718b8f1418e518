//! The automatic client (mission S9): three writes, three reads, an overwrite, a line for each.
//! Validation scripts look for the English lines, for `leader=N` and for `SUCCESS`.

use bytes::Bytes;

use super::answer::{Answer, Exit, Failure};
use super::json::Object;
use super::lang::Lang;
use super::text::{seat, shown};
use crate::client::{Client, Error, Written};
use crate::codec::api::Answerer;

/// One line of the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins.
    Begun,
    /// A key was set.
    Wrote {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// What that did.
        written: Written,
    },
    /// A key was read.
    Read {
        /// The key.
        key: Bytes,
        /// The value found.
        found: Option<Bytes>,
        /// The value that should be there.
        expected: Bytes,
        /// Who answered.
        from: Answerer,
    },
    /// The second part begins.
    Overwriting,
    /// Everything was as it should be.
    Passed,
}

impl Step {
    /// Whether it is as it should be.
    #[must_use]
    pub fn ok(&self) -> bool {
        match self {
            Step::Read { found, expected, .. } => found.as_ref() == Some(expected),
            _ => true,
        }
    }

    /// Its line, with its end.
    #[must_use]
    pub fn line(&self, lang: Lang) -> String {
        let line = match self {
            Step::Begun => lang
                .pick("--- START OF CLIENT TESTS ---", "--- INICIO DE PRUEBAS DE CLIENTE ---")
                .to_owned(),
            Step::Wrote { written, .. } => {
                let (index, term) = (written.index, written.term);
                let leader = leader(&written.from);
                match lang {
                    Lang::En => format!("  -> Write OK: idx={index}, term={term}, leader={leader}"),
                    Lang::Es => {
                        format!("  -> Escritura OK: idx={index}, mandato={term}, lider={leader}")
                    }
                }
            }
            Step::Read { found, expected, .. } => {
                let expected = shown(expected);
                let found = found.as_ref().map_or_else(|| "-".to_owned(), |value| shown(value));
                match (self.ok(), lang) {
                    (true, Lang::En) => {
                        format!("  -> Read OK: '{found}' == '{expected}' (Expected)")
                    }
                    (true, Lang::Es) => {
                        format!("  -> Lectura OK: '{found}' == '{expected}' (Esperado)")
                    }
                    (false, Lang::En) => format!("  -> Read WRONG: '{found}' != '{expected}'"),
                    (false, Lang::Es) => {
                        format!("  -> Lectura INCORRECTA: '{found}' != '{expected}'")
                    }
                }
            }
            Step::Overwriting => lang.pick("OVERWRITE TEST", "PRUEBA DE SOBRESCRITURA").to_owned(),
            Step::Passed => lang
                .pick(
                    "--- ALL TESTS COMPLETED SUCCESSFULLY ---",
                    "--- TODAS LAS PRUEBAS COMPLETADAS CON ÉXITO ---",
                )
                .to_owned(),
        };
        line + "\n"
    }

    /// Its object; none for what is only a heading.
    #[must_use]
    pub fn json(&self) -> Option<Object> {
        match self {
            Step::Begun | Step::Overwriting => None,
            Step::Wrote { key, value, written } => Some(
                Object::default()
                    .with("op", "write")
                    .with("key", shown(key))
                    .with("value", shown(value))
                    .with("index", written.index)
                    .with("term", written.term)
                    .with("leader", written.from.leader.clone())
                    .with("ok", true),
            ),
            Step::Read { key, found, expected, from } => Some(
                Object::default()
                    .with("op", "read")
                    .with("key", shown(key))
                    .with("value", found.as_ref().map(|value| shown(value)))
                    .with("expected", shown(expected))
                    .with("term", from.term)
                    .with("leader", from.leader.clone())
                    .with("ok", self.ok()),
            ),
            Step::Passed => Some(Object::default().with("success", true)),
        }
    }
}

fn leader(from: &Answerer) -> String {
    let own = || from.is_leader.then_some(from.name.as_str());
    seat(from.leader.as_deref().or_else(own))
}

/// Runs the test, telling each step as it happens.
pub(crate) async fn run(client: &Client, lang: Lang, emit: &mut impl FnMut(Answer)) {
    match steps(client, lang, &mut |step| emit(Answer::Step(step))).await {
        Ok(true) => {}
        Ok(false) => emit(Answer::Failed(Failure {
            exit: Exit::Failed,
            ..Failure::new("wrong_value", "a read did not return what was written")
        })),
        Err(error) => emit(Answer::Failed(error.into())),
    }
}

async fn steps(client: &Client, lang: Lang, tell: &mut impl FnMut(Step)) -> Result<bool, Error> {
    let key = |n: u32| Bytes::from(format!("test_key_{n}"));
    let initial =
        |n: u32| Bytes::from(format!("{}_{n}", lang.pick("initial_value", "valor_inicial")));
    let updated = Bytes::from(lang.pick("UPDATED_VALUE", "VALOR_ACTUALIZADO").to_owned());
    tell(Step::Begun);
    for n in 1..=3 {
        write(client, key(n), initial(n), tell).await?;
    }
    for n in 1..=3 {
        if !read(client, key(n), initial(n), tell).await? {
            return Ok(false);
        }
    }
    tell(Step::Overwriting);
    write(client, key(1), updated.clone(), tell).await?;
    if !read(client, key(1), updated, tell).await? {
        return Ok(false);
    }
    tell(Step::Passed);
    Ok(true)
}

async fn write(
    client: &Client,
    key: Bytes,
    value: Bytes,
    tell: &mut impl FnMut(Step),
) -> Result<(), Error> {
    let written = client.put(key.clone(), value.clone()).await?;
    tell(Step::Wrote { key, value, written });
    Ok(())
}

async fn read(
    client: &Client,
    key: Bytes,
    expected: Bytes,
    tell: &mut impl FnMut(Step),
) -> Result<bool, Error> {
    let reply = client.get(key.clone(), false).await?;
    let found = reply.found.map(|entry| entry.value);
    let step = Step::Read { key, found, expected, from: reply.from };
    let ok = step.ok();
    tell(step);
    Ok(ok)
}
