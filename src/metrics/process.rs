//! What the operating system says of this process. None of it waits for a disk.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

/// One look at the process; what the system does not tell is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Memory in RAM, bytes.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// The limit on them.
    pub max_fds: Option<u64>,
    /// Processor time used, in user and system mode, seconds.
    pub cpu_seconds: Option<f64>,
}

impl Process {
    /// Looks.
    #[must_use]
    pub fn read() -> Process {
        let status = fs::read_to_string("/proc/self/status").ok();
        // Of these one is the directory being read.
        let descriptors = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
        let used = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
            let microseconds =
                usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            Duration::from_micros(u64::try_from(microseconds).unwrap_or(0)).as_secs_f64()
        });
        Process {
            resident_bytes: status.as_deref().and_then(resident),
            open_fds: descriptors.map(|count| count.saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            cpu_seconds: used,
        }
    }
}

/// `VmRSS` of `/proc/self/status` (proc(5)), which is in KiB.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// For how long one thread has been running, and waited for a processor while it could have run, since it
/// began: `schedstat` of proc(5). None where the kernel does not count.
#[must_use]
pub fn wanted(thread: u64) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Duration::from_nanos(ran.saturating_add(waited)))
}

/// The number by which the system knows the calling thread.
#[must_use]
pub fn own_thread() -> u64 {
    u64::try_from(nix::unistd::gettid().as_raw()).unwrap_or(0)
}

/// Seconds since 1970, for the moment at which the process began.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a start time is a date, nothing is decided by it")]
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_all_of_it() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.open_fds.unwrap() >= 3 || process.open_fds.unwrap() > 0);
        assert!(process.max_fds.unwrap() >= process.open_fds.unwrap());
        assert!(process.cpu_seconds.unwrap() >= 0.0);
        assert!(unix_now() > 1.7e9);
    }

    #[test]
    fn resident_memory_is_in_kibibytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    1234 kB\nThreads: 2\n"), Some(1234 << 10));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn a_thread_that_works_is_seen_to() {
        let thread = own_thread();
        let Some(before) = wanted(thread) else { return };
        let mut waste = 0u64;
        while wanted(thread) == Some(before) {
            waste = waste.wrapping_mul(31).wrapping_add(1);
        }
        assert!(wanted(thread).unwrap() > before, "{waste}");
        assert_eq!(wanted(u64::from(u32::MAX)), None, "no such thread");
    }
}
