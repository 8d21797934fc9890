//! How one group commit looks on disk.
//!
//! ```text
//! frame  = head | payload, cut into pieces of 496 bytes; zeros up to a whole number of 4 KiB blocks
//! sector = crc32c u32 | segment u32 (top bit: first sector of a frame) | commit u64 | 496 bytes of the frame
//! head   = magic u32 | payload bytes u32 | crc32c u32 | rows u32 | commit u64 | durable u64 | seqno u64 | chain u64
//! row    = table u32 | kind u8 (0: put, 1: delete) | key bytes u16 | value bytes u32 (delete: 0) | key | value
//! ```
//!
//! All integers are little-endian. A sector's crc also covers its place and the store it belongs to.
//!
//! Why every 512 bytes carry a stamp: a disk writes a sector whole or not at all. So after a crash each
//! sector of the frame that was being written is either new, and then its crc fits, or old, and then it is
//! zero or carries an older segment's stamp. A sector that is neither was written and has changed since. That
//! tells damage from a torn write even in the very last frame, which nothing after it vouches for.
//!
//! Why whole blocks: a partly written page of a recycled segment would first have to be read, and no later
//! write ever touches a block that holds acknowledged rows.

use super::super::disk::Fields;

/// What a disk writes whole or not at all.
pub(in super::super) const SECTOR: usize = 512;
/// Frames begin at multiples of this.
pub(in super::super) const BLOCK: usize = 4_096;
const STAMP: usize = 16;
const PIECE: usize = SECTOR - STAMP;
const HEAD: usize = 48;
const MAGIC: u32 = u32::from_le_bytes(*b"AFRM");
const FIRST: u32 = 1 << 31;

/// Where and for which store a sector was written; part of every sector's checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) store: u64,
    pub(super) segment: u64,
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct FrameHead {
    pub(in super::super) rows: u32,
    /// Counts 1, 2, 3 without gaps, over all segments.
    pub(in super::super) commit: u64,
    /// Highest commit known to be synced when this frame was written.
    pub(in super::super) durable: u64,
    /// The sequence number of every row in the frame.
    pub(in super::super) seqno: u64,
    /// Ties the frame to all before it.
    pub(in super::super) chain: u64,
}

/// A head as read, with what is needed to check the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredHead {
    pub(super) head: FrameHead,
    pub(super) length: usize,
    pub(super) crc: u32,
}

/// What a sector says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector {
    /// Written for this segment, and whole.
    New { commit: u64, first: bool },
    /// Never written since this segment began: zeros, or whole and of an earlier segment.
    Old,
    /// Neither: its bytes have changed since they were written.
    Damaged,
}

/// Bytes on disk of a frame with so much payload.
pub(super) fn frame_bytes(payload: usize) -> usize {
    (HEAD + payload).div_ceil(PIECE).div_ceil(BLOCK / SECTOR) * BLOCK
}

/// The link that the next frame carries as its `chain`.
pub(super) fn link(chain: u64, commit: u64, crc: u32) -> u64 {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&chain.to_le_bytes());
    bytes[8..16].copy_from_slice(&commit.to_le_bytes());
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// Writes a frame that begins at byte `at` of its segment into `out`; returns the frame's crc.
pub(super) fn encode(
    place: Place,
    at: u64,
    head: &FrameHead,
    payload: &[impl AsRef<[u8]>],
    out: &mut Vec<u8>,
) -> u32 {
    let length: usize = payload.iter().map(|p| p.as_ref().len()).sum();
    let mut bytes = [0; HEAD];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..8].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes[12..16].copy_from_slice(&head.rows.to_le_bytes());
    bytes[16..24].copy_from_slice(&head.commit.to_le_bytes());
    bytes[24..32].copy_from_slice(&head.durable.to_le_bytes());
    bytes[32..40].copy_from_slice(&head.seqno.to_le_bytes());
    bytes[40..48].copy_from_slice(&head.chain.to_le_bytes());
    let mut crc = crc32c::crc32c(&bytes[4..8]);
    crc = crc32c::crc32c_append(crc, &bytes[12..]);
    for piece in payload {
        crc = crc32c::crc32c_append(crc, piece.as_ref());
    }
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());

    out.clear();
    out.resize(frame_bytes(length), 0);
    let mut write = Pieces { out, at: 0 };
    write.put(&bytes);
    for piece in payload {
        write.put(piece.as_ref());
    }
    let first_sector = at / SECTOR as u64;
    for (n, sector) in (0u64..).zip(out.chunks_exact_mut(SECTOR)) {
        let segment = stamp_segment(place) | if n == 0 { FIRST } else { 0 };
        sector[4..8].copy_from_slice(&segment.to_le_bytes());
        sector[8..16].copy_from_slice(&head.commit.to_le_bytes());
        let crc = sector_crc(place, first_sector + n, sector);
        sector[..4].copy_from_slice(&crc.to_le_bytes());
    }
    crc
}

/// Copies bytes into the data parts of sectors.
struct Pieces<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Pieces<'_> {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PIECE - self.at % PIECE;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let from = self.at / PIECE * SECTOR + STAMP + self.at % PIECE;
            self.out[from..from + now.len()].copy_from_slice(now);
            self.at += now.len();
            bytes = later;
        }
    }
}

/// Judges the sector at byte `at` of its segment.
pub(super) fn judge(place: Place, at: u64, sector: &[u8]) -> Sector {
    if sector.iter().all(|b| *b == 0) {
        return Sector::Old;
    }
    let mut fields = Fields(sector);
    let (Some(crc), Some(segment), Some(commit)) = (fields.u32(), fields.u32(), fields.u64()) else {
        return Sector::Damaged;
    };
    if sector_crc(place, at / SECTOR as u64, sector) != crc {
        Sector::Damaged
    } else if segment & !FIRST == stamp_segment(place) {
        Sector::New {
            commit,
            first: segment & FIRST != 0,
        }
    } else {
        Sector::Old
    }
}

/// Reads the head from the first sector of a frame. The sector was judged before.
pub(super) fn decode_head(sector: &[u8]) -> Option<StoredHead> {
    let mut fields = Fields(sector.get(STAMP..)?);
    if fields.u32()? != MAGIC {
        return None;
    }
    let (length, crc) = (fields.u32()?, fields.u32()?);
    let head = FrameHead {
        rows: fields.u32()?,
        commit: fields.u64()?,
        durable: fields.u64()?,
        seqno: fields.u64()?,
        chain: fields.u64()?,
    };
    Some(StoredHead {
        head,
        length: length as usize,
        crc,
    })
}

/// Takes the payload out of the sectors of a whole frame; `None` if it does not fit its checksum.
pub(super) fn decode_payload(stored: &StoredHead, frame: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(frame.len());
    for sector in frame.chunks_exact(SECTOR) {
        bytes.extend_from_slice(&sector[STAMP..]);
    }
    bytes.truncate(HEAD + stored.length);
    let mut crc = crc32c::crc32c(bytes.get(4..8)?);
    crc = crc32c::crc32c_append(crc, bytes.get(12..HEAD + stored.length)?);
    bytes.drain(..HEAD);
    (crc == stored.crc).then_some(bytes)
}

/// One row of a payload. Without a value the key is deleted.
pub(in super::super) struct StoredRow<'a> {
    pub(in super::super) table: u32,
    pub(in super::super) key: &'a [u8],
    pub(in super::super) value: Option<&'a [u8]>,
}

const PUT: u8 = 0;
const DELETE: u8 = 1;

/// Bytes of a row beside its key and value.
pub(in super::super) const ROW_HEAD: usize = 11;

/// Appends one row. Lengths were checked when the row was accepted.
pub(in super::super) fn encode_row(table: u32, key: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend(table.to_le_bytes());
    out.push(if value.is_some() { PUT } else { DELETE });
    let value = value.unwrap_or_default();
    out.extend(u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(key);
    out.extend(value);
}

/// Takes one row from the front of a payload.
pub(in super::super) fn decode_row<'a>(payload: &mut &'a [u8]) -> Option<StoredRow<'a>> {
    let mut fields = Fields(payload);
    let (table, kind, key, value) = (fields.u32()?, fields.u8()?, fields.u16()?, fields.u32()?);
    let (key, value) = (fields.bytes(key.into())?, fields.bytes(value as usize)?);
    let value = match kind {
        PUT => Some(value),
        DELETE if value.is_empty() => None,
        _ => return None,
    };
    let row = StoredRow { table, key, value };
    *payload = fields.0;
    Some(row)
}

fn stamp_segment(place: Place) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a stamp keeps the low bits: enough to tell one use of a file from the next"
    )]
    let low = place.segment as u32;
    low & !FIRST
}

fn sector_crc(place: Place, sector: u64, bytes: &[u8]) -> u32 {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&place.store.to_le_bytes());
    seed[8..].copy_from_slice(&sector.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), &bytes[4..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: Place = Place { store: 9, segment: 4 };
    const AT: u64 = 5 * BLOCK as u64;

    fn head() -> FrameHead {
        FrameHead {
            rows: 3,
            commit: 77,
            durable: 76,
            seqno: 1_000,
            chain: 0xABCD,
        }
    }

    proptest! {
        #[test]
        fn roundtrip_frame(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 0..6)) {
            let mut out = Vec::new();
            let crc = encode(PLACE, AT, &head(), &pieces, &mut out);
            prop_assert_eq!(out.len() % BLOCK, 0);
            for (n, sector) in out.chunks_exact(SECTOR).enumerate() {
                let at = AT + (n * SECTOR) as u64;
                prop_assert_eq!(judge(PLACE, at, sector), Sector::New { commit: 77, first: n == 0 });
                prop_assert_eq!(judge(Place { segment: 5, ..PLACE }, at, sector), Sector::Old);
                prop_assert_eq!(judge(Place { store: 8, ..PLACE }, at, sector), Sector::Damaged);
            }
            let stored = decode_head(&out[..SECTOR]).unwrap();
            prop_assert_eq!(stored.head, head());
            prop_assert_eq!(stored.crc, crc);
            prop_assert_eq!(frame_bytes(stored.length), out.len());
            prop_assert_eq!(decode_payload(&stored, &out).unwrap(), pieces.concat());
        }

        #[test]
        fn a_flipped_bit_is_damage_never_old(size in 0usize..6_000, at in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            encode(PLACE, AT, &head(), &[vec![7u8; size]], &mut out);
            let bit = at.index(out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            let n = bit / 8 / SECTOR;
            let sector = &out[n * SECTOR..(n + 1) * SECTOR];
            prop_assert_eq!(judge(PLACE, AT + (n * SECTOR) as u64, sector), Sector::Damaged);
        }

        #[test]
        fn roundtrip_rows(rows in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 1..99), prop::option::of(prop::collection::vec(any::<u8>(), 0..99))), 0..20)) {
            let mut out = Vec::new();
            for (table, key, value) in &rows {
                encode_row(*table, key, value.as_deref(), &mut out);
            }
            let mut left = &out[..];
            for (table, key, value) in &rows {
                let row = decode_row(&mut left).unwrap();
                prop_assert_eq!((row.table, row.key, row.value), (*table, &key[..], value.as_deref()));
            }
            prop_assert!(left.is_empty());
        }
    }

    #[test]
    fn rows_are_a_stored_format() {
        let put = [3, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, b'k', b'v', b'w'];
        let empty = [3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, b'k'];
        let delete = [3, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, b'k'];
        for (bytes, value) in [
            (&put[..], Some(&b"vw"[..])),
            (&empty[..], Some(&b""[..])),
            (&delete[..], None),
        ] {
            let mut out = Vec::new();
            encode_row(3, b"k", value, &mut out);
            assert_eq!(out, bytes);
            let row = decode_row(&mut &*bytes).unwrap();
            assert_eq!((row.table, row.key, row.value), (3, &b"k"[..], value));
        }
        let (mut unknown, mut deletes_with_value) = (put, put);
        unknown[4] = 2;
        deletes_with_value[4] = 1;
        assert!(decode_row(&mut &unknown[..]).is_none());
        assert!(decode_row(&mut &deletes_with_value[..]).is_none());
    }
}
