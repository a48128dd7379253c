//! The bytes of a spill file: no paths, no files.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};

use crate::exchange::encoding::IpcMessage;

/// The first bytes of a file; the last one is the version.
pub(super) const MAGIC: &[u8; 8] = b"VLYSPIL\x01";
/// The last bytes of a file with a footer.
pub(super) const END: &[u8; 8] = b"VLYINDEX";
/// Tag of a chunk.
const CHUNK_TAG: &[u8; 4] = b"CHNK";
/// Tag of a footer.
const INDEX_TAG: &[u8; 4] = b"INDX";
/// Tag, length and checksum.
pub(super) const FRAME_LEN: usize = 4 + 8 + 4;
/// Footer offset and `END`.
pub(super) const TRAILER_LEN: usize = 8 + 8;
const INDEX_ENTRY_LEN: usize = 4 + 4 + 8 + 8 + 8;
const CHUNK_FIXED_LEN: usize = 4 + 4 + 8 + 4;
const MESSAGE_SIZES_LEN: usize = 4 + 8;

/// Which chunk of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId {
    /// The output partition.
    pub partition: u32,
    /// Its place in the partition, from 0.
    pub sequence: u32,
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}#{}", self.partition, self.sequence)
    }
}

/// Where a chunk stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The chunk.
    pub id: ChunkId,
    /// Its rows.
    pub rows: u64,
    /// Where its record starts.
    pub offset: u64,
    /// Bytes of its record.
    pub length: u64,
}

/// Why bytes are not a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// They are something else, or too short.
    Shape(&'static str),
    /// The checksum says that they changed.
    Checksum { expected: u32, found: u32 },
}

/// What starts a file: who wrote it, and the schema message of its rows.
pub(super) fn encode_preamble(attempt: &str, schema: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(4 + attempt.len() + schema.len());
    payload.put_u32_le(attempt.len() as u32);
    payload.put_slice(attempt.as_bytes());
    payload.put_slice(schema);
    let mut out = Vec::with_capacity(MAGIC.len() + 8 + payload.len());
    out.put_slice(MAGIC);
    out.put_u32_le(payload.len() as u32);
    out.put_u32_le(crc32fast::hash(&payload));
    out.put_slice(&payload);
    out
}

/// Bytes of the preamble after the magic and its two numbers, from those numbers.
pub(super) fn decode_preamble(payload: &[u8], expected: u32) -> Result<(String, Bytes), Broken> {
    check(payload, expected)?;
    let mut rest = payload;
    let length = rest.try_get_u32_le().map_err(|_| Broken::Shape("the preamble ends early"))? as usize;
    if rest.len() < length {
        return Err(Broken::Shape("the preamble ends early"));
    }
    let (attempt, schema) = rest.split_at(length);
    let attempt = std::str::from_utf8(attempt).map_err(|_| Broken::Shape("the attempt's name is not text"))?;
    Ok((attempt.to_owned(), Bytes::copy_from_slice(schema)))
}

/// A chunk as parts to be written one after the other.
pub(super) fn encode_chunk(id: ChunkId, rows: u64, messages: &[IpcMessage]) -> Vec<Bytes> {
    let bytes: usize = messages.iter().map(IpcMessage::bytes).sum();
    let described = CHUNK_FIXED_LEN + messages.len() * MESSAGE_SIZES_LEN;
    let mut head = Vec::with_capacity(FRAME_LEN + described);
    head.put_slice(CHUNK_TAG);
    head.put_u64_le((described + bytes) as u64);
    head.put_u32_le(0);
    head.put_u32_le(id.partition);
    head.put_u32_le(id.sequence);
    head.put_u64_le(rows);
    head.put_u32_le(messages.len() as u32);
    for message in messages {
        head.put_u32_le(message.header.len() as u32);
        head.put_u64_le(message.body.len() as u64);
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[FRAME_LEN..]);
    for message in messages {
        crc.update(&message.header);
        crc.update(&message.body);
    }
    head[FRAME_LEN - 4..FRAME_LEN].copy_from_slice(&crc.finalize().to_le_bytes());
    let parts = messages.iter().flat_map(|message| [message.header.clone(), message.body.clone()]);
    std::iter::once(Bytes::from(head)).chain(parts).collect()
}

/// The chunk in `record`, which shares its bytes.
pub(super) fn decode_chunk(record: Bytes) -> Result<(ChunkId, u64, Vec<IpcMessage>), Broken> {
    let mut rest = unframe(record, CHUNK_TAG)?;
    let early = |_| Broken::Shape("a chunk ends early");
    let id = ChunkId { partition: rest.try_get_u32_le().map_err(early)?, sequence: rest.try_get_u32_le().map_err(early)? };
    let rows = rest.try_get_u64_le().map_err(early)?;
    let count = rest.try_get_u32_le().map_err(early)? as usize;
    let mut sizes = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        sizes.push((rest.try_get_u32_le().map_err(early)? as usize, rest.try_get_u64_le().map_err(early)? as usize));
    }
    let mut messages = Vec::with_capacity(sizes.len());
    for (header, body) in sizes {
        if header.checked_add(body).is_none_or(|length| rest.len() < length) {
            return Err(Broken::Shape("a chunk ends early"));
        }
        messages.push(IpcMessage { header: rest.split_to(header), body: rest.split_to(body) });
    }
    Ok((id, rows, messages))
}

/// The index, to be written at `offset`.
pub(super) fn encode_footer(places: &[ChunkPlace], offset: u64) -> Vec<u8> {
    let length = places.len() * INDEX_ENTRY_LEN;
    let mut out = Vec::with_capacity(FRAME_LEN + length + TRAILER_LEN);
    out.put_slice(INDEX_TAG);
    out.put_u64_le(length as u64);
    out.put_u32_le(0);
    for place in places {
        out.put_u32_le(place.id.partition);
        out.put_u32_le(place.id.sequence);
        out.put_u64_le(place.rows);
        out.put_u64_le(place.offset);
        out.put_u64_le(place.length);
    }
    let crc = crc32fast::hash(&out[FRAME_LEN..]);
    out[FRAME_LEN - 4..FRAME_LEN].copy_from_slice(&crc.to_le_bytes());
    out.put_u64_le(offset);
    out.put_slice(END);
    out
}

/// Where the last footer starts, from the last bytes of a file.
pub(super) fn decode_trailer(trailer: &[u8]) -> Result<u64, Broken> {
    let (mut offset, end) = trailer.split_at_checked(8).ok_or(Broken::Shape("it ends early"))?;
    if end != END {
        return Err(Broken::Shape("it has no index at its end"));
    }
    Ok(offset.get_u64_le())
}

/// The index in a footer (without its trailer).
pub(super) fn decode_footer(footer: Bytes) -> Result<Vec<ChunkPlace>, Broken> {
    let mut rest = unframe(footer, INDEX_TAG)?;
    if rest.len() % INDEX_ENTRY_LEN != 0 {
        return Err(Broken::Shape("its index ends early"));
    }
    let mut places = Vec::with_capacity(rest.len() / INDEX_ENTRY_LEN);
    while rest.has_remaining() {
        let id = ChunkId { partition: rest.get_u32_le(), sequence: rest.get_u32_le() };
        places.push(ChunkPlace { id, rows: rest.get_u64_le(), offset: rest.get_u64_le(), length: rest.get_u64_le() });
    }
    Ok(places)
}

/// The payload of a tagged frame, its checksum verified.
fn unframe(mut frame: Bytes, tag: &[u8; 4]) -> Result<Bytes, Broken> {
    if frame.len() < FRAME_LEN {
        return Err(Broken::Shape("a record ends early"));
    }
    let found = frame.split_to(4);
    let length = frame.get_u64_le();
    let expected = frame.get_u32_le();
    // A damaged frame is told by its payload's checksum, too, so that the error always names one.
    check(&frame, expected)?;
    if found.as_ref() != tag.as_slice() {
        return Err(Broken::Shape("a record has a foreign tag"));
    }
    if frame.len() as u64 != length {
        return Err(Broken::Shape("a record has another length than its frame says"));
    }
    Ok(frame)
}

fn check(payload: &[u8], expected: u32) -> Result<(), Broken> {
    let found = crc32fast::hash(payload);
    if found == expected { Ok(()) } else { Err(Broken::Checksum { expected, found }) }
}
