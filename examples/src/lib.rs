//! One runnable program per thing a user wants to see.
//!
//! `counter` is the smallest useful program; `bank` kills nodes under load and checks that nothing is lost or done twice.
//! Run them with `cargo run --release --example NAME`. Here is only this page: the programs share no code.
