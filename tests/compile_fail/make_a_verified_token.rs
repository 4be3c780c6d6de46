//! Only verification makes a verified token.
use countersign::assertion::{SubjectToken, Verified};
use std::marker::PhantomData;

fn main() {
    let _: Verified<SubjectToken> = Verified { parent: None, first_use: None, role: PhantomData };
}
