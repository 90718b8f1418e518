//! Style as a test: what people agreed on and no compiler checks.
//!
//! Each rule stands here twice: once against the tree, and once against a sample that breaks it, since
//! a rule that cannot fail proves nothing.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use rules::Findings;
use source::{File, code_of, paths_above, paths_below, tree};

type Rule = fn(&[File]) -> Findings;

/// The tree keeps the rule.
fn holds(rule: Rule) {
    let findings = rule(&tree());
    assert!(findings.is_empty(), "\n  {}\n", findings.join("\n  "));
}

/// A tree with this one file breaks the rule, and the finding says so.
fn breaks(rule: Rule, path: &str, text: &str, finding: &str) {
    let findings = rule(&[File::sample(path, text)]);
    assert!(
        findings.iter().any(|found| found.contains(finding)),
        "the rule does not see that {path} holds {text:?}: {findings:?}"
    );
}

/// A tree with this one file keeps the rule.
fn keeps(rule: Rule, path: &str, text: &str) {
    let findings = rule(&[File::sample(path, text)]);
    assert!(findings.is_empty(), "{path} with {text:?} is fine, yet: {findings:?}");
}

#[test]
fn imports_flow_down_only() {
    holds(rules::layers);
}

#[test]
fn an_import_that_climbs_is_found() {
    let rule = rules::layers;
    let denied = "may not import";
    breaks(rule, "src/raft/node.rs", "use crate::codec::api;", "raft may not import codec::api");
    breaks(rule, "src/raft/node.rs", "use crate::{raft::types, storage};", denied);
    breaks(rule, "src/raft/node.rs", "fn f() { super::super::kv::x() }", denied);
    breaks(rule, "src/raft/mod.rs", "use super::{kv::limits};", denied);
    breaks(rule, "src/kv/store.rs", "use crate::raft::Index;", "kv may not import raft::Index");
    breaks(rule, "src/rpc/tls.rs", "use crate::storage::LogStore;", denied);
    breaks(rule, "src/storage/wal.rs", "use crate::rpc;", denied);
    breaks(rule, "src/codec/api.rs", "use crate::actors::{node, applier};", denied);
    breaks(rule, "src/client/mod.rs", "use crate::storage;", denied);
    breaks(rule, "src/actors/node.rs", "use crate::cli::shell;", denied);
    breaks(rule, "src/newcomer/mod.rs", "", "give the module a layer");

    keeps(rule, "src/kv/store.rs", "use crate::raft::types::{Index, Term};");
    keeps(rule, "src/raft/node.rs", "use super::types::Index; use crate::raft::effects as e;");
    keeps(rule, "src/raft/node.rs", "/// See crate::rpc.\nconst WHERE: &str = \"crate::rpc\";");
    keeps(rule, "src/raft/node.rs", "#[cfg(test)]\nmod tests { use crate::codec; }");
    let behind_a_module = "#[cfg(test)]\nmod tests;\nmod wish;\nuse crate::codec;";
    breaks(rule, "src/raft/node.rs", behind_a_module, "raft may not import codec");
    keeps(rule, "src/actors/node.rs", "use crate::{storage::{Batch, fs}, rpc, raft::*};");
    keeps(rule, "src/cli/shell.rs", "use crate::{actors, telemetry};");
    keeps(rule, "src/lib.rs", "pub mod raft;");
}

#[test]
fn the_core_and_the_state_machine_are_pure() {
    holds(rules::purity);
}

#[test]
fn an_impure_core_is_found() {
    let rule = rules::purity;
    breaks(rule, "src/raft/node.rs", "use std::time::Instant;", "Instant");
    breaks(rule, "src/raft/node.rs", "use std::{collections::BTreeMap, fs};", "std::fs");
    breaks(rule, "src/raft/node.rs", "fn f() { std::thread::yield_now() }", "std::thread");
    breaks(rule, "src/kv/store.rs", "use std::collections::HashMap;", "HashMap");
    breaks(rule, "src/kv/store.rs", "async fn f() {}", "async");
    breaks(rule, "src/kv/store.rs", "tracing::info!(\"x\");", "tracing");
    breaks(rule, "src/kv/store.rs", "fn f(s: SystemTime) {}", "SystemTime");

    keeps(rule, "src/storage/fs.rs", "use std::fs;");
    keeps(rule, "src/raft/node.rs", "// no std::fs, no tokio\nuse std::collections::BTreeMap;");
    keeps(rule, "src/raft/tests/env.rs", "use std::fs;");
    keeps(rule, "src/raft/node.rs", "struct Instantly;");
}

#[test]
fn nothing_on_an_arbiter_touches_a_file() {
    holds(rules::no_files_on_arbiters);
}

#[test]
fn a_file_access_on_an_arbiter_is_found() {
    let rule = rules::no_files_on_arbiters;
    breaks(rule, "src/actors/node.rs", "use std::{fs::File, io};", "`std::fs::File` on an arbiter");
    breaks(rule, "src/rpc/server.rs", "std::fs::read(x)", "on an arbiter");
    keeps(rule, "src/storage/fs.rs", "use std::fs;");
    keeps(rule, "src/rpc/tls/files.rs", "use std::fs;");
}

#[test]
fn undeveloped_packages_stay_behind_one_file_each() {
    holds(rules::undeveloped_packages_stay_apart);
}

#[test]
fn a_second_user_of_an_undeveloped_package_is_found() {
    for package in rules::UNDEVELOPED {
        let file = |path| File::sample(path, &format!("use {package}::Thing;"));
        let findings =
            rules::undeveloped_packages_stay_apart(&[file("src/a.rs"), file("src/b.rs")]);
        assert_eq!(findings, [format!("{package} is used by src/a.rs and src/b.rs")]);
        assert!(rules::undeveloped_packages_stay_apart(&[file("src/a.rs")]).is_empty());
    }
}

#[test]
fn all_packages_that_were_asked_for_are_in_use() {
    holds(rules::asked_for_packages_are_in_use);
}

#[test]
fn an_unused_or_missing_package_is_found() {
    let rule = rules::asked_for_packages_are_in_use;
    breaks(rule, "Cargo.toml", "[dependencies]\nactix = \"1\"\n", "actix is used by no file");
    breaks(rule, "src/a.rs", "use fs2::FileExt;", "fs2 is missing from Cargo.toml");
    breaks(rule, "src/a.rs", "// use fs2::FileExt;", "fs2 is used by no file");
    let dev = "[dependencies]\n[dev-dependencies]\nrcgen = \"1\"\n";
    breaks(rule, "Cargo.toml", dev, "rcgen is missing from Cargo.toml");
}

#[test]
fn every_dependency_has_its_reason() {
    holds(rules::dependencies_have_reasons);
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let rule = rules::dependencies_have_reasons;
    breaks(rule, "Cargo.toml", "[dependencies]\nleft-pad = \"1\"\n", "left-pad has no line");
    breaks(rule, "Cargo.toml", "[dev-dependencies]\nleft-pad = { git = \"x\" }\n", "left-pad");
}

#[test]
fn files_are_short() {
    holds(rules::files_are_short);
}

#[test]
fn a_long_file_is_found() {
    let rule = rules::files_are_short;
    let (long, short) = ("//\n".repeat(501), "//\n".repeat(500));
    breaks(rule, "src/raft/node.rs", &long, "501 lines");
    breaks(rule, "scripts/test.sh", &long, "501 lines");
    breaks(rule, "integration/a.rs", &"//\n".repeat(801), "801 lines");
    keeps(rule, "src/raft/node.rs", &short);
    keeps(rule, "src/raft/tests/paper.rs", &long);
    keeps(rule, "src/raft/node.rs", &format!("{short}#[cfg(test)]\nmod tests {{\n{long}"));
    breaks(rule, "src/raft/node.rs", &format!("#[cfg(test)]\nmod tests;\n{long}"), "503 lines");
    breaks(rule, "src/raft/node.rs", &format!("#[cfg(test)]\nimpl Node {{}}\n{long}"), "503 lines");
}

#[test]
fn no_file_is_dead() {
    holds(rules::no_dead_files);
}

#[test]
fn a_dead_file_is_found() {
    let rule = rules::no_dead_files;
    for path in ["integration/lost.rs", "integration/cluster/lost.rs", "scripts/lost.sh"] {
        breaks(rule, path, "", "nothing refers to it");
    }
    let alive = [
        File::sample("Cargo.toml", "path = \"integration/cluster/main.rs\""),
        File::sample("integration/cluster/main.rs", "mod harness; const D: &str = \"data/x\";"),
        File::sample("integration/cluster/harness.rs", "// scripts/lib.sh"),
        File::sample("integration/cluster/data/one.txt", ""),
        File::sample("scripts/lib.sh", ""),
    ];
    assert_eq!(rule(&alive), Findings::new());
    assert_eq!(rule(&alive[1..]), ["integration/cluster/main.rs: nothing refers to it"]);
}

#[test]
fn nothing_is_left_for_later() {
    holds(rules::nothing_is_left_for_later);
}

#[test]
fn work_left_for_later_is_found() {
    let rule = rules::nothing_is_left_for_later;
    breaks(rule, "src/a.rs", concat!("// TO", "DO: later"), concat!("TO", "DO"));
    breaks(rule, "README.md", concat!("FIX", "ME"), concat!("FIX", "ME"));
    breaks(rule, "src/a.rs", concat!("fn f() { unimple", "mented!() }"), "mented");
    keeps(rule, "src/a.rs", "// All done. mktemp XXXXXX");
}

#[test]
fn every_do_send_has_its_reason() {
    holds(rules::do_send_is_justified);
}

#[test]
fn a_do_send_without_a_reason_is_found() {
    let rule = rules::do_send_is_justified;
    breaks(rule, "src/actors/a.rs", "a.do_send(Tick);", "src/actors/a.rs:1: do_send without");
    breaks(rule, "src/actors/a.rs", "// sends\n\n\na.do_send(Tick);", "src/actors/a.rs:4");
    let whole = "#![allow(clippy::disallowed_methods, reason = \"x\")]";
    breaks(rule, "src/actors/a.rs", whole, "for a whole file");
    keeps(rule, "src/actors/a.rs", "// do_send: one a persist token at most.\na.do_send(Done);");
    keeps(rule, "src/actors/a.rs", "// never a.do_send(x)");
}

#[test]
fn the_tree_holds_no_private_key() {
    holds(rules::no_private_keys);
}

#[test]
fn a_private_key_is_found() {
    let rule = rules::no_private_keys;
    let body = "MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let block = format!("-----BEGIN {}\n{body}\n", concat!("PRIVATE KEY", "-----"));
    breaks(rule, "certs/x.pem", &block, "a private key");
    breaks(rule, "src/a.rs", &format!("const K: &str = \"{block}\";"), "a private key");
    breaks(rule, "certs/tls.key", "", "a private key");
    keeps(rule, "src/a.rs", concat!("// looks for -----BEGIN PRIVATE KEY", "-----\nfn f() {}"));
}

#[test]
fn no_path_of_one_machine() {
    holds(rules::no_machine_paths);
}

#[test]
fn a_path_of_one_machine_is_found() {
    let rule = rules::no_machine_paths;
    breaks(rule, "scripts/a.sh", concat!("cd /ro", "ot/balsa"), "names");
    breaks(rule, "README.md", concat!("`/wo", "rk/x`"), "names");
    breaks(rule, "src/a.rs", concat!("\"/ho", "me/ana\""), "names");
    keeps(rule, "scripts/a.sh", "cd \"$dir/root\"; ls target/work; ls /rootfs; cat a/home/b");
}

#[test]
fn the_top_level_is_complete() {
    holds(rules::top_level_is_complete);
}

#[test]
fn an_incomplete_top_level_is_found() {
    breaks(rules::top_level_is_complete, "src/lib.rs", "", "k8s/ is missing");
    breaks(rules::top_level_is_complete, "src/lib.rs", "", "LICENSE is missing");
}

#[test]
fn scripts_are_careful() {
    holds(rules::scripts_are_careful);
}

#[test]
fn a_careless_script_is_found() {
    let rule = rules::scripts_are_careful;
    let good = "#!/usr/bin/env bash\nset -euo pipefail\n# --help\n";
    let executable = |text: &str| {
        rule(&[File { executable: true, ..File::sample("scripts/a.sh", text) }]).join("; ")
    };
    assert_eq!(executable(good), "");
    assert_eq!(executable(&good.replace("--help", "")), "scripts/a.sh has no --help");
    assert_eq!(executable(&good.replace("-euo", "-e")), "scripts/a.sh goes on after failures");
    assert_eq!(executable(&good.replace("env bash", "env sh")), "scripts/a.sh has no bash line");
    breaks(rule, "scripts/a.sh", good, "is not executable");
    breaks(rule, ".ci/run", "", "goes on after failures");
}

#[test]
fn documents_name_what_exists() {
    holds(rules::documents_name_what_exists);
}

#[test]
fn a_document_that_names_nothing_is_found() {
    let rule = rules::documents_name_what_exists;
    breaks(rule, "README.md", "run `./scripts/gone.sh --now`", "names scripts/gone.sh");
    breaks(rule, "README.md", "see `src/gone/`", "names src/gone/");
    keeps(rule, "docs/a.md", "`docs/a.md`, `docs/`, `certs/generated/ca`, `src/*.rs`, scripts/x");
}

#[test]
fn ignored_tests_say_why() {
    holds(rules::ignored_tests_say_why);
}

#[test]
fn a_test_ignored_without_a_reason_is_found() {
    let rule = rules::ignored_tests_say_why;
    breaks(rule, "src/a.rs", concat!("#[ign", "ore]\nfn f() {}"), "without a reason");
    keeps(rule, "src/a.rs", "#[ignore = \"needs a cluster\"]\nfn f() {}");
}

// --------------------------------------------------------------------------------------------
// The reading that the rules stand on.

#[test]
fn comments_and_literals_are_not_code() {
    let text =
        "a(\"b // c\\\"\"); /* d /* e */ f */ g('\"', '\\'', 'h'); // i\nr#\"j \" k\"# l<'m>";
    let words: Vec<String> = code_of(text).split_whitespace().map(String::from).collect();
    assert_eq!(words, ["a(", ");", "g(", ",", ",", ");", "l<'m>"]);
    assert_eq!(code_of(text).lines().count(), 2, "line numbers stay");
}

#[test]
fn groups_of_imports_are_unfolded() {
    let code = "use crate::{a, b::{c, d::e,}, f::*,}; crate::g::h(); mycrate::i; pub(crate) j";
    assert_eq!(paths_below(code, "crate"), ["a", "b::c", "b::d::e", "f::*", "g::h"]);
    assert_eq!(paths_below("use crate::a as b; use crate::{c as d, e};", "crate"), ["a", "c", "e"]);
    assert_eq!(paths_above("super::super::x::y; super::z;", &["rpc", "frame"]), ["x::y"]);
    assert_eq!(paths_above("super::super::x;", &["rpc", "frame", "deep"]), [""; 0]);
}

#[test]
fn the_tree_is_read() {
    let tree = tree();
    assert!(tree.iter().any(|f| f.path == "integration/tidy/source.rs"));
    assert!(!tree.iter().any(|f| f.path.starts_with("target/") || f.path.starts_with(".git/")));
}
