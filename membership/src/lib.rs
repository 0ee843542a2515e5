//! Who is alive, and the consistent-hash ring.
