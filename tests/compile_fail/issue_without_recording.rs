//! What leaves was recorded: an `Issued` cannot be made outside, nor can the stages before it.
use countersign::exchange::{AuthorizedExchange, BoundExchange, Issued, MintedToken};

fn skip(bound: BoundExchange) -> AuthorizedExchange {
    AuthorizedExchange { bound, scopes: Default::default(), expires: todo!() }
}

fn mint(authorized: AuthorizedExchange) -> MintedToken {
    MintedToken::mint(authorized)
}

fn issue() -> Issued {
    Issued { access_token: String::new(), expires_in: 1, scopes: Default::default() }
}

fn main() {}
