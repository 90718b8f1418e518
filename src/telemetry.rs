//! The log of a process: lines on standard error, for people or as JSON, and the hook that turns every
//! panic into the end of the process.

use std::fmt;
use std::io::IsTerminal;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::LogFormat;

/// UTC, RFC 3339, so that lines of several nodes can be sorted together.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let now = OffsetDateTime::now_utc();
        w.write_str(&now.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

/// Starts logging (`BALSA_LOG`, such as `debug` or `balsa::rpc=trace`, chooses what; `info` unless set)
/// and makes every panic end the process: an actor whose handler panicked would die alone and leave the
/// process alive without its core (correctness A3).
#[expect(clippy::disallowed_methods, reason = "the panic hook is where the process ends")]
pub fn init(format: LogFormat) {
    // Judged with the options; what could not be read then would not come this far.
    let chosen = std::env::var("BALSA_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::new(chosen.as_deref().unwrap_or("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Utc)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // A second call, as from several tests in one process, leaves the first one's choice.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("panic: {panic}; the process ends");
        eprintln!("{}", std::backtrace::Backtrace::capture());
        std::process::abort();
    }));
}
