//! What a user writes: entities, messages, handlers, contexts.
