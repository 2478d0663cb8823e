//! (growing)
