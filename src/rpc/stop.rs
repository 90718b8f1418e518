//! A request to stop that many tasks can wait for.

use tokio::sync::watch;

/// Asks every [`Stop`] made with it to stop; dropping it asks as well.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Says when to stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// A pair of the two.
#[must_use]
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits until asked to stop.
    pub async fn requested(&self) {
        // An error says that the stopper was dropped, which asks as well.
        let _ = self.0.clone().wait_for(|asked| *asked).await;
    }
}
