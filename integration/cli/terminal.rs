//! The shell on a terminal (mission S4): a prompt, editing, history, completion, and lines that were
//! typed ahead.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex};

use nix::pty::{Winsize, openpty};

use crate::harness::{PATIENCE, until};
use crate::tools::Cluster;

const UP: &str = "\x1b[A";
const TAB: &str = "\t";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

/// What the shell has drawn so far.
type Screen = Arc<(Mutex<Vec<u8>>, Condvar)>;

/// A shell at our end of a terminal.
struct Terminal {
    child: Child,
    keys: File,
    screen: Screen,
    /// How much of the screen was looked at.
    seen: usize,
}

impl Terminal {
    fn open(cluster: &Cluster, home: &Path, options: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a terminal");
        let end = || pair.slave.try_clone().expect("another handle");
        // No command: on a terminal the shell opens by itself.
        let mut command = cluster.command(options);
        command.env("HOME", home).env("TERM", "xterm").env_remove("NO_COLOR");
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("cltraft starts");
        drop(command);
        drop(pair.slave);
        let keys = File::from(pair.master);
        let screen = Screen::default();
        let mut drawn = keys.try_clone().expect("another handle");
        let shared = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            loop {
                // EIO: the other end is closed.
                let count = match drawn.read(&mut bytes) {
                    Ok(0) => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => break,
                    Ok(count) => count,
                };
                shared.0.lock().expect("nobody panics with it").extend(&bytes[..count]);
                shared.1.notify_all();
            }
        });
        Terminal { child, keys, screen, seen: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal is open");
    }

    /// Waits until something new with this text was drawn.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let mut drawn = self.screen.0.lock().expect("nobody panics with it");
        loop {
            let mut windows = drawn[self.seen..].windows(text.len());
            if let Some(at) = windows.position(|window| window == text.as_bytes()) {
                self.seen += at + text.len();
                return;
            }
            let (more, waited) =
                self.screen.1.wait_timeout(drawn, PATIENCE).expect("nobody panics with it");
            let new = String::from_utf8_lossy(&more[self.seen..]);
            assert!(!waited.timed_out(), "{text:?} was not drawn:\n{new:?}");
            drawn = more;
        }
    }

    /// Waits for the end; the status.
    fn ended(&mut self) -> i32 {
        let status = until("the shell ends", PATIENCE, || self.child.try_wait().ok()?);
        status.code().expect("it ended by itself")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing to do if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_person_at_a_terminal() {
    let cluster = Cluster::start();
    let home = cluster.path().join("home");
    fs::create_dir(&home).expect("a directory");
    // A follower may show what is written a heartbeat later.
    let (leader, _) = cluster.leader_and_follower();
    let mut shell = Terminal::open(&cluster, &home, &[]);
    shell.expect("`help` shows the commands, `exit` leaves.");
    shell.expect("balsa> ");
    shell.press("put k chocolate\r");
    shell.expect("- Value: chocolate");
    shell.expect("balsa> ");
    // History: the line comes back, and is edited.
    shell.press(&format!("{UP} con leche\r"));
    shell.expect("'con' is one word too many");
    shell.expect("balsa> ");
    shell.press(&format!("{UP}{UP}s\r"));
    shell.expect("- Value: chocolates");
    shell.expect("balsa> ");
    // Completion: one name is completed, several are shown.
    shell.press(&format!("rep{TAB}{leader}\r"));
    shell.expect("balsa> replication ");
    shell.expect("Log (len=");
    shell.expect("{put k chocolates}");
    shell.expect("balsa> ");
    shell.press(&format!("st{TAB}{TAB}"));
    shell.expect("status");
    shell.expect("stop");
    shell.expect("balsa> st");
    // Ctrl-C clears the line and leaves the shell open.
    shell.press(CTRL_C);
    shell.expect("balsa> ");
    shell.press("help\r");
    shell.expect("put KEY VALUE");
    shell.expect("balsa> ");
    shell.press("exit\r");
    assert_eq!(shell.ended(), 0);
    let kept = fs::read_to_string(home.join(".cltraft_history")).expect("a history");
    assert!(kept.contains("put k chocolates\n"), "{kept}");
    // The next shell remembers; Ctrl-D leaves.
    let mut shell = Terminal::open(&cluster, &home, &["--lang", "es"]);
    shell.expect("`ayuda` muestra las órdenes, `exit` sale.");
    shell.expect("balsa> ");
    shell.press(&format!("{UP}{UP}"));
    shell.expect("balsa> help");
    shell.press(CTRL_C);
    shell.expect("balsa> ");
    shell.press(&format!("estadoR{TAB}{leader}\r"));
    shell.expect("----- Almacén (claves limitadas) -----");
    shell.expect("k: chocolates");
    shell.expect("balsa> ");
    shell.press(CTRL_D);
    assert_eq!(shell.ended(), 0);
}

#[test]
fn lines_typed_ahead_are_not_lost() {
    let cluster = Cluster::start();
    let home = cluster.path().join("home");
    fs::create_dir(&home).expect("a directory");
    let mut shell = Terminal::open(&cluster, &home, &[]);
    shell.expect("balsa> ");
    // All at once, as a paste: they come while the first is still being answered.
    let lines: String = (0..100).map(|n| format!("put key-{n} value-{n}\r")).collect();
    shell.press(&lines);
    shell.press("exit\r");
    for n in 0..100 {
        shell.expect(&format!("- Value: value-{n}"));
    }
    assert_eq!(shell.ended(), 0);
}
