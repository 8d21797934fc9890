//! The whole pipeline over the memory store: detections in, proved targets out, whatever happens in between.

mod epochs;
mod killed;
mod races;
mod runs;
mod splits;
mod store;
mod tampered;
mod versions;
mod world;
