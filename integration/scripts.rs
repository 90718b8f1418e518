//! The scripts for Kubernetes, against a cluster that is a directory: what they say to bad input, what
//! they leave alone, and that the validation fails when something is wrong, and undoes what it did.

#[path = "scripts/fake_cluster.rs"]
mod fake_cluster;
#[path = "scripts/start.rs"]
mod start;
#[path = "scripts/validate.rs"]
mod validate;

use std::fs;
use std::net::TcpListener;

use fake_cluster::Fake;

/// What a person types.
const SCRIPTS: [&str; 12] = [
    "build-static",
    "close_cl",
    "go_pods",
    "go_statefulset",
    "kind-with-registry",
    "recompileClient",
    "recompileServer",
    "restart-pods",
    "start",
    "test",
    "test-containers",
    "validate",
];

#[test]
fn every_script_helps_and_refuses_what_it_does_not_know() {
    let fake = Fake::new();
    for script in SCRIPTS {
        let said = fake.run(script, &["--help"]);
        assert_eq!(said.code, Some(0), "{script}: {said:#?}");
        assert!(said.out.starts_with("usage: scripts/"), "{script}: {said:#?}");
        fake.run(script, &["--nonsense"]).fails(64, "usage: scripts/");
    }
    assert_eq!(fake.read("calls"), "", "help asks nobody");
}

#[test]
fn a_program_that_is_missing_is_named_with_the_way_to_it() {
    for (programs, script, missing) in [
        (&["docker", "kind"][..], "validate", "kubectl is missing: install it, see https://"),
        (&["kubectl", "kind"], "start", "docker is missing: install it, see https://"),
        (&["kubectl", "docker"], "start", "kind is missing: install it, see https://"),
        (&["kubectl"], "recompileServer", "docker is missing: install it, see https://"),
        (&["docker", "kubectl"], "close_cl", "kind is missing: install it, see https://"),
    ] {
        let fake = Fake::new();
        let path = fake.path_with(programs);
        fake.run_in(&path, script, &[], &[]).fails(1, missing);
    }
}

#[test]
fn an_engine_or_a_cluster_that_does_not_answer_is_one_message() {
    let fake = Fake::started();
    fake.write("faults", "no-engine\nno-api\n");
    let engine = "no container engine answers: Cannot connect to the Docker daemon";
    for script in ["start", "kind-with-registry", "recompileClient", "close_cl"] {
        fake.run(script, &[]).fails(1, engine);
    }
    for script in ["validate", "restart-pods"] {
        fake.run(script, &[]).fails(1, "does not answer: connection refused");
    }
    fake.run_with("validate", &[], &[("BALSA_CONTEXT", "elsewhere")])
        .fails(1, "kubectl knows no context elsewhere");
}

/// Left out is not passed: it is said in capitals, and is an error for whoever requires it.
#[test]
fn without_an_engine_the_test_with_containers_is_left_out_loudly() {
    let fake = Fake::new();
    fake.write("faults", "no-engine\n");
    let said = fake.run("test-containers", &[]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.err.contains("left out THE TEST WITH CONTAINERS"), "{said:#?}");
    let engine = "no container engine answers: Cannot connect to the Docker daemon";
    fake.run("test-containers", &["--require"]).fails(1, engine);
    let path = fake.path_with(&[]);
    fake.run_in(&path, "test-containers", &["--require"], &[]).fails(1, "docker is missing");
}

#[test]
fn executables_that_no_image_could_run_are_told_before_anything_is_made() {
    let fake = Fake::new();
    let directory = fake.path("bin");
    let directory = directory.to_str().expect("UTF-8");
    fake.run("test-containers", &["--executables", directory]).fails(1, "there is no directory");
    fake.write("bin/other", "");
    fake.run("test-containers", &["--executables", directory]).fails(1, "bin/srvraft is missing");
    for name in ["srvraft", "cltraft"] {
        fs::copy("/proc/self/exe", fake.path(&format!("bin/{name}"))).expect("a copy");
    }
    let dynamic = "srvraft asks for a dynamic loader; it is not static";
    fake.run("test-containers", &["--executables", directory]).fails(1, dynamic);
    assert!(!fake.called("docker build") && !fake.called("docker run"), "{}", fake.read("calls"));
}

#[test]
fn a_registry_port_in_use_is_one_message() {
    let fake = Fake::new();
    // If the port cannot be had, somebody else has it, which serves as well.
    let _held = TcpListener::bind("127.0.0.1:5001");
    fake.run("kind-with-registry", &[]).fails(1, "port 5001 is in use");
    assert!(!fake.called("docker run"), "{}", fake.read("calls"));
}

#[test]
fn what_somebody_else_made_is_left_alone() {
    let fake = Fake::started();
    fs::remove_file(fake.path("made")).expect("the mark");
    fake.write("running/balsa-registry", "somebody\n");

    fake.run("kind-with-registry", &[]).fails(1, "that these scripts did not make");
    let said = fake.run("close_cl", &[]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.err.contains("the kind cluster balsa was not made by these scripts"), "{said:#?}");
    assert!(said.err.contains("the container balsa-registry was not made"), "{said:#?}");
    assert!(!fake.called("kind delete") && !fake.called("docker rm"), "{}", fake.read("calls"));

    fake.write("statefulset", "example.org/other:1\n");
    fake.write("calls", "");
    let foreign = "runs example.org/other:1, which is not Balsa's srvraft";
    for script in ["validate", "restart-pods"] {
        fake.run(script, &[]).fails(1, foreign);
    }
    for script in ["start", "close_cl"] {
        fake.run_with(script, &[], &[("BALSA_CONTEXT", "kind-balsa")]).fails(1, foreign);
    }
    assert!(!fake.called("delete"), "{}", fake.read("calls"));
}

#[test]
fn what_was_made_here_is_removed_and_twice_is_no_error() {
    let fake = Fake::started();
    fake.write("running/balsa-registry", "scripts\n");
    for _ in 0..2 {
        let said = fake.run("close_cl", &[]);
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
    assert_eq!(fake.read("clusters"), "");
    assert!(!fake.path("running/balsa-registry").exists());
    assert!(fake.path("keys").exists(), "a directory that the person named is the person's");
}

#[test]
fn pods_are_restarted_one_at_a_time_and_the_leader_last() {
    let fake = Fake::started();
    let said = fake.run("restart-pods", &[]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let told: Vec<_> = said.err.lines().filter(|line| line.contains("raft-")).collect();
    let told: Vec<_> = told.iter().map(|line| line.trim_start_matches("ok ")).collect();
    let mut expected = Vec::new();
    for seat in ["raft-1", "raft-2", "raft-0"] {
        expected.push(format!("{seat} is deleted"));
        expected.push(format!("{seat} is ready and a voter"));
    }
    assert_eq!(told, expected, "{said:#?}");
}

#[test]
fn nothing_is_restarted_while_one_is_down() {
    let fake = Fake::started();
    let worker = fake.worker_of("raft-2");
    fake.write(&format!("workers/{worker}/ready"), "False\n");
    fake.run("restart-pods", &[]).fails(1, "so none is restarted");
    assert!(!fake.called("delete pod raft"), "{}", fake.read("calls"));
}
