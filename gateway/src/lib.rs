//! bowline gateway
