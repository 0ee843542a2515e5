//! What a group takes from the allocator: blocks per commit and per message, bytes at rest.
//!
//! Run by `cargo bench -p synod-consensus`. Apart from the benchmark `core`, because counting costs time. Bounds: test `costs`.

mod costs;

use costs::Meter;

fn main() {
    println!("blocks allocated per commit    leader   follower");
    for batch in [1, 64, 1_024] {
        let (leader, follower) = Meter::per_commit(batch, 2_048 / batch.min(128));
        println!(
            "{:>22} {batch:>5} {leader:>9.3} {follower:>10.3}",
            "batches of"
        );
    }
    println!(
        "\nblocks allocated per message and all that follows from it at its receiver, at most"
    );
    for (name, most) in Meter::new().per_message() {
        println!("{name:>22} {most:>5}");
    }
    println!("\nbytes of an idle group of three voters: its log compacted, heartbeats exchanged");
    let mut meter = Meter::at_rest();
    let rest = meter.rest();
    for (place, footprint) in meter.footprints().into_iter().enumerate() {
        let role = if place == 0 { "leader" } else { "follower" };
        println!("{role:>22}: {footprint}");
    }
    let blocks: u64 = rest.iter().map(|(blocks, ..)| blocks).sum();
    let outputs: usize = rest.iter().map(|(_, outputs, _)| outputs).sum();
    println!(
        "{:>22}: {blocks} blocks, {outputs} outputs",
        "300 early ticks"
    );
}
