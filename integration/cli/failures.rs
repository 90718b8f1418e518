//! What does not work ends with its own status and one clear sentence, in both languages and as one
//! object (design section 7).

use std::fs;
use std::process::Command;

use crate::pattern::assert_like;
use crate::tools::{CLTRAFT, Cluster, SRVRAFT, Said, cltraft, run};

/// Nothing in standard output, one line in standard error.
#[track_caller]
fn assert_fails(said: &Said, code: i32, golden: &str) {
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{said:?}");
    assert_like(&said.err, golden);
}

#[test]
fn each_failure_has_its_status() {
    let cluster = Cluster::start();
    let say = |words: &[&str]| cluster.ask(words);
    let json = |words: &[&str]| cluster.ask(&[&["-o", "json"], words].concat());
    assert_fails(&say(&["get", "nope"]), 3, "error: there is no key nope\n");
    let missing = "error: no existe la clave (there is no key nope)\n";
    assert_fails(&say(&["--lang", "es", "leer", "nope"]), 3, missing);
    let absent = "{\"key\":\"nope\",\"index\":<n>,\"term\":<n>,\"leader\":\"<seat>\",\
                  \"error\":\"not_found\",\"message\":\"there is no key nope\",\"exit\":3}\n";
    let said = json(&["get", "nope"]);
    assert_eq!((said.code, said.err.as_str()), (3, ""));
    assert_like(&said.out, absent);
    let said = say(&["delete", "nope"]);
    assert_eq!((said.code, said.err.as_str()), (3, "error: there is no key nope\n"));
    assert!(said.out.contains("- Deleted: false\n"), "{said:?}");
    say(&["put", "k", "v"]).fine();
    let said = say(&["cas", "k", "other", "w"]);
    assert_eq!((said.code, said.err.as_str()), (4, "error: k is not as expected\n"));
    assert!(said.out.contains("- Applied: false\n"), "{said:?}");
    let said = json(&["cas", "k", "--absent", "w"]);
    assert_eq!((said.code, said.err.as_str()), (4, ""));
    assert_like(
        &said.out,
        "{\"key\":\"k\",\"revision\":<n>,\"index\":<n>,\"term\":<n>,\"leader\":\"<seat>\",\
         \"applied\":false,\"error\":\"condition_not_met\",\"message\":\"k is not as expected\",\
         \"exit\":4}\n",
    );
    let long = "k".repeat(5000);
    let said = json(&["put", &long, "v"]);
    assert_eq!((said.code, said.object()["error"].as_str()), (1, Some("too_large")), "{said:?}");
    assert!(say(&["put", &long, "v"]).err.contains("4096"), "the limit is named");
    // What no argument can hold: zero bytes, and the largest value there is.
    let file = cluster.path().join("value");
    let path = file.to_str().expect("UTF-8");
    fs::write(&file, vec![0; 1 << 20]).expect("the file");
    say(&["put", "large", "--file", path]).fine();
    let read = json(&["get", "large"]).object();
    assert_eq!(read["value"].as_str().map(str::len), Some(1 << 20), "every byte came back");
    fs::write(&file, vec![0; (1 << 20) + 1]).expect("the file");
    let said = json(&["put", "large", "--file", path]);
    assert_eq!((said.code, said.object()["error"].as_str()), (1, Some("too_large")), "{said:?}");
    let said = json(&["put", "large", "--file", "/nonexistent"]);
    assert_eq!((said.code, said.object()["error"].as_str()), (1, Some("io")), "{said:?}");
    let said = say(&["status", "7"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("7"), "{said:?}");
    a_follower_without_redirect(&cluster);
    who_is_not_trusted(&cluster);
    an_outcome_that_nobody_knows(&cluster);
}

fn a_follower_without_redirect(cluster: &Cluster) {
    let (leader, follower) = cluster.leader_and_follower();
    let at = ["--no-redirect", "--endpoints", cluster.endpoint(follower)];
    let said = cluster.ask(&[&at[..], &["put", "k", "v"]].concat());
    assert_fails(&said, 6, &format!("error: <text> [leader: raft-{leader}]\n"));
    let said = cluster.ask(&[&["--lang", "es"], &at[..], &["escribir", "k", "v"]].concat());
    let spanish = format!("error: ese nodo no es el líder (<text>) [líder: raft-{leader}]\n");
    assert_fails(&said, 6, &spanish);
    let said = cluster.ask(&[&at[..], &["-o", "json", "get", "k"]].concat());
    assert_eq!(said.code, 6);
    assert_like(
        &said.out,
        &format!(
            "{{\"error\":\"not_leader\",\"message\":\"<text>\",\"exit\":6,\
             \"leader\":\"raft-{leader}\"}}\n"
        ),
    );
    let endpoint = ["--endpoints", cluster.endpoint(follower)];
    cluster.ask(&[&endpoint[..], &["put", "k", "v"]].concat()).fine();
    let local = cluster.ask(&[&at[..], &["get", "k", "--local"]].concat());
    assert!(matches!(local.code, 0 | 3), "a local read needs no leader: {local:?}");
}

fn who_is_not_trusted(cluster: &Cluster) {
    // Of a CA that nobody knows.
    let strange = cluster.path().join("strange");
    let mut init = Command::new(CLTRAFT);
    let made = run(init.args(["certs", "init", "--cluster", "local", "--out"]).arg(&strange));
    assert_eq!(made.code, 0, "{made:?}");
    let with = |certs: &std::path::Path, words: &[&str]| {
        run(cluster.command(&[&["-o", "json"], words].concat()).env("BALSA_CERTS", certs))
    };
    let said = with(&strange.join("admin"), &["put", "k", "v"]);
    assert_eq!((said.code, said.object()["exit"].as_u64()), (7, Some(7)), "{said:?}");
    // A client is no admin (design section 6).
    let client = cluster.dir.join("certs").join("client");
    assert_eq!(with(&client, &["put", "k", "v"]).code, 0);
    for words in [
        &["replication", "0"][..],
        &["stop", "0"],
        &["member", "add", "raft-3", "127.0.0.1:1"],
        &["member", "remove", "raft-0"],
        &["member", "promote", "raft-0"],
        &["transfer", "0"],
        &["snapshot", "take", "0"],
    ] {
        let said = with(&client, words);
        assert_eq!((said.code, said.object()["error"].as_str()), (7, Some("denied")), "{said:?}");
    }
    // Nothing there, and a key of another certificate.
    let said = with(&cluster.path().join("nowhere"), &["put", "k", "v"]);
    assert_eq!((said.code, said.object()["error"].as_str()), (7, Some("certificates")), "{said:?}");
    assert!(said.out.contains("nowhere"), "{said:?}");
    let mixed = cluster.path().join("mixed");
    fs::create_dir(&mixed).expect("a directory");
    for (from, file) in [(&client, "ca.crt"), (&client, "tls.crt"), (&cluster.certs, "tls.key")] {
        fs::copy(from.join(file), mixed.join(file)).expect("a copy");
    }
    let said = with(&mixed, &["put", "k", "v"]);
    assert_eq!((said.code, said.object()["error"].as_str()), (7, Some("certificates")), "{said:?}");
    assert!(said.out.contains("tls.key"), "{said:?}");
}

/// The leader has the write and cannot say what becomes of it.
fn an_outcome_that_nobody_knows(cluster: &Cluster) {
    let (leader, _) = cluster.leader_and_follower();
    let mut shell = crate::shell::Shell::open(cluster, &["-o", "json", "--timeout", "4s"]);
    // Registers the session, without which nothing is ever executed.
    assert_eq!(shell.object("put k before")["exit"], 0);
    let others: Vec<u32> = (0..3).filter(|n| *n != leader).map(|n| cluster.pid(n)).collect();
    signal("-STOP", &others);
    let said = shell.object("put k after");
    signal("-CONT", &others);
    assert_eq!(
        (said["error"].as_str(), said["exit"].as_u64()),
        (Some("unknown"), Some(5)),
        "{said}"
    );
    assert_eq!(shell.leave(), 5, "the status of the last command");
}

pub(crate) fn signal(which: &str, pids: &[u32]) {
    for pid in pids {
        let script = "kill \"$1\" \"$2\"";
        let said = run(Command::new("bash").args(["-c", script, "bash", which, &pid.to_string()]));
        assert_eq!(said.code, 0, "{said:?}");
    }
}

#[test]
fn without_a_cluster_the_status_is_6() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let out = directory.path().to_str().expect("UTF-8");
    assert_eq!(cltraft(&["certs", "init", "--out", out]).code, 0);
    let admin = format!("{out}/admin");
    // Bound and not listening: nobody else gets it, and nobody answers.
    let port = crate::harness::free_ports(1)[0];
    let endpoint = format!("127.0.0.1:{port}");
    let call = ["--timeout", "1s", "--endpoints", &endpoint, "--certs", &admin];
    for words in [&["put", "k", "v"][..], &["get", "k"], &["range", "a"], &["status"]] {
        let said = cltraft(&[&call[..], &["-o", "json"], words].concat());
        assert_eq!(said.code, 6, "{said:?}");
        let object = said.object();
        assert_eq!(object["exit"], 6, "{said:?}");
        assert!(object["message"].as_str().is_some_and(|m| m.contains(&endpoint)), "{said:?}");
    }
    let said = cltraft(&[&call[..], &["put", "k", "v"]].concat());
    let lines: Vec<_> = said.err.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!((said.code, lines.len()), (6, 1), "{said:?}");
}

#[test]
fn a_wrong_command_line_is_one_report_of_everything() {
    let said = cltraft(&[
        "put",
        "k",
        "--prefix",
        "p",
        "--frob",
        "--endpoints",
        "h",
        "-o",
        "xml",
        "--lang",
        "fr",
        "--timeout",
        "x",
    ]);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    for part in [
        "put needs VALUE",
        "--prefix means nothing to put",
        "no option --frob",
        "--endpoints: 'h' is not HOST:PORT",
        "--output: 'xml'",
        "--lang: 'fr'",
        "--timeout: 'x'",
        "no certificates are named",
        "cltraft --help",
    ] {
        assert!(said.err.contains(part), "{part} is not in:\n{}", said.err);
    }
    for (words, part) in [
        (&[][..], "the command is missing"),
        (&["frobnicate"], "no command 'frobnicate'"),
        (&["local", "--dir", "d", "--remove", "raft-3"], "no option --remove"),
        (&["local", "--dir", "d", "--add", "3", "--kill", "1"], "give one of"),
        (&["member"], "member needs a verb; it has list, add NAME HOST:PORT"),
        (&["member", "remove", "3"], "the seat's whole name, such as raft-3"),
        (&["member", "add", "raft-3", "nowhere"], "'nowhere' is not HOST:PORT"),
        (&["snapshot"], "snapshot needs a verb; it has take NODE"),
        (&["transfer"], "transfer needs a NODE"),
        (&["local", "--nodes", "3"], "--dir"),
        (&["local", "--dir", "d", "--kill", "1", "--down"], "give one of"),
        (&["local", "--dir", "d", "--nodes", "0"], "--nodes: '0'"),
        (&["certs"], "init, issue, show, renew, revoke and rotate-ca"),
        (&["bench", "--op", "swim"], "--op: 'swim'"),
    ] {
        let said = cltraft(words);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{words:?}: {said:?}");
        assert!(said.err.contains(part), "{words:?}: {part} is not in:\n{}", said.err);
    }
    for words in [&["-o", "json", "put", "k", "--frob"][..], &["put", "--frob", "k", "-ojson"]] {
        let said = cltraft(words);
        assert_eq!((said.code, said.err.as_str()), (2, ""), "{words:?}: {said:?}");
        let object = said.object();
        assert_eq!((object["error"].as_str(), object["exit"].as_u64()), (Some("usage"), Some(2)));
        let message = object["message"].as_str().unwrap_or_default();
        for part in ["put needs VALUE", "no option --frob"] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
        assert!(object["leader"].is_null(), "{said:?}");
    }
    let help = cltraft(&["--help"]);
    for word in [
        "put KEY VALUE",
        "member add NAME",
        "--endpoints",
        "--add",
        "BALSA_CERTS",
        "Exit status: 0 done",
    ] {
        assert!(help.fine().contains(word), "{word}");
    }
    for executable in [CLTRAFT, SRVRAFT] {
        let said = run(Command::new(executable).arg("--version"));
        let name = executable.rsplit('/').next().unwrap_or_default();
        assert_eq!(said.fine(), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}
