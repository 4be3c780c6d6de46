//! The revocation feed: everything that is in force, signed, and then each record as it is made. What is named is a
//! digest, which tells nothing to a party that does not hold such a token. A follower knows that a token is revoked
//! without asking.

use crate::jws::Compact;
use crate::key::KeySet;
use crate::revocation::{Act, Name, Record};
use crate::view::View;
use crate::{AccessToken, Refusal};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The `typ` of a snapshot.
pub const SNAPSHOT_TYPE: &str = "revocations+jwt";
/// The media type by which `Accept` asks for a stream of records.
pub const STREAM: &str = "text/event-stream";
/// The name of an event that is a record.
pub const RECORD: &str = "revocation";
/// The name of an event that says that there is nothing else, up to a position.
pub const HERE: &str = "here";
/// The name of the event of one who has to read a snapshot again, because what is asked for is not remembered.
pub const LOST: &str = "lost";
/// Size limit of an event, in bytes.
const MAX_EVENT: usize = 16 * 1024;
/// Age limit of a snapshot, in seconds: the time that a large one takes, and clocks that differ.
const MAX_AGE: i64 = 120;
/// A revocation in a snapshot: its name, its position, and its end in minutes since 1970.
const PACKED: usize = 16 + 8 + 4;

/// The content of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The broker.
    pub iss: String,
    /// The client that asked.
    pub aud: String,
    /// Time of the snapshot, in seconds since 1970.
    pub iat: i64,
    /// The position in the revocation log up to which it is whole.
    pub pos: u64,
    /// The single revocations: 28 bytes each, one after the other, in base64url.
    revoked: String,
    /// The suspensions, and the revocations of everything before a time.
    others: Vec<Standing>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<i64>,
    #[serde(default)]
    suspended: bool,
    until: i64,
}

impl Snapshot {
    /// Returns what `view` has in force up to `pos`, except what `leaves_out` names.
    #[must_use]
    pub fn of(view: &View, pos: u64, (iss, aud): (&str, &str), iat: i64, leaves_out: impl Fn(Name) -> bool) -> Self {
        let mut packed = Vec::with_capacity(view.count() * PACKED);
        for (name, position, until) in view.revoked().filter(|(name, ..)| !leaves_out(*name)) {
            packed.extend_from_slice(&name.to_bytes());
            packed.extend_from_slice(&position.to_be_bytes());
            packed.extend_from_slice(&u32::try_from(until / 60).unwrap_or(u32::MAX).to_be_bytes());
        }
        let others = view.others().filter(|(name, ..)| !leaves_out(*name));
        let others = others.map(|(name, before, suspended, until)| {
            let name = URL_SAFE_NO_PAD.encode(name.to_bytes());
            Standing { name, before, suspended, until }
        });
        let revoked = URL_SAFE_NO_PAD.encode(packed);
        Self { iss: iss.to_owned(), aud: aud.to_owned(), iat, pos, revoked, others: others.collect() }
    }
}

/// The content of an event that is a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The name of what is revoked, in base64url.
    pub name: String,
    /// `revoke`, `suspend` or `resume`.
    pub act: String,
    /// The moment before which what was issued is revoked, where that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Until when it can hit something, in seconds since 1970.
    pub until: i64,
}

impl From<Record> for Told {
    fn from(record: Record) -> Self {
        let (act, before) = match record.act {
            Act::Revoke => ("revoke", None),
            Act::RevokeBefore(moment) => ("revoke", Some(moment)),
            Act::Suspend => ("suspend", None),
            Act::Resume => ("resume", None),
        };
        Self { name: URL_SAFE_NO_PAD.encode(record.name.to_bytes()), act: act.to_owned(), before, until: record.until }
    }
}

impl Told {
    fn record(&self) -> Option<Record> {
        let act = match (self.act.as_str(), self.before) {
            ("revoke", None) => Act::Revoke,
            ("revoke", Some(moment)) => Act::RevokeBefore(moment),
            ("suspend", None) => Act::Suspend,
            ("resume", None) => Act::Resume,
            _ => return None,
        };
        Some(Record { name: name(&self.name)?, until: self.until, act })
    }
}

/// The content of an event that says that there is no further record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// How long the replica that sent the event has not read the shared log, in milliseconds.
    #[serde(default)]
    pub stale_ms: u64,
}

fn name(text: &str) -> Option<Name> {
    Some(Name::from_bytes(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
}

/// Why what the feed said is not believed. Then a snapshot has to be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The snapshot is not one of the broker for this client.
    #[error("the snapshot is not from this broker for this client: {0}")]
    Snapshot(Refusal),
    /// The event cannot be understood.
    #[error("the feed sent an event that this version does not understand")]
    Malformed,
    /// The broker no longer has the events that were missed.
    #[error("the broker no longer has the events of the feed that were missed")]
    Lost,
}

/// The revocations in force, as far as the feed was followed.
#[derive(Debug, Default)]
pub struct Feed {
    view: View,
    position: u64,
}

impl Feed {
    /// Begins with a snapshot of `issuer` for `client`, at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// [`FeedError::Snapshot`] if it is not signed by one of `keys`, is for another client, or is too old;
    /// [`FeedError::Malformed`] if its records cannot be read.
    pub fn begin(jwt: &str, issuer: &str, client: &str, keys: &KeySet, now: i64) -> Result<Self, FeedError> {
        let snapshot = verified(jwt, keys).map_err(FeedError::Snapshot)?;
        if snapshot.iss != issuer {
            return Err(FeedError::Snapshot(Refusal::Issuer));
        }
        if snapshot.aud != client {
            return Err(FeedError::Snapshot(Refusal::Audience));
        }
        // Somebody could have kept one from before.
        if now.saturating_sub(snapshot.iat) > MAX_AGE {
            return Err(FeedError::Snapshot(Refusal::Expired));
        }
        let packed = URL_SAFE_NO_PAD.decode(&snapshot.revoked).map_err(|_| FeedError::Malformed)?;
        let mut view = View::default();
        let (records, []) = packed.as_chunks::<PACKED>() else { return Err(FeedError::Malformed) };
        for record in records {
            let (name, rest) = record.split_first_chunk::<16>().ok_or(FeedError::Malformed)?;
            let (position, rest) = rest.split_first_chunk::<8>().ok_or(FeedError::Malformed)?;
            let minutes = rest.first_chunk::<4>().ok_or(FeedError::Malformed)?;
            let until = i64::from(u32::from_be_bytes(*minutes)) * 60;
            let record = Record { name: Name::from_bytes(*name), until, act: Act::Revoke };
            view.apply(u64::from_be_bytes(*position), &record, now);
        }
        for Standing { name: text, before, suspended, until } in snapshot.others {
            let name = name(&text).ok_or(FeedError::Malformed)?;
            let position = view.reach(name).map_or(0, |reach| reach.position);
            let acts = before.map(Act::RevokeBefore).into_iter().chain(suspended.then_some(Act::Suspend));
            acts.for_each(|act| view.apply(position, &Record { name, until, act }, now));
        }
        Ok(Self { view, position: snapshot.pos })
    }

    /// Takes in an event of the stream at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// [`FeedError::Malformed`] or [`FeedError::Lost`]: a snapshot has to be read.
    pub fn hear(&mut self, event: &Event, now: i64) -> Result<(), FeedError> {
        let position = event.id.parse().map_err(|_| FeedError::Malformed);
        match event.name.as_str() {
            RECORD => {
                let told: Told = serde_json::from_str(&event.data).map_err(|_| FeedError::Malformed)?;
                let record = told.record().ok_or(FeedError::Malformed)?;
                self.position = position?;
                self.view.apply(self.position, &record, now);
                Ok(())
            }
            HERE => {
                self.position = self.position.max(position?);
                Ok(())
            }
            LOST => Err(FeedError::Lost),
            // What a later version has to say.
            _ => Err(FeedError::Malformed),
        }
    }

    /// Returns true if `token` is revoked, as far as is known.
    #[must_use]
    pub fn hits(&self, token: &AccessToken) -> bool {
        self.view.hits(token)
    }

    /// The position in the revocation log up to which it was followed: what comes next is asked for by it.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the number of names with a revocation in force.
    #[must_use]
    pub fn count(&self) -> usize {
        self.view.count()
    }
}

fn verified(jwt: &str, keys: &KeySet) -> Result<Snapshot, Refusal> {
    let bounds = crate::jws::Bounds { token_bytes: MAX_SNAPSHOT, ..crate::jws::Bounds::default() };
    let compact = Compact::parse_within(jwt, bounds)?;
    if compact.header().media_type.as_deref() != Some(SNAPSHOT_TYPE) {
        return Err(Refusal::Type);
    }
    let key = keys.find(compact.header().key_id.as_deref(), compact.header().algorithm)?;
    let payload = compact.verify(key).map_err(|_| Refusal::Signature)?;
    serde_json::from_value(Value::Object(payload.into_members())).map_err(|_| Refusal::Claims)
}

/// Size limit of a snapshot, in bytes: about three million revocations.
pub const MAX_SNAPSHOT: usize = 160 * 1024 * 1024;

/// An event of the stream (WHATWG HTML §9.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its id: a position in the revocation log.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The data of the event.
    pub data: String,
}

/// The event as it is sent.
impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "id: {}\nevent: {}\ndata: {}\n\n", self.id, self.name, self.data)
    }
}

/// Reads events from a stream as it comes.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    event: Event,
}

impl Events {
    /// The events that end in `bytes`.
    ///
    /// # Errors
    /// [`FeedError::Malformed`] for one that is not text, or too large.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Vec<Event>, FeedError> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.event.data.len() > MAX_EVENT {
                    return Err(FeedError::Malformed);
                }
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.line)).map_err(|_| FeedError::Malformed)?;
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.name.is_empty() {
                    events.push(event);
                }
                continue;
            }
            // What begins with a colon is nobody's field: it keeps the connection alive.
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut self.event.id),
                "event" => value.clone_into(&mut self.event.name),
                "data" => self.event.data.push_str(value),
                _ => {}
            }
        }
        Ok(events)
    }
}
