//! The payload comes out of `Compact::verify`, and a payload cannot be made.
use countersign_verify::jws::{Compact, Payload};

fn main() {
    let compact = Compact::parse("a.b.c").unwrap();
    println!("{:?}", compact.payload);
    let _ = Payload(serde_json::Map::new());
}
