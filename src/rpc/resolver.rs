//! Names become addresses: the system's resolver, asked anew for every connect (K1, K2).
//!
//! It blocks, cannot be interrupted, and may take half a minute over a name when DNS is away. So each
//! lookup has a thread of its own that nobody waits for at the end, and callers leave when their time is
//! over. Callers who want the same name while it is being looked up share that lookup.
//!
//! An answer that came when everybody had left is kept for [`KEPT`] and given to the next caller, once:
//! otherwise a resolver that always takes longer than a caller waits would never be of use.
//!
//! What when full? At most [`LOOKUPS_MAX`] lookups run at once; whoever wants another name waits, as long
//! as the caller's deadline lets it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Lookups that run at once, each with a thread: the seats of a cluster, and one for their service.
const LOOKUPS_MAX: usize = 16;

/// How long an answer that nobody waited for any more is kept for the next one who asks.
const KEPT: Duration = Duration::from_secs(2);

/// Looks up `HOST:PORT`; may block for as long as it likes.
pub type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What came of a lookup: at least one address, or why there is none.
type Answer = Result<Vec<SocketAddr>, String>;

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Resolver {
    lookup: Arc<Lookup>,
    names: Arc<Mutex<HashMap<String, Question>>>,
    threads: Arc<Semaphore>,
}

/// A name that is being looked up, or was when nobody waited any more.
struct Question {
    answer: watch::Receiver<Option<Answer>>,
    answered: Option<Instant>,
}

impl Default for Resolver {
    /// The system's resolver: `/etc/hosts`, `/etc/resolv.conf` and what else the system goes by.
    fn default() -> Resolver {
        Resolver::new(Arc::new(|address: &str| address.to_socket_addrs().map(Iterator::collect)))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that asks this function.
    #[must_use]
    pub fn new(lookup: Arc<Lookup>) -> Resolver {
        let threads = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Resolver { lookup, names: Arc::default(), threads }
    }

    /// The addresses of `HOST:PORT`, at least one, in the order in which they should be tried; or, for a
    /// person, why there is none. May be dropped at any time.
    ///
    /// # Errors
    /// What the system says.
    pub async fn resolve(&self, address: &str) -> Result<Vec<SocketAddr>, String> {
        if let Ok(socket) = address.parse() {
            return Ok(vec![socket]);
        }
        loop {
            if let Some(mut answer) = self.join(address) {
                return match answer.wait_for(Option::is_some).await {
                    Ok(answer) => answer.clone().unwrap_or_else(|| Err(broken_off())),
                    Err(_) => Err(broken_off()),
                };
            }
            let permit = Arc::clone(&self.threads).acquire_owned().await;
            let permit = permit.map_err(|_| broken_off())?;
            // Another caller may have begun it meanwhile.
            self.begin(address, permit)?;
        }
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Question>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer that is on its way, or was kept.
    fn join(&self, address: &str) -> Option<watch::Receiver<Option<Answer>>> {
        let mut names = self.names();
        names.retain(|_, question| question.is_good());
        let question = names.get(address)?;
        let answer = question.answer.clone();
        if question.answered.is_some() {
            names.remove(address);
        }
        Some(answer)
    }

    fn begin(&self, address: &str, permit: OwnedSemaphorePermit) -> Result<(), String> {
        let mut names = self.names();
        if names.get(address).is_some_and(Question::is_good) {
            return Ok(());
        }
        let (sender, answer) = watch::channel(None);
        let (own, name) = (self.clone(), address.to_owned());
        let thread = std::thread::Builder::new().name("resolver".to_owned());
        let started = thread.spawn(move || {
            let answer = match (own.lookup)(&name) {
                Ok(found) if found.is_empty() => Err("the name has no address".to_owned()),
                Ok(found) => Ok(found),
                Err(error) => Err(error.to_string()),
            };
            own.answered(&name, &sender, answer);
            drop(permit);
        });
        started.map_err(|error| format!("no thread can be started: {error}"))?;
        names.insert(address.to_owned(), Question { answer, answered: None });
        Ok(())
    }

    fn answered(&self, name: &str, sender: &watch::Sender<Option<Answer>>, answer: Answer) {
        let mut names = self.names();
        // One receiver is the question's own.
        if sender.receiver_count() > 1 || answer.is_err() {
            names.remove(name);
        } else if let Some(question) = names.get_mut(name) {
            question.answered = Some(Instant::now());
        }
        sender.send_replace(Some(answer));
    }
}

impl Question {
    /// Whether an answer is still to come from it, or is fresh.
    fn is_good(&self) -> bool {
        match self.answered {
            Some(at) => at.elapsed() < KEPT,
            // A lookup that panicked will never answer.
            None => self.answer.has_changed().is_ok(),
        }
    }
}

fn broken_off() -> String {
    "the lookup broke off".to_owned()
}
