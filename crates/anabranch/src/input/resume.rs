//! How far an input has been written, kept in a file.
//!
//! Everything up to the line it names is durable. It belongs to one input: the same first bytes, and not
//! fewer of them than before. It is a convenience only: writing an input again from the start changes
//! nothing in the store.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that tell one input from another.
const HEAD_BYTES: u64 = 64 << 10;

/// Which input a checkpoint belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    file: String,
    namespace: String,
    size: u64,
    head_bytes: u64,
    head_hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(flatten)]
    identity: Identity,
    /// The last line up to which everything is durable.
    line: u64,
}

/// A checkpoint of one input.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    identity: Identity,
    stored: u64,
}

impl Checkpoint {
    /// Opens or prepares the checkpoint of an input.
    pub(crate) fn open(path: &Path, input: &Path, namespace: &str) -> Result<Self, String> {
        let shown = path.display();
        let mut identity = identify(input, namespace, HEAD_BYTES)
            .map_err(|error| format!("--checkpoint needs a file as input: {}: {error}", input.display()))?;
        let mut line = 0;
        match fs::read_to_string(path) {
            Ok(text) => {
                let stored: Stored =
                    serde_json::from_str(&text).map_err(|error| format!("--checkpoint {shown}: {error}"))?;
                // A short file may have grown: only the bytes of then can be compared.
                let then = identify(input, namespace, stored.identity.head_bytes)
                    .map_err(|error| format!("{}: {error}", input.display()))?;
                if stored.version != 1
                    || then.head_hash != stored.identity.head_hash
                    || then.size < stored.identity.size
                    || then.namespace != stored.identity.namespace
                {
                    return Err(format!(
                        "--checkpoint {shown} belongs to another input ({} into {}); name another file, or remove it to write from the start",
                        stored.identity.file, stored.identity.namespace
                    ));
                }
                line = stored.line;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("--checkpoint {shown}: {error}")),
        }
        identity.file = input.display().to_string();
        Ok(Self {
            path: path.to_owned(),
            identity,
            stored: line,
        })
    }

    /// Every line up to this one is durable.
    pub(crate) fn line(&self) -> u64 {
        self.stored
    }

    /// Keeps how far it is now.
    pub(crate) fn store(&mut self, line: u64) -> io::Result<()> {
        if line == self.stored {
            return Ok(());
        }
        let stored = Stored {
            version: 1,
            identity: self.identity.clone(),
            line,
        };
        // Replaced in one step: a stop in between leaves the old one.
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        let mut file = File::create(&new)?;
        serde_json::to_writer(&mut file, &stored)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.stored = line;
        Ok(())
    }
}

fn identify(input: &Path, namespace: &str, head_bytes: u64) -> io::Result<Identity> {
    let file = File::open(input)?;
    let size = file.metadata()?.len();
    let mut head = Vec::new();
    file.take(head_bytes).read_to_end(&mut head)?;
    Ok(Identity {
        file: input.display().to_string(),
        namespace: namespace.to_owned(),
        size,
        head_bytes: head.len() as u64,
        head_hash: format!("{:016x}", xxh3_64(&head)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_goes_on_and_belongs_to_one_input() {
        let folder = tempfile::tempdir().unwrap();
        let (input, path) = (folder.path().join("in"), folder.path().join("checkpoint"));
        fs::write(&input, "one\ntwo\n").unwrap();
        let mut checkpoint = Checkpoint::open(&path, &input, "demo").unwrap();
        assert_eq!(checkpoint.line(), 0);
        checkpoint.store(2).unwrap();
        assert_eq!(Checkpoint::open(&path, &input, "demo").unwrap().line(), 2);

        fs::write(&input, "one\ntwo\nthree\n").unwrap();
        assert_eq!(Checkpoint::open(&path, &input, "demo").unwrap().line(), 2);

        assert!(
            Checkpoint::open(&path, &input, "other")
                .unwrap_err()
                .contains("another input")
        );
        fs::write(&input, "two\none\nthree\n").unwrap();
        assert!(
            Checkpoint::open(&path, &input, "demo")
                .unwrap_err()
                .contains("another input")
        );
    }
}
