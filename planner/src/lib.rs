//! A detection becomes a stored plan.
