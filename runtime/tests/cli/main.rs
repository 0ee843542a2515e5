//! The `synod` command as its users meet it: real processes, real files, kill -9.
//!
//! Here: [`harness`] (processes ended by id, conditions that are waited for), [`loopback`] (their addresses), [`adders`] (commands that
//! go on meanwhile), what bad input gets ([`bad_input`], [`bad_asks`], [`overload`]), state that is larger than memory ([`large`]), failures under load ([`failover`],
//! [`standstill`]), nodes that leave for good ([`leaving`]) or are silent for too long ([`silence`]), what operators see and move
//! ([`placing`]), strangers at an open port ([`hostile`]), bad networks ([`weather`]), disks without room ([`room`]; both in a [`namespace`] of their own),
//! majorities that are gone for good ([`recovery`]), and founding by several seeds ([`seeds`]). Not here: nodes within one process (`cluster`), simulated faults (crate
//! `tests`).

mod adders;
mod bad_asks;
mod bad_input;
mod failover;
mod harness;
mod hostile;
#[path = "../../src/bin/synod/kv.rs"]
#[allow(
    dead_code,
    reason = "the binary's own kind, of which the tests use a part"
)]
mod kv;
mod large;
mod leaving;
#[path = "../loopback/mod.rs"]
mod loopback;
mod namespace;
mod overload;
mod placing;
mod recovery;
mod room;
mod seeds;
mod silence;
mod standstill;
mod weather;
