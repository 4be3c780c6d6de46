//! The bound: what one core can do at all for such an exchange. It believes everything and remembers nothing.

use crate::Fault;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::path::Path;

/// Where it listens.
pub(crate) const ADDRESS: &str = "127.0.0.1:18082";
/// As long as a minted token's header and payload.
const SIGNED_BYTES: usize = 800;

struct Keys {
    verifying: ParsedPublicKey,
    signing: EcdsaKeyPair,
    random: SystemRandom,
}

pub(crate) fn serve(jwks: &Path) -> Result<(), Fault> {
    let document: Value = serde_json::from_slice(&std::fs::read(jwks)?)?;
    let number = |name: &str| -> Result<Vec<u8>, Fault> {
        let text = document.pointer(&format!("/keys/0/{name}")).and_then(Value::as_str).ok_or("no key")?;
        Ok(URL_SAFE_NO_PAD.decode(text)?)
    };
    let (n, e) = (number("n")?, number("e")?);
    let verifying = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)?;
    let signing = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let keys = Data::new(Keys { verifying, signing, random: SystemRandom::new() });
    let app = move || App::new().app_data(keys.clone()).route("/token", web::post().to(exchange));
    let server = HttpServer::new(app).workers(1).keep_alive(std::time::Duration::from_secs(65)).bind(ADDRESS)?.run();
    Ok(actix_web::rt::System::new().block_on(server)?)
}

async fn exchange(body: Bytes, keys: Data<Keys>) -> HttpResponse {
    let token = form_urlencoded::parse(&body).find(|(name, _)| name == "subject_token").map(|(_, value)| value);
    let Some((input, signature)) = token.as_deref().and_then(|token| token.rsplit_once('.')) else {
        return HttpResponse::BadRequest().finish();
    };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return HttpResponse::BadRequest().finish() };
    if keys.verifying.verify_sig(input.as_bytes(), &signature).is_err() {
        return HttpResponse::BadRequest().finish();
    }
    let mut minted = "x".repeat(SIGNED_BYTES);
    let Ok(signature) = keys.signing.sign(&keys.random, minted.as_bytes()) else {
        return HttpResponse::InternalServerError().finish();
    };
    minted.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut minted);
    HttpResponse::Ok().content_type("application/json").body(format!(
        r#"{{"access_token":"{minted}","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":300,"scope":"orders:read"}}"#
    ))
}
