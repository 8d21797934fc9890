//! How far an input has been written, kept in a file.
//!
//! Everything up to the line it names is durable. It belongs to one input, known by its first line, so that
//! a wrong line further on can be put right and the rest written. It is a convenience only: writing an
//! input again from the start changes nothing in the store.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The first line tells one input from another, as far as this many bytes of it.
const HEAD_BYTES: u64 = 64 << 10;

/// Which input a checkpoint belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    file: String,
    namespace: String,
    first_line_hash: String,
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
        let identity = identify(input, namespace)
            .map_err(|error| format!("--checkpoint needs a file as input: {}: {error}", input.display()))?;
        let mut line = 0;
        match fs::read_to_string(path) {
            Ok(text) => {
                let stored: Stored =
                    serde_json::from_str(&text).map_err(|error| format!("--checkpoint {shown}: {error}"))?;
                if stored.version != 1
                    || stored.identity.first_line_hash != identity.first_line_hash
                    || stored.identity.namespace != identity.namespace
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

fn identify(input: &Path, namespace: &str) -> io::Result<Identity> {
    let mut first_line = Vec::new();
    io::BufReader::new(File::open(input)?.take(HEAD_BYTES)).read_until(b'\n', &mut first_line)?;
    Ok(Identity {
        file: input.display().to_string(),
        namespace: namespace.to_owned(),
        first_line_hash: format!("{:016x}", xxh3_64(&first_line)),
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
