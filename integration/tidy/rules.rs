//! The rules. Each is a function from the tree to what is wrong with it, one sentence a finding.

use crate::source::{File, code_of, has_word, paths_above, paths_below};

pub(crate) type Findings = Vec<String>;

/// Which modules a module of the library may import; a path such as `raft::types` allows only what
/// is below it. Whoever adds a module gives it its layer here.
const LAYERS: &[(&str, &[&str])] = &[
    ("raft", &[]),
    ("kv", &["raft::types", "raft::membership"]),
    ("founding", &["raft"]),
    ("codec", &["kv", "raft", "founding"]),
    ("platform", &[]),
    ("storage", &["codec", "kv", "raft", "founding", "platform"]),
    ("rpc", &["codec", "identity", "kv", "metrics", "raft", "founding"]),
    // Certificates are made with the same names that connections check.
    ("identity", &[]),
    ("certs", &["identity", "platform"]),
    ("client", &["rpc", "codec", "identity", "kv", "raft"]),
    (
        "actors",
        &[
            "config", "exit", "rpc", "storage", "codec", "identity", "kv", "metrics", "raft",
            "founding",
        ],
    ),
    // The face of both executables uses everything.
    ("cli", &["*"]),
    // Beside the layers: settings as values, exit statuses, and the set-up of logging.
    ("config", &["codec", "raft", "founding"]),
    ("exit", &["config", "rpc", "storage", "codec"]),
    ("telemetry", &["config"]),
    // What is counted, and how it is written down; it knows nothing of what is measured.
    ("metrics", &[]),
];

/// Modules that are a function from inputs to outputs (S16).
const PURE: &[&str] = &["raft", "kv", "founding"];

/// Packages that are no longer developed: one file each, so that each can be replaced in one file.
pub(crate) const UNDEVELOPED: &[&str] = &["structopt", "fs2", "rustls_pemfile"];

/// The packages that the project was asked to use (C1).
const ASKED_FOR: &[&str] = &[
    "actix",
    "actix-rt",
    "tokio-rustls",
    "rcgen",
    "rustls-pemfile",
    "serde",
    "rmp-serde",
    "fs2",
    "structopt",
];

/// Lines of a source file before its unit tests.
const LINES_MAX: usize = 500;
/// Lines of a file that is a test as a whole.
const TEST_LINES_MAX: usize = 800;

/// Library modules import only from the layers below them.
pub(crate) fn layers(tree: &[File]) -> Findings {
    let mut findings = Findings::new();
    for file in tree {
        let Some(module) = file.module().filter(|m| !matches!(m[0], "lib" | "bin")) else {
            continue;
        };
        let Some((own, allowed)) = LAYERS.iter().find(|(name, _)| *name == module[0]) else {
            findings.push(format!("{}: give the module a layer in the tidy rules", file.path));
            continue;
        };
        let code = code_of(file.shipped());
        let mut paths = paths_below(&code, "crate");
        paths.extend(paths_above(&code, &module));
        for path in paths {
            let fits = |layer: &&str| {
                *layer == "*" || path == **layer || path.starts_with(&format!("{layer}::"))
            };
            if !fits(own) && !allowed.iter().any(fits) {
                findings.push(format!("{}: {own} may not import {path}", file.path));
            }
        }
    }
    findings
}

/// The core and the state machine know no clock, disk, network, thread, task, log or global chance.
pub(crate) fn purity(tree: &[File]) -> Findings {
    // Hash maps are out because their order differs from run to run.
    const WORDS: &[&str] = &[
        "async",
        "await",
        "tokio",
        "actix",
        "tracing",
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "println",
        "eprintln",
        "getrandom",
        "thread_rng",
        "from_os_rng",
        "thread_local",
    ];
    const STD: &[&str] = &["fs", "net", "time", "thread", "env", "process", "os"];
    let mut findings = Findings::new();
    for file in tree {
        if !file.module().is_some_and(|module| PURE.contains(&module[0])) {
            continue;
        }
        let code = code_of(file.shipped());
        for word in WORDS.iter().filter(|word| has_word(&code, word)) {
            findings.push(format!("{}: `{word}` in a pure module", file.path));
        }
        for path in paths_below(&code, "std") {
            if STD.contains(&path.split("::").next().unwrap_or_default()) {
                findings.push(format!("{}: `std::{path}` in a pure module", file.path));
            }
        }
    }
    findings
}

/// Nothing that runs on an arbiter or in a client's task touches a file: that blocks everyone else
/// there (A5). Files belong to the storage's threads.
pub(crate) fn no_files_on_arbiters(tree: &[File]) -> Findings {
    let on_arbiters =
        |f: &&File| f.module().is_some_and(|m| matches!(m[0], "actors" | "client" | "rpc"));
    let mut findings = Findings::new();
    // The exception reads certificates when a node starts and when they were replaced.
    for file in tree.iter().filter(on_arbiters).filter(|f| !f.path.starts_with("src/rpc/tls")) {
        for path in paths_below(&code_of(file.shipped()), "std") {
            if path == "fs" || path.starts_with("fs::") {
                findings.push(format!("{}: `std::{path}` on an arbiter", file.path));
            }
        }
    }
    findings
}

/// Each undeveloped package is named by at most one file of the library and the executables.
pub(crate) fn undeveloped_packages_stay_apart(tree: &[File]) -> Findings {
    UNDEVELOPED
        .iter()
        .map(|package| (package, users_of(tree, package)))
        .filter(|(_, users)| users.len() > 1)
        .map(|(package, users)| format!("{package} is used by {}", users.join(" and ")))
        .collect()
}

fn users_of<'a>(tree: &'a [File], package: &str) -> Vec<&'a str> {
    let rust = tree.iter().filter(|f| f.is_rust() && f.path.starts_with("src/"));
    rust.filter(|f| has_word(&code_of(&f.text), package)).map(|f| f.path.as_str()).collect()
}

/// All packages of row C1 are dependencies, and the library's code uses them.
pub(crate) fn asked_for_packages_are_in_use(tree: &[File]) -> Findings {
    let mut findings = Findings::new();
    for package in ASKED_FOR {
        if !dependencies(tree, "[dependencies]").contains(package) {
            findings.push(format!("{package} is missing from Cargo.toml"));
        }
        if users_of(tree, &package.replace('-', "_")).is_empty() {
            findings.push(format!("{package} is used by no file below src"));
        }
    }
    findings
}

fn dependencies<'a>(tree: &'a [File], section: &str) -> Vec<&'a str> {
    let manifest = tree.iter().find(|f| f.path == "Cargo.toml");
    let lines = manifest.map(|f| f.text.as_str()).unwrap_or_default().lines();
    let inside = lines.skip_while(|l| *l != section).skip(1).take_while(|l| !l.starts_with('['));
    inside.filter_map(|l| l.split_once(" = ")).map(|(name, _)| name.trim()).collect()
}

/// Every dependency has its reason.
pub(crate) fn dependencies_have_reasons(tree: &[File]) -> Findings {
    let decisions = tree.iter().find(|f| f.path == "DECISIONS.md");
    let decisions = decisions.map(|f| f.text.as_str()).unwrap_or_default();
    let mut names = dependencies(tree, "[dependencies]");
    names.extend(dependencies(tree, "[dev-dependencies]"));
    let missing = names.into_iter().filter(|name| !decisions.contains(&format!("| `{name}` |")));
    missing.map(|name| format!("{name} has no line in the table of DECISIONS.md")).collect()
}

/// No source file is longer than a person reads at once; unit tests do not count.
pub(crate) fn files_are_short(tree: &[File]) -> Findings {
    let sources = tree.iter().filter(|f| f.is_rust() || f.path.ends_with(".sh"));
    sources
        .map(|f| match f.path.starts_with("integration/") || f.shipped().is_empty() {
            true => (f, f.text.lines().count(), TEST_LINES_MAX),
            false => (f, f.shipped().lines().count(), LINES_MAX),
        })
        .filter(|(_, lines, most)| lines > most)
        .map(|(f, lines, _)| format!("{}: {lines} lines before its tests: split it", f.path))
        .collect()
}

/// Everything under `integration` and `scripts` is used by something: a target in Cargo.toml, a `mod`,
/// or another file that names it or the folder of its kind.
pub(crate) fn no_dead_files(tree: &[File]) -> Findings {
    let watched = |f: &&File| {
        ["integration/", "scripts/"].iter().any(|top| f.path.starts_with(top))
            && f.name() != "README.md"
    };
    tree.iter()
        .filter(watched)
        .filter(|f| !tree.iter().any(|other| other.path != f.path && refers(other, f)))
        .map(|f| format!("{}: nothing refers to it", f.path))
        .collect()
}

fn refers(other: &File, file: &File) -> bool {
    if file.is_rust() {
        let stem = match file.name() {
            "mod.rs" => file.folder().rsplit('/').next().unwrap_or_default(),
            name => name.trim_end_matches(".rs"),
        };
        let beside = other.is_rust() && other.path.starts_with("integration/");
        let declared = other.path.ends_with("Cargo.toml") && other.text.contains(file.name());
        return declared || beside && has_word(&code_of(&other.text), &format!("mod {stem}"));
    }
    let folder = file.folder();
    let data_of_a_kind = folder.contains('/') && !file.path.ends_with(".sh") && {
        let last = folder.rsplit('/').next().unwrap_or_default();
        other.text.contains(&format!("/{last}")) || other.text.contains(&format!("{last}/"))
    };
    other.text.contains(file.name()) || data_of_a_kind
}

/// Nothing is left for later inside the text: what is not done is an issue.
pub(crate) fn nothing_is_left_for_later(tree: &[File]) -> Findings {
    // Put together here, so that this file does not find itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!")];
    let code_words = [concat!("unimple", "mented"), concat!("db", "g!")];
    let mut findings = Findings::new();
    for file in tree.iter().filter(|f| f.path != "Cargo.lock") {
        let in_code = |word: &&&str| file.is_rust() && has_word(&code_of(&file.text), word);
        let found = words.iter().filter(|word| has_word(&file.text, word));
        for word in found.chain(code_words.iter().filter(in_code)) {
            findings.push(format!("{}: contains {word}", file.path));
        }
    }
    findings
}

/// A message is sent without regard to the mailbox only where a comment or the lint's exception
/// within the five lines above says why it cannot flood anybody (A1).
pub(crate) fn do_send_is_justified(tree: &[File]) -> Findings {
    const CALL: &str = ".do_send(";
    let mut findings = Findings::new();
    for file in tree.iter().filter(|f| f.is_rust() && !f.path.starts_with("integration/")) {
        let code = code_of(&file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, _) in code.lines().enumerate().filter(|(_, line)| line.contains(CALL)) {
            let near = lines[at.saturating_sub(5)..=at].join("\n");
            if !near.contains("reason = \"") && !near.contains("// do_send:") {
                findings.push(format!("{}:{}: do_send without a reason", file.path, at + 1));
            }
        }
        let whole_file = "#![allow(clippy::disallowed_methods";
        if code.contains(whole_file) || code.contains(&whole_file.replace("allow", "expect")) {
            findings.push(format!("{}: lifts the ban for a whole file", file.path));
        }
    }
    findings
}

/// No private key, not even for a test: keys are generated.
pub(crate) fn no_private_keys(tree: &[File]) -> Findings {
    let marker = concat!("PRIVATE KEY", "-----");
    let base64 = |line: &str| {
        line.len() >= 32 && line.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c))
    };
    let holds_key = |f: &&File| {
        let lines: Vec<&str> = f.text.lines().map(|l| l.trim_matches([' ', '"', '\\'])).collect();
        let block = lines.windows(2).any(|pair| pair[0].ends_with(marker) && base64(pair[1]));
        block || [".key", ".p12", ".pfx", ".p8"].iter().any(|end| f.path.ends_with(end))
    };
    tree.iter().filter(holds_key).map(|f| format!("{}: a private key", f.path)).collect()
}

/// No path of one person's machine.
pub(crate) fn no_machine_paths(tree: &[File]) -> Findings {
    let homes = [concat!("/ro", "ot"), concat!("/wo", "rk"), concat!("/ho", "me")];
    let mut findings = Findings::new();
    for file in tree {
        for home in homes {
            let absolute = file.text.match_indices(home).any(|(at, _)| {
                let before = file.text[..at].chars().next_back();
                let after = file.text[at + home.len()..].chars().next();
                before.is_none_or(|c| c.is_whitespace() || "\"'`=:(".contains(c))
                    && after.is_none_or(|c| !c.is_alphanumeric() && !"-_.".contains(c))
            });
            if absolute {
                findings.push(format!("{}: names {home}", file.path));
            }
        }
    }
    findings
}

/// The tree has the top level that was asked for (C2).
pub(crate) fn top_level_is_complete(tree: &[File]) -> Findings {
    let folders = ["src", "certs", "k8s", "docker", "scripts", "integration"];
    let missing = |folder: &&str| !tree.iter().any(|f| f.path.starts_with(&format!("{folder}/")));
    let findings = folders.into_iter().filter(missing).map(|f| format!("{f}/ is missing"));
    let files = ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "DECISIONS.md"];
    let absent = |name: &&str| !tree.iter().any(|f| f.path == *name);
    findings.chain(files.into_iter().filter(absent).map(|f| format!("{f} is missing"))).collect()
}

/// Scripts stop at the first failure, explain themselves, and can be run.
pub(crate) fn scripts_are_careful(tree: &[File]) -> Findings {
    let mut findings = Findings::new();
    for file in tree {
        let sourced = !file.executable && file.text.starts_with("# shellcheck shell=bash\n");
        let script = file.path.starts_with("scripts/") && file.path.ends_with(".sh");
        if !script && file.path != ".ci/run" {
            continue;
        }
        let alias = file.text.contains("exec ") && file.text.contains("\"$@\"");
        let lacks = [
            (!sourced && !file.executable, "is not executable"),
            (!sourced && !file.text.starts_with("#!/usr/bin/env bash\n"), "has no bash line"),
            (!sourced && !file.text.contains("set -euo pipefail"), "goes on after failures"),
            (!sourced && !alias && !file.text.contains("--help"), "has no --help"),
        ];
        let lacks = lacks.into_iter().filter(|(wrong, _)| *wrong);
        findings.extend(lacks.map(|(_, what)| format!("{} {what}", file.path)));
    }
    findings
}

/// Files that the documents name exist. The changelog may speak of what is gone.
pub(crate) fn documents_name_what_exists(tree: &[File]) -> Findings {
    let tops = ["src/", "integration/", "scripts/", "certs/", "k8s/", "docker/", "docs/"];
    let exists = |path: &str| {
        let folder = format!("{}/", path.trim_end_matches('/'));
        tree.iter().any(|f| f.path == path || f.path.starts_with(&folder))
    };
    let mut findings = Findings::new();
    for file in tree.iter().filter(|f| f.path.ends_with(".md") && f.path != "CHANGELOG.md") {
        for quoted in file.text.split('`').skip(1).step_by(2) {
            let path = quoted.trim_start_matches("./").split([' ', '#']).next().unwrap_or_default();
            let literal = !path.contains(['*', '<', '{', '…', '$', '\n']);
            let generated = path.starts_with("certs/generated");
            if tops.iter().any(|t| path.starts_with(t)) && literal && !generated && !exists(path) {
                findings.push(format!("{}: names {path}, which is not there", file.path));
            }
        }
    }
    findings
}

/// A test that is left out says why.
pub(crate) fn ignored_tests_say_why(tree: &[File]) -> Findings {
    let bare = concat!("#[ign", "ore]");
    let found = tree.iter().filter(|f| f.is_rust() && code_of(&f.text).contains(bare));
    found.map(|f| format!("{}: a test is ignored without a reason", f.path)).collect()
}
