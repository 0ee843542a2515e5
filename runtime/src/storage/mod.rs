//! What lies on disk: the log, checkpoints, the store directory.
