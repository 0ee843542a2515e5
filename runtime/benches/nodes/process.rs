//! Processor time of a process, from proc(5); its memory is the harness's.

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
