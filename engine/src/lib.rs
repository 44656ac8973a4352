//! bowline engine
