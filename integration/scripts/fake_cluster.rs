//! A cluster that is a directory, and the programs that show it (`scripts/fake/`).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A cluster of four workers in a directory, and the programs that show it.
pub(crate) struct Fake {
    directory: TempDir,
}

/// What a script did.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, with: &str) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let told = format!("{}{}", self.out, self.err);
        assert!(told.contains(with), "it does not say {with:?}: {self:#?}");
    }
}

impl Fake {
    /// The cluster, empty, of the name `balsa`, made by these scripts.
    pub(crate) fn new() -> Self {
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
    pub(crate) fn started() -> Self {
        let fake = Self::new();
        let said = fake.start();
        assert_eq!(said.code, Some(0), "{said:#?}");
        fake.write("calls", "");
        fake
    }

    /// `start.sh` on the cluster that is there.
    pub(crate) fn start(&self) -> Said {
        self.run_with("start", &[], &[("BALSA_CONTEXT", "kind-balsa")])
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn write(&self, file: &str, content: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("a file")
    }

    /// Whether any call of a program began with these words; `kubectl` and its settings are no words.
    pub(crate) fn called(&self, words: &str) -> bool {
        self.read("calls").lines().any(|line| {
            let how = "kubectl --context kind-balsa --namespace default --request-timeout=30s ";
            line.strip_prefix(how).unwrap_or(line).starts_with(words)
        })
    }

    pub(crate) fn worker_of(&self, pod: &str) -> String {
        self.read(&format!("pods/{pod}/worker")).trim().to_owned()
    }

    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> Said {
        self.run_with(script, arguments, &[])
    }

    pub(crate) fn run_with(
        &self,
        script: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> Said {
        let fakes = format!("{ROOT}/integration/scripts/fake");
        let path = format!("{fakes}:{}", std::env::var("PATH").expect("a PATH"));
        self.run_in(&path, script, arguments, settings)
    }

    pub(crate) fn run_in(
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
    pub(crate) fn path_with(&self, programs: &[&str]) -> String {
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
    pub(crate) fn is_as_before(&self) {
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

/// `cltraft certs init --k8s --out DIR …`, as far as `start.sh` looks at it: each file of a Secret holds
/// the certificate that the test has put into `ca.crt`.
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

/// A certificate whose time ends with this year.
pub(crate) fn certificate(last_year: i32) -> String {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.not_after = rcgen::date_time_ymd(last_year, 12, 31);
    let key = rcgen::KeyPair::generate().expect("a key");
    parameters.self_signed(&key).expect("a certificate").pem()
}
