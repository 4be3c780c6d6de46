//! A token leaves only if it was recorded, and reaches each stage only through the one before it: nothing outside the stages can
//! make one of them.
use countersign::exchange::{AuthorizedExchange, BoundExchange, Issued, MintedToken};

fn main() {
    let _ = BoundExchange { client: None };
    let _ = AuthorizedExchange { scopes: Default::default() };
    let _ = MintedToken { scope: String::new() };
    let _ = Issued { expires_in: 1 };
}
