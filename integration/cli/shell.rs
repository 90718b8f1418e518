//! The shell without a terminal: one command a line, each answered at once, while the pipe stays open
//! (mission S4 and section 2).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use crate::pattern::{Found, assert_like};
use crate::tools::Cluster;

/// A shell that a script holds open. Each question waits for its answer before the next is asked, so a
/// shell that does not answer at once would never answer.
pub(crate) struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    pub(crate) fn open(cluster: &Cluster, options: &[&str]) -> Shell {
        let mut command = cluster.command(&[options, &["shell"]].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("cltraft starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Shell { child, input, output }
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it is open");
        input.write_all(format!("{line}\n").as_bytes()).expect("the shell reads");
    }

    /// The next lines of the answer, as many as the golden has.
    #[track_caller]
    fn lines(&mut self, line: &str, golden: &str) -> Found {
        self.say(line);
        let mut said = String::new();
        for _ in golden.lines() {
            self.output.read_line(&mut said).expect("UTF-8");
        }
        assert_like(&said, golden)
    }

    /// The answer, one object.
    pub(crate) fn object(&mut self, line: &str) -> Value {
        self.say(line);
        let mut said = String::new();
        self.output.read_line(&mut said).expect("UTF-8");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said:?}"))
    }

    /// `exit`; the status. Nothing more may have been said.
    pub(crate) fn leave(mut self) -> i32 {
        self.say("exit");
        let mut more = String::new();
        self.output.read_line(&mut more).expect("UTF-8");
        assert_eq!(more, "", "nobody asked");
        let status = self.child.wait().expect("one's own child");
        status.code().expect("it ended by itself")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The end of its input ends it, also when a test gave up.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn spanish_block(first: &str) -> String {
    format!(
        "---- RESPUESTA REMOTA ----\n- {first}\n- IndiceRegistro: <n:i>\n- Mandato: <n>\n\
         - EsLider: true\n- IdLider: <o:l>\n---- FIN RESPUESTA REMOTA ----\n"
    )
}

#[test]
fn the_spanish_shell_word_for_word() {
    let cluster = Cluster::start();
    let (leader, follower) = cluster.leader_and_follower();
    let mut shell = Shell::open(&cluster, &["--lang", "es"]);
    let chocolate = spanish_block("ValorADevolver: chocolate");
    let wrote = shell.lines(&format!("escribir {leader} 0x0000 chocolate"), &chocolate);
    // The node named is where it begins; one that does not lead says who does.
    let read = shell.lines(&format!("leer {follower} 0x0000"), &chocolate);
    assert_eq!(wrote["l"], leader.to_string());
    assert_eq!(read["l"], leader.to_string());
    shell.lines("leer 0x0000", &chocolate);
    shell.lines("escribir '0x0001' \"con leche\"", &spanish_block("ValorADevolver: con leche"));
    shell.lines("comparar 0x0001 \"con leche\" solo", &spanish_block("Aplicado: true"));
    shell.lines("borrar 0x0001", &spanish_block("Borrado: true"));
    shell.lines("rango --prefix 0x", "0x0000: chocolate\n");
    let said = shell.lines(
        &format!("estado {leader}"),
        "[Información del Nodo]\nNodo: <o:n> | Mandato: <n> | EsLíder: <text> | Líder: <o:n>\n",
    );
    assert_eq!(said["n"], leader.to_string());
    let mut log = "Log (len=<n:len>):\n".to_owned();
    let len: usize = {
        let mut json = Shell::open(&cluster, &["-o", "json"]);
        let replication = json.object(&format!("replication {leader}"));
        let lines = replication["log"].as_array().expect("a log");
        assert_eq!(replication["exit"], 0);
        lines.len()
    };
    log.extend((1..=len).map(|n| format!("[{n}] {{{n} <n> {{<text>}}}}\n")));
    log += "----- Almacén (claves limitadas) -----\n0x0000: chocolate\nwho: leads\n-----\n";
    let said = shell.lines(&format!("estadoReplicacion {leader}"), &log);
    assert_eq!(said["len"], len.to_string());
    // English words work as well, with Spanish answers; what is wrong goes to standard error.
    shell.lines("get 0x0000", &chocolate);
    shell.lines(
        &format!("detener raft-{follower}"),
        &format!("Nodo {follower} detenido correctamente.\n"),
    );
    shell.lines("leer 0x0000", &chocolate);
    assert_eq!(shell.leave(), 0);
    // What was written stands in the log in the words of the language.
    let text = cluster.ask(&["--lang", "es", "estadoReplicacion", &leader.to_string()]);
    for entry in
        ["{escribir 0x0000 chocolate}", "{comparar 0x0001 con leche solo}", "{borrar 0x0001}"]
    {
        assert!(text.fine().contains(entry), "{entry}: {text:?}");
    }
}

#[test]
fn the_english_shell_word_for_word() {
    let cluster = Cluster::start();
    let mut shell = Shell::open(&cluster, &[]);
    let block = |first: &str| {
        format!(
            "---- REMOTE ANSWER ----\n- {first}\n- LogIndex: <n>\n- Term: <n>\n- IsLeader: true\n\
             - LeaderId: <o>\n---- END OF REMOTE ANSWER ----\n"
        )
    };
    shell.lines("put 0x0000 chocolate", &block("Value: chocolate"));
    shell.lines("# a comment\n\n  get 0x0000 ", &block("Value: chocolate"));
    shell.lines("leer 1 0x0000", &block("Value: chocolate"));
    let node = "[Node Information]\nNode: 1 | Term: <n> | IsLeader: <text> | Leader: <o>\n";
    shell.lines("status 1", node);
    shell.lines("estado raft-1", node);
    shell.lines("stop 2", "Node 2 stopped.\n");
    shell.lines("range 0", "0x0000: chocolate\n");
    assert_eq!(shell.leave(), 0);
}

#[test]
fn with_json_every_answer_is_one_object_with_its_status() {
    let cluster = Cluster::start();
    let mut shell = Shell::open(&cluster, &["-o", "json"]);
    let cases = [
        ("put k v", 0, "applied"),
        ("get k", 0, "value"),
        ("get nope", 3, "error"),
        ("cas k other w", 4, "applied"),
        ("delete nope", 3, "deleted"),
        ("range --prefix k", 0, "entries"),
        ("range --prefix none", 0, "entries"),
        ("status", 0, "nodes"),
        ("status 1", 0, "role"),
        ("replication 1", 0, "log"),
        ("test", 0, "steps"),
        ("probar", 0, "steps"),
        ("put k", 2, "error"),
        ("frobnicate", 2, "error"),
        ("put 'k", 2, "error"),
        ("shell", 2, "error"),
        ("status 7", 1, "error"),
        ("help", 0, "help"),
        ("stop 2", 0, "stopped"),
        ("get k", 0, "value"),
    ];
    for (line, exit, field) in cases {
        let said = shell.object(line);
        assert_eq!(said["exit"], exit, "{line}: {said}");
        assert!(said.get(field).is_some(), "{line}: {field} is not in {said}");
    }
    let test = shell.object("test");
    assert_eq!(test["steps"].as_array().map(Vec::len), Some(9), "{test}");
    assert_eq!(shell.object("get nope")["exit"], 3);
    assert_eq!(shell.leave(), 3, "the status of the last command");
}

#[test]
fn without_a_terminal_the_end_of_the_input_leaves() {
    let cluster = Cluster::start();
    let mut command = cluster.command(&["shell"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("cltraft starts");
    // The last line has no end.
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"put k v\r\nrange --prefix k").expect("the shell reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.ends_with(b"\nk: v\n"), "{output:?}");
}
