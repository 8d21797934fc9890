//! A plan is carried out, and the copy proved.
