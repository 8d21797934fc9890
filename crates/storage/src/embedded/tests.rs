use std::sync::Arc;

use super::*;
use crate::conformance;

fn open(folder: &Path) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(folder, EngineOptions::small(), &Metrics::default()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    conformance::run(|| async {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = open(&folder.path().join(n.to_string()));
        conformance::Subject {
            events: store.clone(),
            records: store,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_held_by_one_process_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("store");
    let first = open(&data_dir);
    let second = EmbeddedStore::open(&data_dir, EngineOptions::small(), &Metrics::default());
    let message = second.unwrap_err().to_string();
    assert!(message.contains("in use by another process"), "{message}");
    first.close().unwrap();
    first.close().unwrap();
    drop(first);
    drop(open(&data_dir));
}
