//! The scripts for Kubernetes, against a cluster that is a directory (`scripts/fake/`): what they say to bad input, what they
//! leave alone, and that the validation fails when something is wrong, and undoes what it did.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

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

/// A cluster of four workers in a directory, and the programs that show it.
struct Fake {
    directory: TempDir,
}

/// What a script did.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn fails(&self, code: i32, with: &str) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let told = format!("{}{}", self.out, self.err);
        assert!(told.contains(with), "it does not say {with:?}: {self:#?}");
    }
}

impl Fake {
    /// The cluster, empty, of the name `balsa`, made by these scripts.
    fn new() -> Self {
        let fake = Self { directory: tempfile::tempdir().expect("a temporary directory") };
        for worker in ["control", "w1", "w2", "w3", "w4"] {
            fake.write(&format!("workers/{worker}/ready"), "True\n");
        }
        for directory in ["pods", "secrets", "secret-data", "running"] {
            fs::create_dir(fake.path(directory)).expect("a directory");
        }
        for (file, content) in [
            ("contexts", "kind-balsa\n"),
            ("clusters", "balsa\n"),
            ("made", ""),
            ("faults", ""),
            ("calls", ""),
            ("client.yaml", ""),
            ("servers.yaml", ""),
        ] {
            fake.write(file, content);
        }
        fake.write("ca.crt", &certificate(2999));
        // What makes certificates is not what is tested here.
        fake.write("cltraft", CERTIFICATE_MAKER);
        fs::set_permissions(fake.path("cltraft"), fs::Permissions::from_mode(0o755))
            .expect("a mode");
        fake
    }

    /// With three replicas and the client pods, as `start.sh` leaves it.
    fn started() -> Self {
        let fake = Self::new();
        let said = fake.start();
        assert_eq!(said.code, Some(0), "{said:#?}");
        fake.write("calls", "");
        fake
    }

    /// `start.sh` on the cluster that is there.
    fn start(&self) -> Said {
        self.run_with("start", &[], &[("BALSA_CONTEXT", "kind-balsa")])
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn write(&self, file: &str, content: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("a file")
    }

    /// Whether any call of a program began with these words; `kubectl` and its settings are no words.
    fn called(&self, words: &str) -> bool {
        self.read("calls").lines().any(|line| {
            let how = "kubectl --context kind-balsa --namespace default --request-timeout=30s ";
            line.strip_prefix(how).unwrap_or(line).starts_with(words)
        })
    }

    fn worker_of(&self, pod: &str) -> String {
        self.read(&format!("pods/{pod}/worker")).trim().to_owned()
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Said {
        self.run_with(script, arguments, &[])
    }

    fn run_with(&self, script: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Said {
        let fakes = format!("{ROOT}/integration/scripts/fake");
        let path = format!("{fakes}:{}", std::env::var("PATH").expect("a PATH"));
        self.run_in(&path, script, arguments, settings)
    }

    fn run_in(
        &self,
        path: &str,
        script: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Said {
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BALSA_") {
                command.env_remove(name);
            }
        }
        command
            .arg(format!("{ROOT}/scripts/{script}.sh"))
            .args(arguments)
            .env("PATH", path)
            .env("FAKE", self.directory.path())
            .env("CLTRAFT", self.path("cltraft"))
            .env("BALSA_CLIENT", self.path("client.yaml"))
            .env("BALSA_SERVERS", self.path("servers.yaml"))
            .env("BALSA_KEYS", self.path("keys"))
            .env("BALSA_POD_READY", "5")
            .env("BALSA_WORKER_LOST", "5")
            .env("BALSA_WORKER_BACK", "5")
            .env("BALSA_SETTLE", "2")
            .stdin(Stdio::null());
        for (name, value) in settings {
            command.env(name, value);
        }
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// A PATH with what every system has, and these programs of the cluster.
    fn path_with(&self, programs: &[&str]) -> String {
        let bare = self.path("bare");
        fs::create_dir(&bare).expect("a directory");
        let everywhere = std::env::var("PATH").expect("a PATH");
        for tool in TOOLS {
            let found = everywhere.split(':').map(|place| Path::new(place).join(tool));
            let found = found.into_iter().find(|path| path.exists());
            symlink(found.unwrap_or_else(|| panic!("{tool} is missing")), bare.join(tool))
                .expect("a link");
        }
        for program in programs {
            let real = format!("{ROOT}/integration/scripts/fake/{program}");
            symlink(real, bare.join(program)).expect("a link");
        }
        bare.to_str().expect("UTF-8").to_owned()
    }

    /// Nothing is left cordoned or stopped.
    #[track_caller]
    fn is_as_before(&self) {
        for worker in ["w1", "w2", "w3", "w4"] {
            assert!(!self.path(&format!("workers/{worker}/cordoned")).exists(), "{worker}");
            assert_eq!(self.read(&format!("workers/{worker}/ready")), "True\n", "{worker}");
        }
    }
}

const TOOLS: [&str; 16] = [
    "bash", "env", "mktemp", "grep", "sed", "awk", "dirname", "basename", "head", "tail",
    "timeout", "cat", "rm", "uname", "ls", "tr",
];

/// `cltraft certs init --k8s --out DIR …`, as far as `start.sh` looks at it: each file of a Secret holds the
/// certificate that the test has put into `ca.crt`.
const CERTIFICATE_MAKER: &str = r#"#!/usr/bin/env bash
set -euo pipefail
while [[ $1 != --out ]]; do shift; done
mkdir -p "$2/ca" "$2/k8s"
cp "$FAKE/ca.crt" "$2/ca/"
secret() {
    local name=$1 file
    shift
    printf 'kind: Secret\nmetadata:\n  name: "%s"\ndata:\n' "$name"
    for file in "$@"; do printf '  "%s": %s\n' "$file" "$(base64 <"$FAKE/ca.crt" | tr -d '\n')"; done
}
secret raft-certs ca.crt raft-{0..6}.{crt,key} >"$2/k8s/raft-certs.yaml"
for name in client admin; do
    secret "$name-certs" ca.crt tls.crt tls.key >"$2/k8s/$name-certs.yaml"
done
"#;

fn base64_of(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A certificate whose time ends with this year.
fn certificate(last_year: i32) -> String {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.not_after = rcgen::date_time_ymd(last_year, 12, 31);
    let key = rcgen::KeyPair::generate().expect("a key");
    parameters.self_signed(&key).expect("a certificate").pem()
}

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
fn started_again_it_begins_anew_and_replaces_no_secret() {
    let fake = Fake::started();
    let former = fake.read("pods/raft-0/uid");
    let secret = fake.read("secret-data/raft-certs");
    fake.write("secrets/admin-certs", "somebody\n");
    fs::remove_file(fake.path("secrets/client-certs")).expect("the Secret");
    let said = fake.start();
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.err.contains("it is deleted, and begun anew"), "{said:#?}");
    for name in ["raft-certs", "admin-certs"] {
        let kept = format!("Secret {name} is there already; it is used as it is");
        assert!(said.err.contains(&kept), "{said:#?}");
    }
    assert!(said.err.contains("ok Secret client-certs"), "{said:#?}");
    assert_ne!(fake.read("pods/raft-0/uid"), former);
    assert_eq!(fake.read("secrets/admin-certs"), "somebody\n");
    assert_eq!(fake.read("secrets/client-certs"), "scripts\n");
    assert_eq!(fake.read("secret-data/raft-certs"), secret);
}

#[test]
fn a_secret_with_which_nothing_could_start_is_told_before_anything_is_touched() {
    let expired = base64_of(&certificate(2001));
    for (name, file, with) in [
        ("raft-certs", "raft-1.crt", Some(expired.as_str())),
        ("client-certs", "tls.crt", Some(&expired)),
        ("admin-certs", "tls.crt", Some("bm8gY2VydGlmaWNhdGUK")),
        ("raft-certs", "raft-2.key", None),
        ("client-certs", "ca.crt", None),
    ] {
        let fake = Fake::started();
        let data = fake.read(&format!("secret-data/{name}"));
        let lines = data.lines().filter_map(|line| {
            let (what, _) = line.split_once(' ').expect("a file and its content");
            if what != file { Some(line.to_owned()) } else { with.map(|it| format!("{file} {it}")) }
        });
        let changed: Vec<_> = lines.collect();
        fake.write(&format!("secret-data/{name}"), &format!("{}\n", changed.join("\n")));
        let said = fake.start();
        let why = if with.is_some() {
            format!("and {file} in it has expired")
        } else {
            format!("lacks {file};")
        };
        said.fails(1, &why);
        assert!(
            said.err.contains(&format!("error: Secret {name} in namespace default")),
            "{said:#?}"
        );
        assert!(!fake.called("delete") && !fake.called("apply"), "{}", fake.read("calls"));
    }
}

#[test]
fn secrets_of_another_ca_are_not_mixed_with_ours() {
    let fake = Fake::started();
    fs::remove_file(fake.path("secrets/client-certs")).expect("the Secret");
    fs::remove_dir_all(fake.path("keys")).expect("the certificates");
    fake.write("ca.crt", &certificate(2998));
    fake.start().fails(1, "is of another CA than that in");
    assert!(!fake.called("delete") && !fake.called("create"), "{}", fake.read("calls"));
}

#[test]
fn replicas_that_do_not_become_ready_are_heard() {
    let fake = Fake::new();
    fake.write("faults", "never-ready\n");
    let said = fake.start();
    said.fails(1, "the replicas are not ready");
    assert!(said.err.contains("the last words of raft-1"), "{said:#?}");
    assert!(said.err.contains("an event of raft-1"), "{said:#?}");
    assert!(!said.err.contains("the last words of raft-0"), "{said:#?}");
    fake.run("validate", &[]).fails(1, "the last words of raft-1");
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

#[test]
fn the_validation_passes_where_all_is_well() {
    for arguments in [&[][..], &["--force"]] {
        let fake = Fake::started();
        let said = fake.run("validate", arguments);
        assert_eq!(said.code, Some(0), "{said:#?}");
        for stage in 1..=5 {
            assert!(said.out.contains(&format!("stage {stage}: OK")), "{said:#?}");
        }
        let last = said.out.lines().last().unwrap_or_default();
        assert!(last.starts_with("SUCCESS"), "{said:#?}");
        assert_eq!(
            fake.called("delete pod raft-0 --wait=false --grace-period=0"),
            !arguments.is_empty()
        );
        assert!(fake.called("cordon w") && fake.called("docker stop w"), "{}", fake.read("calls"));
        fake.is_as_before();
    }
}

/// The stage fails, nothing after it runs, and what was cordoned or stopped is as before.
#[track_caller]
fn fails_in(stage: usize, fault: &str, with: &str) {
    let fake = Fake::started();
    fake.write("faults", &format!("{fault}\n"));
    let said = fake.run("validate", &[]);
    said.fails(1, with);
    assert!(said.out.contains(&format!("stage {stage}: FAILED")), "{said:#?}");
    assert_eq!(said.out.lines().last(), Some("NOT VALIDATED"), "{said:#?}");
    for later in stage + 1..=5 {
        assert!(said.out.contains(&format!("stage {later}: not run")), "{said:#?}");
    }
    fake.is_as_before();
}

#[test]
fn a_forged_entry_fails_the_validation() {
    fails_in(3, "forged-entry", "the replicas do not hold the same");
}

#[test]
fn a_lost_key_fails_the_validation() {
    fails_in(3, "lost-key", "the replicas do not hold the same");
}

#[test]
fn a_lost_or_forged_write_fails_the_validation() {
    fails_in(3, "lost-write", "an acknowledged write is not there");
    fails_in(3, "forged-write", "and is read as");
}

#[test]
fn a_pod_that_does_not_move_fails_the_validation() {
    fails_in(3, "ignores-cordon", "is on w1 again");
}

#[test]
fn a_client_that_fails_without_a_worker_fails_the_validation() {
    fails_in(4, "mute-when-down", "the client's test with those that remain");
}

#[test]
fn a_worker_that_cannot_be_stopped_is_told_before_anything_is_touched() {
    let fake = Fake::started();
    let path = fake.path_with(&["kubectl"]);
    fake.run_in(&path, "validate", &[], &[]).fails(1, "BALSA_STOP_WORKER and BALSA_START_WORKER");
    fake.run_with("validate", &[], &[("BALSA_STOP_WORKER", "true")]).fails(1, "belong together");
    assert!(!fake.called("delete"), "{}", fake.read("calls"));
}

#[test]
fn a_missing_secret_is_named() {
    let fake = Fake::started();
    fs::remove_file(fake.path("secrets/client-certs")).expect("the Secret");
    fake.run("validate", &[]).fails(1, "the Secret client-certs is missing");
}
