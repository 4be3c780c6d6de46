//! Nothing can be read from a token before it is verified.
use countersign::assertion::{SubjectToken, Untrusted};
use countersign::domain::TokenType;

fn main() {
    let token = Untrusted::<SubjectToken>::new(String::new(), TokenType::Jwt);
    println!("{}", token.text);
    println!("{:?}", token.workload());
}
