//! What a node measures, from the hot path to the text that is scraped. Beside the layers: it knows
//! nothing of what is measured.
//!
//! * [`table`] every name there is, with its type, labels and meaning; `docs/metrics.md` repeats it;
//! * [`meter`] counters and histograms: atomics, no lock, no allocation, so that counting costs nothing
//!   that could be noticed;
//! * [`report`] one reading of all of them, and its text in the OpenMetrics format;
//! * [`process`] what the operating system says of this process.
//!
//! Labels have few values, known in advance or bounded by the members: never a key, never an address.

pub mod meter;
pub mod process;
pub mod report;
pub mod table;

pub use meter::{Counter, Distribution, Gauge, Histogram};
pub use report::{Report, Value};
pub use table::{Kind, Metric};
