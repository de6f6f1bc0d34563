//! Simulated courses, from what is observed to what is said about it.
