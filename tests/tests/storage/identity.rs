//! Who a store is survives every crash, and its start count never goes back.

use synod::storage::Identity;
use tests::disk::VirtualDisk;

// DESIGN 10: generation = the store's persisted start count; a peer that has seen a higher one refuses a lower one.
#[test]
fn start_count_that_was_heard_is_never_given_again() {
    for seed in 0..200 {
        let disk = VirtualDisk::new(seed);
        let mut heard = 0;
        for start in 0..10 {
            if start > 0 {
                disk.lose_power_in(1 + (seed + start) % 6);
            }
            match Identity::start(&*disk.folder("store"), Some("n1")) {
                Ok(identity) => {
                    assert!(
                        identity.starts > heard,
                        "seed {seed}: start {} was heard before",
                        identity.starts
                    );
                    heard = identity.starts;
                }
                Err(error) => assert!(disk.power_is_off(), "seed {seed}: {error}"),
            }
            disk.crash();
        }
    }
}
