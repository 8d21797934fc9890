//! Namespaces: their settings, slices and blocked ids, as every request sees them.

pub mod view;

pub use view::NamespaceView;
