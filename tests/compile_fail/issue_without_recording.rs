//! What leaves was recorded, and each stage before it was passed: none of them can be made outside.
use countersign::exchange::{AuthorizedExchange, BoundExchange, Issued, MintedToken};

fn main() {
    let _ = BoundExchange { client: None };
    let _ = AuthorizedExchange { scopes: Default::default() };
    let _ = MintedToken { token: String::new() };
    let _ = Issued { access_token: String::new() };
}
