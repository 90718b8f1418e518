//! The interactive client (mission S4): both languages, history and completion on a terminal; without
//! one, a command a line from standard input, each answered at once.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tokio::runtime::Runtime;

use super::answer::{Answer, Exit, Failure};
use super::client_options::{Output, parse_line};
use super::command::{self, Command};
use super::json::{self, Object};
use super::lang::Lang;
use super::run::{Asker, Teller};

/// Runs the shell until it is left. The exit status is that of the last command if a script drives it,
/// and done if a person does.
pub(crate) fn run(runtime: &Runtime, asker: &Asker, terminal: bool) -> Exit {
    let mut shell = Shell { runtime, asker, last: Exit::Done };
    if terminal {
        shell.edit();
        return Exit::Done;
    }
    for line in io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { break };
        if shell.line(&line) == Next::Leave {
            break;
        }
    }
    shell.last
}

struct Shell<'a> {
    runtime: &'a Runtime,
    asker: &'a Asker,
    last: Exit,
}

/// What follows a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Line,
    Leave,
}

impl Shell<'_> {
    fn edit(&mut self) {
        let lang = self.asker.settings.lang;
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .auto_add_history(true)
            .max_history_size(1000)
            .map(|builder| builder.build())
            .unwrap_or_default();
        let mut editor: Editor<Commands, FileHistory> = match Editor::with_config(config) {
            Ok(editor) => editor,
            Err(error) => {
                eprintln!("error: {error}");
                return;
            }
        };
        editor.set_helper(Some(Commands { lang }));
        let history = history();
        if let Some(path) = &history {
            // There is none the first time.
            let _ = editor.load_history(path);
        }
        eprintln!(
            "{}",
            lang.pick(
                "`help` shows the commands, `exit` leaves.",
                "`ayuda` muestra las órdenes, `exit` sale."
            )
        );
        loop {
            match editor.readline("balsa> ") {
                Ok(line) => {
                    if self.line(line.as_bytes()) == Next::Leave {
                        break;
                    }
                }
                // Ctrl-C clears the line, and may take what was typed ahead with it, as on any terminal;
                // Ctrl-D leaves.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => break,
                Err(error) => {
                    eprintln!("error: {error}");
                    break;
                }
            }
        }
        if let Some(path) = &history {
            // A history that cannot be kept is no reason to complain to somebody who leaves.
            let _ = editor.save_history(path);
        }
    }

    fn line(&mut self, line: &[u8]) -> Next {
        let words = match split(line) {
            Ok(words) => words,
            Err(why) => {
                self.tell(&[Answer::Failed(usage(why))]);
                return Next::Line;
            }
        };
        match words.first().and_then(|word| word.to_str()) {
            None if words.is_empty() => return Next::Line,
            Some("exit" | "quit" | "salir") if words.len() == 1 => return Next::Leave,
            Some("help" | "ayuda") if words.len() == 1 => {
                let help = help(self.asker.settings.lang);
                self.last = Exit::Done;
                self.teller().say(&match self.asker.settings.output {
                    Output::Text => help,
                    Output::Json => {
                        Object::default().with("help", help).with("exit", Exit::Done).line() + "\n"
                    }
                });
                return Next::Line;
            }
            _ => {}
        }
        match parse_line(words) {
            Ok(command) => self.carry_out(&command),
            Err(report) => self.tell(&[Answer::Failed(Failure::usage(&report))]),
        }
        Next::Line
    }

    fn carry_out(&mut self, command: &Command) {
        let text = self.asker.settings.output == Output::Text;
        let mut teller = self.teller();
        let mut answers = Vec::new();
        let interrupted = self.runtime.block_on(async {
            let work = self.asker.carry_out(command, |answer| {
                if text {
                    teller.tell(&answer);
                }
                answers.push(answer);
            });
            tokio::select! {
                () = work => false,
                _ = tokio::signal::ctrl_c() => true,
            }
        });
        if interrupted {
            let answer = Answer::Failed(interruption(command));
            if text {
                teller.tell(&answer);
            }
            answers.push(answer);
        }
        self.last = answers.iter().map(Answer::exit).max().unwrap_or(Exit::Done);
        if !text {
            teller.say(&(json::one(&answers).line() + "\n"));
        }
    }

    fn tell(&mut self, answers: &[Answer]) {
        self.last = answers.iter().map(Answer::exit).max().unwrap_or(Exit::Done);
        let mut teller = self.teller();
        match self.asker.settings.output {
            Output::Text => answers.iter().for_each(|answer| teller.tell(answer)),
            Output::Json => teller.say(&(json::one(answers).line() + "\n")),
        }
    }

    fn teller(&self) -> Teller {
        Teller::new(self.asker.settings.output, self.asker.settings.lang)
    }
}

fn usage(why: String) -> Failure {
    Failure { exit: Exit::Usage, ..Failure::new("usage", why) }
}

/// Ctrl-C during a command. A write that was under way may or may not have happened (C3).
fn interruption(command: &Command) -> Failure {
    let writes = matches!(
        command,
        Command::Put { .. }
            | Command::Delete { .. }
            | Command::Cas { .. }
            | Command::Stop { .. }
            | Command::Change(_)
            | Command::Transfer { .. }
    );
    match writes {
        true => Failure {
            exit: Exit::Unknown,
            ..Failure::new("unknown", "interrupted; it may or may not have been carried out")
        },
        false => Failure::new("interrupted", "interrupted"),
    }
}

/// Where lines are kept between shells.
fn history() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(PathBuf::from(home).join(".cltraft_history"))
}

/// Splits a line into words. Quotes keep spaces; in double quotes and outside of quotes a backslash
/// takes the next character as it is; `#` at the start of a word begins a comment.
fn split(line: &[u8]) -> Result<Vec<OsString>, String> {
    let (mut words, mut word) = (Vec::new(), None::<Vec<u8>>);
    let mut bytes = line.iter().copied();
    let mut quote = None;
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None | Some(b'"'), b'\\') => match bytes.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("there is nothing behind the backslash".to_owned()),
            },
            (None, b' ' | b'\t' | b'\r') => words.extend(word.take()),
            (None, b'#') if word.is_none() => break,
            _ => word.get_or_insert_default().push(byte),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a quote is not closed: {}", char::from(open)));
    }
    words.extend(word);
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

fn help(lang: Lang) -> String {
    lang.pick(
        "put KEY VALUE | put KEY --file PATH\nget KEY [--local]\ndelete KEY\ncas KEY EXPECTED NEW | cas KEY --absent NEW\n\
         range FROM [TO] | range --prefix P [--limit N]\nstatus [NODE]\nmetrics NODE\n\
         replication NODE [--from INDEX] [--from-key KEY] [--limit N]\nstop NODE\n\
         member list | member add NAME HOST:PORT | member remove NAME | member promote NAME\n\
         transfer NODE\nsnapshot take NODE\ntest\nexit\n\
         A NODE is an ordinal (1), a name (raft-1) or HOST:PORT. Quotes keep spaces.\n",
        "escribir [LIDER] CLAVE VALOR | escribir CLAVE --file RUTA\nleer [LIDER] CLAVE\nborrar CLAVE\n\
         comparar CLAVE ESPERADO NUEVO | comparar CLAVE --absent NUEVO\n\
         rango DESDE [HASTA] | rango --prefix P [--limit N]\nestado [NODO]\nmetricas NODO\n\
         estadoReplicacion NODO [--from INDICE] [--from-key CLAVE] [--limit N]\ndetener NODO\n\
         miembro listar | miembro agregar NOMBRE HOST:PUERTO | miembro quitar NOMBRE | miembro promover NOMBRE\n\
         transferir NODO\ninstantanea tomar NODO\nprobar\nexit\n\
         Un NODO es un ordinal (1), un nombre (raft-1) o HOST:PUERTO. Las comillas guardan espacios.\n",
    )
    .to_owned()
}

/// Completes the commands' names.
struct Commands {
    lang: Lang,
}

impl Completer for Commands {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..pos];
        if typed.contains(' ') {
            return Ok((pos, Vec::new()));
        }
        Ok((0, completions(typed, self.lang)))
    }
}

/// The names that begin so, those of the language first.
fn completions(typed: &str, lang: Lang) -> Vec<String> {
    let in_shell = command::NAMES.iter().take_while(|(english, _)| *english != "shell");
    let (own, other): (Vec<_>, Vec<_>) = in_shell
        .map(|(english, spanish)| match lang {
            Lang::En => (*english, *spanish),
            Lang::Es => (*spanish, *english),
        })
        .unzip();
    let rest = [lang.pick("help", "ayuda"), "exit"];
    let all = own.into_iter().chain(rest).chain(other);
    all.filter(|name| name.starts_with(typed)).map(|name| format!("{name} ")).collect()
}

impl Hinter for Commands {
    type Hint = String;
}

impl Highlighter for Commands {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Borrowed(hint)
    }
}

impl Validator for Commands {}

impl Helper for Commands {}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, String> {
        let words = split(line.as_bytes())?;
        Ok(words.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    #[test]
    fn quotes_keep_spaces_and_backslashes_take_the_next_character() {
        let cases: [(&str, &[&str]); 8] = [
            ("put k v", &["put", "k", "v"]),
            ("  put\tk   'a b' \r", &["put", "k", "a b"]),
            (r#"put "a \"b\" c" v"#, &["put", r#"a "b" c"#, "v"]),
            (r"put a\ b '\'", &["put", "a b", r"\"]),
            ("put k ''", &["put", "k", ""]),
            ("put a'b c'd v # why", &["put", "ab cd", "v"]),
            ("put k a#b", &["put", "k", "a#b"]),
            ("# nothing", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        assert!(words("put 'k").is_err());
        assert!(words("put \\").is_err());
    }

    #[test]
    fn names_complete_in_the_language_first() {
        assert_eq!(completions("est", Lang::En), ["estado ", "estadoReplicacion "]);
        assert_eq!(completions("s", Lang::En), ["status ", "stop ", "snapshot "]);
        assert_eq!(completions("tra", Lang::Es), ["transferir ", "transfer "]);
        assert_eq!(completions("e", Lang::Es)[0], "escribir ");
        assert!(completions("loc", Lang::En).is_empty());
    }
}
