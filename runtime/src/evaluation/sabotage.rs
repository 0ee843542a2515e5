//! Deliberate faults: each removes one rule, so that a simulator can prove that it would notice.

/// Which rules are broken. All `false` outside of negative controls.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sabotage {
    /// Every command is evaluated as if its session had never seen it.
    pub sessions_off: bool,
    /// A failed command returns its entity to the applied image, although effects of it are in flight (E2).
    pub rollback_to_applied: bool,
    /// Replies without an entry of their own leave at once (E6, E7).
    pub ungated: bool,
    /// A retried command that changed nothing writes no entry, although an older copy may still be on its way (E31).
    pub unrecorded_retries: bool,
}
