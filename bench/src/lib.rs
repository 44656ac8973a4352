//! bowline bench
