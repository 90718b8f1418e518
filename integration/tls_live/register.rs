//! A CA's register of what it has revoked, kept by `openssl ca` alone, as operators keep one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// One CA's register.
pub(crate) struct Register {
    directory: TempDir,
    ca: PathBuf,
}

impl Register {
    /// Of the CA whose `ca.crt` and `ca.key` lie there. Its lists have no extensions, because nothing is
    /// configured that needs any.
    pub(crate) fn of(ca: &Path) -> Register {
        Register::with(ca, "")
    }

    /// The same with numbered lists.
    pub(crate) fn numbered(ca: &Path) -> Register {
        let register = Register::with(ca, "crlnumber = $dir/crlnumber");
        fs::write(register.directory.path().join("crlnumber"), "01\n").expect("written");
        register
    }

    fn with(ca: &Path, more: &str) -> Register {
        let directory = tempfile::tempdir().expect("a directory");
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\ndir = {}\ndatabase = $dir/index.txt\n\
             default_md = sha256\ndefault_crl_days = 30\n{more}\n",
            directory.path().display()
        );
        fs::write(directory.path().join("config"), config).expect("written");
        fs::write(directory.path().join("index.txt"), "").expect("written");
        Register { directory, ca: ca.to_owned() }
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.arg("ca").arg("-config").arg(self.directory.path().join("config"));
        command.arg("-cert").arg(self.ca.join("ca.crt"));
        command.arg("-keyfile").arg(self.ca.join("ca.key")).args(arguments);
        let said = command.output().expect("openssl must be installed");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// Enters a certificate in PEM.
    pub(crate) fn revoke(&mut self, certificate: &str) {
        let file = self.directory.path().join("certificate");
        fs::write(&file, certificate).expect("written");
        self.openssl(&["-revoke", file.to_str().expect("a plain path")]);
    }

    /// The list of now, in PEM.
    pub(crate) fn list(&self) -> String {
        let file = self.directory.path().join("list");
        self.openssl(&["-gencrl", "-out", file.to_str().expect("a plain path")]);
        fs::read_to_string(file).expect("the list")
    }
}
