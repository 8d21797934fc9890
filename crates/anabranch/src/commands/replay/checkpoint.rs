//! How far a replay is, kept in a file: a line for each step, each on disk before the next is begun.
//!
//! ```text
//! {"begun": {…}}         what is replayed; a file belongs to one replay
//! {"page": "TOKEN"}      what comes before this page, of the batch or of everything, is in the topic
//! {"batch": ["id", …]}   these ids are begun                        "done"  they are in the topic
//! {"scanned": "TOKEN"}   every id on pages of the scan before this one is in the topic
//! "finished"             everything is
//! ```
//!
//! A last line that was cut by a crash is dropped: what it said is done again.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::hash;

/// Version of the file.
const VERSION: u32 = 1;

/// What is replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) namespace: String,
    pub(super) query: Option<String>,
    /// As the command line has it.
    pub(super) start: String,
    pub(super) end: String,
    pub(super) topic: String,
    pub(super) one_per_id: bool,
    /// What `start` and `end` were when it began.
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun {
        version: u32,
        #[serde(flatten)]
        begun: Begun,
    },
    Page(String),
    Batch(Vec<String>),
    Done,
    Scanned(String),
    Finished,
}

/// What is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Ids that are done.
    pub(super) seen: HashSet<u128>,
    /// Ids under way, and the page to go on with.
    pub(super) batch: Option<(Vec<String>, String)>,
    /// Page of the scan to go on with.
    pub(super) scanned: Option<String>,
    /// Page to go on with where everything is one walk.
    pub(super) walk: Option<String>,
    /// Everything is done.
    pub(super) finished: bool,
}

impl Progress {
    /// Nothing is done yet.
    pub(super) fn is_new(&self) -> bool {
        *self == Self::default()
    }

    fn step(&mut self, line: Line) -> Result<(), String> {
        match (line, &mut self.batch) {
            (Line::Page(token), Some((_, at))) => *at = token,
            (Line::Page(token), None) => self.walk = Some(token),
            (Line::Batch(ids), batch @ None) => *batch = Some((ids, String::new())),
            (Line::Done, batch @ Some(_)) => {
                let ids = batch.take().into_iter().flat_map(|(ids, _)| ids);
                self.seen.extend(ids.map(|id| hash(&id)));
            }
            (Line::Scanned(token), None) => self.scanned = Some(token),
            (Line::Finished, None) => self.finished = true,
            (line, _) => return Err(format!("{line:?} is out of place")),
        }
        Ok(())
    }
}

/// A file that is kept, or none.
#[derive(Debug)]
pub(super) struct Checkpoint {
    begun: Begun,
    file: Option<File>,
}

impl Checkpoint {
    /// Opens or begins the file of a replay.
    pub(super) fn open(path: Option<&Path>, begun: Begun) -> Result<(Self, Progress), String> {
        let Some(path) = path else {
            return Ok((Self { begun, file: None }, Progress::default()));
        };
        let wrong = |problem: String| format!("--checkpoint {}: {problem}", path.display());
        let unusable = |error: io::Error| wrong(error.to_string());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unusable(error)),
        };
        // What has no end was cut by a crash.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let (begun, progress, is_begun) = read(whole, begun).map_err(wrong)?;
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(unusable)?;
        file.set_len(whole.len() as u64).map_err(unusable)?;
        file.seek(SeekFrom::End(0)).map_err(unusable)?;
        let mut checkpoint = Self {
            begun: begun.clone(),
            file: Some(file),
        };
        if !is_begun {
            let version = VERSION;
            checkpoint
                .add(&Line::Begun { version, begun })
                .map_err(unusable)?;
        }
        Ok((checkpoint, progress))
    }

    /// The first time of the replay.
    pub(super) fn from(&self) -> &str {
        &self.begun.from
    }

    /// The first time after it.
    pub(super) fn to(&self) -> &str {
        &self.begun.to
    }

    /// Everything before a page is in the topic.
    pub(super) fn page(&mut self, token: &str) -> io::Result<()> {
        self.add(&Line::Page(token.to_owned()))
    }

    /// Some ids are begun.
    pub(super) fn batch(&mut self, ids: &[String]) -> io::Result<()> {
        self.add(&Line::Batch(ids.to_vec()))
    }

    /// They are in the topic.
    pub(super) fn done(&mut self) -> io::Result<()> {
        self.add(&Line::Done)
    }

    /// All ids before a page of the scan are.
    pub(super) fn scanned(&mut self, token: &str) -> io::Result<()> {
        self.add(&Line::Scanned(token.to_owned()))
    }

    /// Everything is.
    pub(super) fn finished(&mut self) -> io::Result<()> {
        self.add(&Line::Finished)
    }

    fn add(&mut self, line: &Line) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_data()
    }
}

/// What lines say, and whether there are any.
fn read(text: &str, begun: Begun) -> Result<(Begun, Progress, bool), String> {
    let mut lines = text.lines().enumerate().map(|(number, line)| {
        serde_json::from_str::<Line>(line).map_err(|error| {
            format!(
                "line {} is not of a checkpoint ({error}); name another file",
                number + 1
            )
        })
    });
    let stored = match lines.next().transpose()? {
        None => return Ok((begun, Progress::default(), false)),
        Some(Line::Begun {
            version: VERSION,
            begun,
        }) => begun,
        Some(Line::Begun { version, .. }) => {
            return Err(format!(
                "is of version {version}, and this command knows {VERSION}; name another file"
            ));
        }
        Some(_) => return Err("does not say what it belongs to; name another file".to_owned()),
    };
    // Relative times are what they were.
    let same = Begun {
        from: stored.from.clone(),
        to: stored.to.clone(),
        ..begun
    };
    if let Some((what, was, is)) = stored.difference(&same) {
        return Err(format!(
            "belongs to a replay with another {what} (`{was}`, not `{is}`); name another file, or remove it to begin again"
        ));
    }
    let mut progress = Progress::default();
    for line in lines {
        progress.step(line?)?;
    }
    Ok((stored, progress, true))
}

impl Begun {
    fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let fields = |begun: &Self| {
            [
                ("NAMESPACE", begun.namespace.clone()),
                ("--query", begun.query.clone().unwrap_or_default()),
                ("--start", begun.start.clone()),
                ("--end", begun.end.clone()),
                ("--topic", begun.topic.clone()),
                ("--one-per-id", begun.one_per_id.to_string()),
            ]
        };
        fields(self)
            .into_iter()
            .zip(fields(other))
            .find(|(was, is)| was != is)
            .map(|((what, was), (_, is))| (what, was, is))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Begun {
        Begun {
            namespace: "ns".to_owned(),
            query: Some("a = b".to_owned()),
            start: "-7d".to_owned(),
            end: "now".to_owned(),
            topic: "t".to_owned(),
            one_per_id: false,
            from: "2026-03-01T00:00:00Z".to_owned(),
            to: "2026-03-08T00:00:00Z".to_owned(),
        }
    }

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn it_goes_on_where_it_was_and_with_the_times_that_it_began_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let (mut checkpoint, done) = Checkpoint::open(Some(&path), begun()).unwrap();
        assert!(done.is_new());
        checkpoint.batch(&ids(&["a", "b"])).unwrap();
        checkpoint.page("p").unwrap();
        checkpoint.done().unwrap();
        checkpoint.scanned("s").unwrap();
        checkpoint.batch(&ids(&["c"])).unwrap();
        checkpoint.page("q").unwrap();
        drop(checkpoint);
        let later = Begun {
            from: "2026-03-02T00:00:00Z".to_owned(),
            to: "2026-03-09T00:00:00Z".to_owned(),
            ..begun()
        };
        let (checkpoint, done) = Checkpoint::open(Some(&path), later).unwrap();
        assert_eq!(
            (checkpoint.from(), checkpoint.to()),
            (&*begun().from, &*begun().to)
        );
        assert_eq!(done.seen, [hash("a"), hash("b")].into());
        assert_eq!(done.batch, Some((ids(&["c"]), "q".to_owned())));
        assert_eq!((done.scanned.as_deref(), done.finished), (Some("s"), false));
    }

    #[test]
    fn a_line_that_a_crash_cut_is_dropped_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let (mut checkpoint, _) = Checkpoint::open(Some(&path), begun()).unwrap();
        checkpoint.page("p").unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        for cut in 1..12 {
            std::fs::write(&path, format!("{whole}{}", &"{\"page\":\"qqqqqqqqqq\"}"[..cut])).unwrap();
            let (mut checkpoint, done) = Checkpoint::open(Some(&path), begun()).unwrap();
            assert_eq!(done.walk.as_deref(), Some("p"));
            checkpoint.page("r").unwrap();
            let (_, done) = Checkpoint::open(Some(&path), begun()).unwrap();
            assert_eq!(done.walk.as_deref(), Some("r"));
        }
    }

    #[test]
    fn a_file_belongs_to_one_replay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        Checkpoint::open(Some(&path), begun()).unwrap();
        type Change = fn(&mut Begun);
        let others: [(Change, &str); 4] = [
            (
                |b| b.namespace = "other".to_owned(),
                "another NAMESPACE (`ns`, not `other`)",
            ),
            (|b| b.query = None, "another --query"),
            (|b| b.topic = "u".to_owned(), "another --topic"),
            (|b| b.one_per_id = true, "another --one-per-id"),
        ];
        for (change, says) in others {
            let mut other = begun();
            change(&mut other);
            let problem = Checkpoint::open(Some(&path), other).unwrap_err();
            assert!(problem.contains(says), "{problem}");
        }
        std::fs::write(&path, "something else\n").unwrap();
        let problem = Checkpoint::open(Some(&path), begun()).unwrap_err();
        assert!(problem.contains("line 1 is not of a checkpoint"), "{problem}");
    }
}
