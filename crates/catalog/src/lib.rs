//! What namespaces and their slices are stored as, and how a whole namespace is read.
//!
//! ```text
//! records ─▶ load ─▶ LoadedNamespace ─▶ NamespaceView
//!            as they stood, with the     as one request sees it
//!            versions to change them by
//! ```
//!
//! Whoever decides anything on a namespace reads it through here, so that all decide on the same thing:
//! the server that writes into it, and the workers that split what it wrote.
//!
//! - W2: what a slice is divided by is stored once and never changed ([`stored`]).
//! - W3: a reader that sees a setting sees the slices' epochs that were stored before it ([`mod@load`]).
//!
//! - W3, S4: what is frozen of a slice takes no more writes, on any server ([`mod@freeze`]); what is made of it is
//!   worth something as long as the slice is the same ([`mod@ground`]).
//!
//! Caches, and who may change what, are the server's.

pub mod change;
pub mod freeze;
pub mod ground;
pub mod load;
pub mod stored;
pub mod view;
pub mod watch;

pub use change::{change_slice, read_namespace, read_slice, store_slice};
pub use freeze::{FreezeOutcome, Frozen, freeze, justified};
pub use ground::{Ground, broken, ground};
pub use load::{LoadedNamespace, LoadedSlice, list, load, load_settled, names};
pub use stored::{BlockRecord, Creation, Maker, NamespaceRecord, SliceRecord, Stored};
pub use view::{Block, NamespaceView};
pub use watch::{Look, SplitWatch, Wake};
