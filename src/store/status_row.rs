//! An entry of a status list in the bytes that are stored.

use crate::domain::{ListId, StatusRow, Timestamp};
use countersign_verify::revocation::{Name, Named};

/// The version of a row, its first byte.
const VERSION: u8 = 1;
/// A name: itself, when what is named was issued, and whether it is the name of one thing.
const NAME: usize = 16 + 8 + 1;

pub(super) fn encode(row: &StatusRow) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&row.list.to_bytes());
    bytes.extend_from_slice(&row.index.to_be_bytes());
    bytes.extend_from_slice(&row.until.seconds().to_be_bytes());
    bytes.extend_from_slice(&row.pos.to_be_bytes());
    for named in &row.names {
        bytes.extend_from_slice(&named.name.to_bytes());
        bytes.extend_from_slice(&named.iat.to_be_bytes());
        bytes.push(named.once.into());
    }
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<StatusRow> {
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    let (list, rest) = rest.split_first_chunk::<16>()?;
    let (index, rest) = rest.split_first_chunk::<4>()?;
    let (until, rest) = rest.split_first_chunk::<8>()?;
    let (pos, rest) = rest.split_first_chunk::<8>()?;
    let index = Some(u32::from_be_bytes(*index)).filter(|index| *index < ListId::ENTRIES)?;
    let names = rest.chunks(NAME).map(name).collect::<Option<_>>()?;
    let until = Timestamp::new(i64::from_be_bytes(*until))?;
    Some(StatusRow { list: ListId::new(*list), index, until, pos: u64::from_be_bytes(*pos), names })
}

fn name(bytes: &[u8]) -> Option<Named> {
    let (name, rest) = bytes.split_first_chunk::<16>()?;
    let (iat, once) = rest.split_first_chunk::<8>()?;
    let [once @ (0 | 1)] = once else { return None };
    Some(Named { name: Name::from_bytes(*name), iat: i64::from_be_bytes(*iat), once: *once == 1 })
}
