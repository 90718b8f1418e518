//! Looking for other certificates: every [`LOOK`], the files' content is compared with what was loaded.
//!
//! A change counts only when two looks in a row saw the same: a set that is just being written, or a
//! symlink that is swapped while we read (Secret volumes do that), is different at the next look.
//! Reading a few kilobytes now and then needs no notices of the file system, which do not exist on
//! every volume. It has a thread of its own, since a volume may hang.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::age::Ageing;
use super::files::{RawFiles, moment};
use super::lists::Remark;
use super::{Replaced, Tls, unix_now};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// Looks at one directory.
pub(in crate::rpc) struct Watch {
    directory: PathBuf,
    seat: Option<String>,
    /// What the last look saw, or why it saw nothing.
    last: Option<Result<RawFiles, String>>,
    loaded: Option<RawFiles>,
    /// What is wrong with the files; it has been said.
    complaint: Option<String>,
}

/// What a look led to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::rpc) enum Look {
    /// Nothing new.
    Same,
    /// Other files are in use now.
    Loaded(Replaced),
    /// The files are bad, in this way; those of before stay in use. Said once for each way.
    Refused(String),
}

impl Watch {
    pub(in crate::rpc) fn new(directory: &Path, seat: Option<&str>) -> Watch {
        Watch {
            directory: directory.to_owned(),
            seat: seat.map(str::to_owned),
            last: None,
            loaded: None,
            complaint: None,
        }
    }

    /// Looks once; `now` in seconds since 1970.
    pub(in crate::rpc) fn look(&mut self, tls: &Tls, now: i64) -> Look {
        let seen = RawFiles::read(&self.directory, self.seat.as_deref());
        let seen = seen.map_err(|error| error.to_string());
        let settled = self.last.as_ref() == Some(&seen);
        let seen = self.last.insert(seen);
        if !settled {
            return Look::Same;
        }
        let loaded = match seen {
            Err(fault) => Err(fault.clone()),
            Ok(files) if self.loaded.as_ref() == Some(files) => {
                self.complaint = None;
                return Look::Same;
            }
            Ok(files) => load(files, self.seat.as_deref(), tls, now),
        };
        if loaded.is_ok() {
            self.loaded = seen.as_ref().ok().cloned();
        }
        let complaint = loaded.as_ref().err().cloned();
        let said = self.complaint == complaint;
        self.complaint = complaint;
        match loaded {
            Ok(replaced) if !replaced.anything() => Look::Same,
            Ok(replaced) => Look::Loaded(replaced),
            Err(_) if said => Look::Same,
            Err(fault) => Look::Refused(fault),
        }
    }
}

fn load(files: &RawFiles, seat: Option<&str>, tls: &Tls, now: i64) -> Result<Replaced, String> {
    let parsed = files.parse(seat).and_then(|parsed| parsed.check(now).map(|()| parsed));
    parsed.and_then(|parsed| tls.replace(parsed)).map_err(|error| error.to_string())
}

impl Tls {
    /// Reads the directory again whenever its files change, as long as this identity is used, and warns
    /// of certificates and revocation lists that are about to end. What is bad is said in the log once, and
    /// what was loaded last stays in use.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn watch(self: &Arc<Tls>, directory: &Path, seat: Option<&str>) -> io::Result<()> {
        let (tls, watch) = (Arc::downgrade(self), Watch::new(directory, seat));
        let thread = thread::Builder::new().name("certificates".to_owned());
        thread.spawn(move || keep_looking(&tls, watch)).map(drop)
    }
}

fn keep_looking(tls: &Weak<Tls>, mut watch: Watch) {
    let mut ageing = Ageing::default();
    let mut said: Vec<Remark> = Vec::new();
    while let Some(tls) = tls.upgrade() {
        let now = unix_now();
        match watch.look(&tls, now) {
            Look::Same => {}
            Look::Loaded(Replaced { own, trust, lists }) => tracing::info!(
                own,
                trust,
                lists,
                until = moment(tls.not_after()),
                "certificates loaded anew from {}",
                watch.directory.display()
            ),
            Look::Refused(fault) => {
                tls.refused.fetch_add(1, Ordering::Relaxed);
                tracing::error!("new certificates are not used, those of before are: {fault}");
            }
        }
        let snapshot = tls.current();
        let news = snapshot.remarks.iter().filter(|remark| !said.contains(remark)).cloned();
        let news = news.map(|Remark { grave, sentence }| (grave, sentence));
        let warnings = ageing.warnings(&snapshot.dated, now);
        for (grave, sentence) in news.chain(warnings) {
            if grave {
                tracing::error!("{sentence}");
            } else {
                tracing::warn!("{sentence}");
            }
        }
        said.clone_from(&snapshot.remarks);
        drop((snapshot, tls));
        thread::park_timeout(LOOK);
    }
}
