//! What proc(5) tells of a process.

use std::fs;
use std::time::Duration;

/// User and system time since the process began.
pub(crate) fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The name in brackets may hold anything; what follows is plain, and begins with the third field.
    let (_, plain) = stat.rsplit_once(')').expect("a name in brackets");
    let mut fields = plain.split_whitespace().skip(11);
    let mut ticks = || -> u64 { fields.next().expect("a field").parse().expect("a number") };
    let used = ticks() + ticks();
    Duration::from_millis(used * 1_000 / rustix::param::clock_ticks_per_second())
}

/// A number of KiB out of a process's `status`, in bytes.
pub(crate) fn bytes(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.trim_start_matches(':').trim().strip_suffix(" kB"));
    number.expect("it is told").parse::<u64>().expect("KiB") << 10
}
