//! bowline protocols
