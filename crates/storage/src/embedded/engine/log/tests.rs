//! The log alone: what was synced comes back, what was torn is cut, what was damaged is refused.

use std::fs;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;

const STORE: u64 = 0x5EED;

/// Frames as they were appended: commit, sequence number, payload.
type Frames = Vec<(u64, u64, Vec<u8>)>;

fn read_all(folder: &Path) -> Result<(Frames, Recovered, Low), EngineError> {
    let mut frames = Frames::new();
    let (recovered, low) = read(folder, STORE, &mut |_, head, payload| {
        frames.push((head.commit, head.seqno, payload.to_vec()));
        Ok(())
    })?;
    Ok((frames, recovered, low))
}

struct Home {
    _home: tempfile::TempDir,
    folder: PathBuf,
    segment_bytes: u64,
}

impl Home {
    fn new(segment_bytes: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("log");
        create(&folder, STORE, segment_bytes).unwrap();
        Self {
            _home: home,
            folder,
            segment_bytes,
        }
    }

    fn resume(&self) -> (Frames, Log, Arc<Segments>, Option<u64>) {
        let (frames, recovered, low) = read_all(&self.folder).unwrap();
        let torn = recovered.torn.as_ref().map(|t| t.0);
        let (log, segments) =
            Log::resume(&self.folder, STORE, self.segment_bytes, (recovered, low), None).unwrap();
        (frames, log, segments, torn)
    }
}

fn append(log: &mut Log, frames: &mut Frames, payload: Vec<u8>) {
    let seqno = 1_000 + frames.len() as u64;
    let appended = log.append(seqno, 1, &[&payload]).unwrap();
    frames.push((appended.commit, seqno, payload));
}

#[test]
fn a_new_log_is_empty_and_stays_so_when_it_is_opened_again() {
    let home = Home::new(64 << 10);
    for _ in 0..5 {
        let (frames, log, _, torn) = home.resume();
        assert_eq!((frames.len(), torn, log.commit), (0, None, 0));
    }
    assert!(
        fs::read_dir(&home.folder).unwrap().count() <= 3,
        "empty segments are used again"
    );
}

#[test]
fn released_segments_are_used_again_and_missing_ones_are_missed() {
    let home = Home::new(16 << 10);
    let (mut frames, mut log, segments, _) = home.resume();
    for n in 0..40u8 {
        append(&mut log, &mut frames, vec![n; 3_000]);
        if n % 10 == 9 {
            segments.release(u64::from(n) - 3).unwrap();
        }
    }
    let files = segments.lists().files;
    assert!(files < 10, "{files} files");
    drop((log, segments));
    let (found, recovered, low) = read_all(&home.folder).unwrap();
    assert_eq!(low.low, 36);
    assert_eq!(recovered.commit, 40);
    let first = found[0].0;
    assert!(
        first <= 37,
        "the log must reach back to 37 and begins with {first}"
    );
    let skip = usize::try_from(first).unwrap() - 1;
    assert_eq!(found, frames[skip..]);

    let live = recovered.lists.live.back().unwrap().file.path.clone();
    fs::rename(&live, live.with_extension("away")).unwrap();
    let error = read_all(&home.folder).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(live.to_str().unwrap()), "{error}");
}

#[test]
fn a_log_that_does_not_reach_back_is_refused() {
    let home = Home::new(16 << 10);
    let (mut frames, mut log, segments, _) = home.resume();
    for n in 0..12u8 {
        append(&mut log, &mut frames, vec![n; 3_000]);
    }
    segments.release(9).unwrap();
    for n in 12..20u8 {
        append(&mut log, &mut frames, vec![n; 3_000]);
    }
    drop((log, segments));
    assert_eq!(read_all(&home.folder).unwrap().1.commit, 20);
    Low { low: 2, files: 1 }.save(&home.folder, STORE).unwrap();
    let error = read_all(&home.folder).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("missing") || error.contains("does not follow"),
        "{error}"
    );
}

#[test]
fn files_of_another_store_are_refused() {
    let (home, other) = (Home::new(16 << 10), Home::new(16 << 10));
    let name = segment::file_name(1);
    let file = SegmentFile::open(&other.folder.join(&name)).unwrap();
    file.begin(
        Header {
            number: 1,
            first: 1,
            chain: 1,
        },
        STORE + 1,
    )
    .unwrap();
    fs::copy(other.folder.join(&name), home.folder.join(&name)).unwrap();
    let error = read_all(&home.folder).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("another store") && error.contains(&name),
        "{error}"
    );
}

/// Writes frames, then one more of which only the sectors in `written` reach the disk.
fn tear(sizes: &[usize], last: usize, written: &[bool]) -> (Home, Frames, bool) {
    let home = Home::new(64 << 10);
    let (mut frames, mut log, _, _) = home.resume();
    for (n, size) in sizes.iter().enumerate() {
        append(&mut log, &mut frames, vec![u8::try_from(n % 256).unwrap(); *size]);
    }
    let before = frames.clone();
    append(&mut log, &mut frames, vec![0xEE; last]);
    let bytes = frame::frame_bytes(last);
    let at = log.at - bytes as u64;
    let mut lost = false;
    for n in 0..bytes / frame::SECTOR {
        if !written[n % written.len()] {
            lost = true;
            let sector = at + (n * frame::SECTOR) as u64;
            log.file.file.write_all_at(&[0; frame::SECTOR], sector).unwrap();
        }
    }
    (home, if lost { before } else { frames }, lost)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_appended_is_read_back(
        rounds in prop::collection::vec(prop::collection::vec(0usize..20_000, 0..12), 1..5),
    ) {
        let home = Home::new(64 << 10);
        let mut expected = Frames::new();
        for sizes in rounds {
            let (frames, mut log, _, torn) = home.resume();
            prop_assert_eq!(&frames, &expected);
            prop_assert_eq!(torn, None);
            for size in sizes {
                let fill = u8::try_from(expected.len() % 256).unwrap();
                append(&mut log, &mut expected, vec![fill; size]);
            }
        }
        prop_assert_eq!(home.resume().0, expected);
    }

    #[test]
    fn a_torn_last_frame_is_cut_and_the_log_goes_on(
        sizes in prop::collection::vec(0usize..9_000, 0..6),
        last in 0usize..30_000,
        written in prop::collection::vec(any::<bool>(), 1..64),
    ) {
        let (home, expected, lost) = tear(&sizes, last, &written);
        let (mut frames, mut log, _, torn) = home.resume();
        prop_assert_eq!(&frames, &expected);
        if !lost {
            prop_assert_eq!(torn, None);
        } else if let Some(torn) = torn {
            prop_assert_eq!(torn, expected.len() as u64 + 1);
        }
        append(&mut log, &mut frames, vec![1; 100]);
        drop(log);
        prop_assert_eq!(home.resume().0, frames);
    }

    /// Also in the last frame, although nothing follows that vouches for it.
    #[test]
    fn a_flipped_bit_in_a_synced_frame_is_refused(
        sizes in prop::collection::vec(0usize..9_000, 1..8),
        frame_at in any::<prop::sample::Index>(),
        bit_at in any::<prop::sample::Index>(),
    ) {
        let home = Home::new(1 << 20);
        let (mut frames, mut log, _, _) = home.resume();
        let mut ends = vec![log.at];
        for size in &sizes {
            append(&mut log, &mut frames, vec![3; *size]);
            ends.push(log.at);
        }
        let n = frame_at.index(sizes.len());
        let length = usize::try_from(ends[n + 1] - ends[n]).unwrap();
        let bit = bit_at.index(length * 8);
        let at = ends[n] + bit as u64 / 8;
        let mut byte = [0];
        log.file.file.read_exact_at(&mut byte, at).unwrap();
        log.file.file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], at).unwrap();
        let path = log.file.path.clone();
        drop(log);
        let error = read_all(&home.folder).map(|_| ()).unwrap_err().to_string();
        prop_assert!(error.contains(path.to_str().unwrap()), "{}", error);
        let named = format!("commits {}..=", n + 1);
        prop_assert!(error.contains(&named), "{} names no {}", error, named);
    }
}
