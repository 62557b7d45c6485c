//! Who is asking: access tokens (JWT, HS256) and the people of `--dev`.
//!
//! Scopes and roles come from the verified token, never from a payload (C4). A user's own scope `user:{sub}` is
//! always granted.

use crate::error::ServerError;
use crate::service::now;
use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use landfall_protocol::limits::SCOPES_MAX;
use landfall_protocol::{Scope, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

/// 256 bit, as RFC 7518 section 3.2 asks of HS256.
const SECRET_BYTES_MIN: usize = 32;
/// Verified tokens that are remembered.
const VERIFIED_MAX: usize = 4096;
const ISSUER: &str = "landfall";
const AUDIENCE: &str = "landfall-sync";

/// Why tokens cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("the secret has {0} bytes; HS256 needs at least {SECRET_BYTES_MIN}")]
    SecretTooShort(usize),
    #[error("token: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
}

/// A person who may sign in, as the directory knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub sub: &'static str,
    pub name: &'static str,
    pub roles: &'static [&'static str],
    pub scopes: &'static [&'static str],
}

/// The people of `--dev`. Their password is [`DEMO_PASSWORD`].
pub const DEMO_PEOPLE: [Person; 8] = [
    Person { sub: "ada", name: "Ada", roles: &["staff"], scopes: &["facility:main"] },
    Person { sub: "grace", name: "Grace", roles: &["staff"], scopes: &["facility:main", "facility:north"] },
    Person { sub: "linus", name: "Linus", roles: &["staff"], scopes: &["facility:north"] },
    Person { sub: "tess", name: "Tess (teacher)", roles: &["teacher"], scopes: &["school:demo"] },
    Person { sub: "carl", name: "Carl (cashier)", roles: &["cashier"], scopes: &["company:demo"] },
    Person { sub: "sam", name: "Sam (store)", roles: &["store"], scopes: &["store:demo"] },
    Person { sub: "mia", name: "Mia (manager)", roles: &["manager"], scopes: &["store:demo", "company:demo"] },
    Person {
        sub: "root-demo",
        name: "Root (demo)",
        roles: &["admin", "staff"],
        scopes: &["facility:main", "facility:north", "school:demo", "store:demo", "company:demo"],
    },
];
pub const DEMO_PASSWORD: &str = "landfall";

/// The demo person of this name.
pub fn demo_person(sub: &str) -> Option<&'static Person> {
    DEMO_PEOPLE.iter().find(|person| person.sub == sub)
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    iss: String,
    aud: String,
    /// Seconds since 1970.
    exp: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    roles: BTreeSet<String>,
    #[serde(default)]
    scopes: BTreeSet<String>,
}

/// A verified user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub sub: String,
    pub name: String,
    pub roles: BTreeSet<String>,
    /// Granted scopes, the user's own among them.
    pub scopes: BTreeSet<Scope>,
    pub expires_at: UnixMillis,
}

impl Identity {
    pub fn holds(&self, scope: &Scope) -> bool {
        self.scopes.contains(scope)
    }
}

impl From<Claims> for Identity {
    fn from(claims: Claims) -> Self {
        let own = Scope(format!("user:{}", claims.sub));
        let mut scopes: BTreeSet<Scope> = claims.scopes.into_iter().map(Scope).take(SCOPES_MAX - 1).collect();
        scopes.insert(own);
        Self {
            sub: claims.sub,
            name: claims.name,
            roles: claims.roles,
            scopes,
            expires_at: UnixMillis(claims.exp.saturating_mul(1000)),
        }
    }
}

/// Makes and checks access tokens.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    ttl_seconds: u64,
    /// Tokens that were verified before, word for word.
    verified: Mutex<HashMap<String, Identity>>,
}

impl Tokens {
    pub fn new(secret: &[u8], ttl_seconds: u64, leeway_seconds: u64) -> Result<Self, AuthError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(AuthError::SecretTooShort(secret.len()));
        }
        if PROVIDER.install_default().is_err() {
            tracing::trace!("the signature provider was installed before");
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = leeway_seconds;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_nbf = true;
        Ok(Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            ttl_seconds,
            verified: Mutex::default(),
        })
    }

    /// A token for `person` and when it ends.
    pub fn issue(&self, person: &Person, now: UnixMillis) -> Result<(String, UnixMillis), AuthError> {
        let exp = now.get() / 1000 + self.ttl_seconds;
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let claims = Claims {
            sub: person.sub.to_owned(),
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            exp,
            name: person.name.to_owned(),
            roles: set(person.roles),
            scopes: set(person.scopes),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)?;
        Ok((token, UnixMillis(exp * 1000)))
    }

    /// The user of a token, or `unauthorized`/`token_expired`.
    pub fn verify(&self, token: &str) -> Result<Identity, ServerError> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = verified.get(token)
            && now() < self.last_moment(identity.expires_at)
        {
            return Ok(identity.clone());
        }
        let identity = self.check(token)?;
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(token.to_owned(), identity.clone());
        Ok(identity)
    }

    fn check(&self, token: &str) -> Result<Identity, ServerError> {
        let found = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation);
        match found {
            Ok(data) if !data.claims.sub.is_empty() && data.claims.sub.len() <= 128 => Ok(data.claims.into()),
            Ok(_) => Err(ServerError::Unauthorized),
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => Err(ServerError::TokenExpired),
            Err(_) => Err(ServerError::Unauthorized),
        }
    }

    /// When a token that ends at `expires_at` is no longer taken.
    pub fn last_moment(&self, expires_at: UnixMillis) -> UnixMillis {
        UnixMillis(expires_at.get().saturating_add(self.validation.leeway.saturating_mul(1000)))
    }
}

/// HS256 and nothing else: the other algorithms would add a dozen crates that no key here could use.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| match algorithm {
        Algorithm::HS256 => Ok(Box::new(Hs256::new(key.as_bytes())?) as Box<dyn JwtSigner>),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    verifier_factory: |algorithm, key| match algorithm {
        Algorithm::HS256 => Ok(Box::new(Hs256::new(key.try_get_as_bytes()?)?) as Box<dyn JwtVerifier>),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(secret: &[u8]) -> Result<Self, jsonwebtoken::errors::Error> {
        Hmac::new_from_slice(secret).map(Self).map_err(|_| ErrorKind::InvalidKeyFormat.into())
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}
impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}
impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        self.0.clone().chain_update(message).verify_slice(signature).map_err(|_| SignatureError::new())
    }
}
impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: u64 = 4_000_000_000_000;

    fn tokens() -> Tokens {
        Tokens::new(SECRET, 300, 0).unwrap()
    }

    #[test]
    fn c4_roles_and_scopes_come_from_the_token() {
        let (token, expires_at) = tokens().issue(&DEMO_PEOPLE[0], UnixMillis(NOW)).unwrap();
        let identity = tokens().verify(&token).unwrap();
        assert_eq!(identity.sub, "ada");
        assert_eq!(identity.expires_at, expires_at);
        assert!(identity.holds(&"user:ada".into()) && identity.holds(&"facility:main".into()));
        assert!(!identity.holds(&"user:grace".into()) && !identity.holds(&"facility:north".into()));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(matches!(Tokens::new(&SECRET[1..], 300, 0), Err(AuthError::SecretTooShort(31))));
    }

    #[test]
    fn expired_forged_and_unsigned_tokens_are_told_apart_from_good_ones() {
        let (old, _) = tokens().issue(&DEMO_PEOPLE[0], UnixMillis(1_000)).unwrap();
        assert!(matches!(tokens().verify(&old), Err(ServerError::TokenExpired)));
        let (good, _) = tokens().issue(&DEMO_PEOPLE[0], UnixMillis(NOW)).unwrap();
        let other = Tokens::new(b"another secret of thirty-two byte", 300, 0).unwrap();
        assert!(matches!(other.verify(&good), Err(ServerError::Unauthorized)));
        let mut parts = good.split('.');
        let claims = parts.nth(1).unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        assert!(matches!(tokens().verify(&format!("{none}.{claims}.")), Err(ServerError::Unauthorized)));
        assert!(matches!(tokens().verify(""), Err(ServerError::Unauthorized)));
    }

    #[test]
    fn a_token_without_one_of_the_needed_claims_is_refused() {
        tokens();
        for missing in ["sub", "iss", "aud", "exp"] {
            let mut claims = serde_json::json!({"sub":"ada","iss":ISSUER,"aud":AUDIENCE,"exp":NOW});
            claims.as_object_mut().unwrap().remove(missing);
            let key = EncodingKey::from_secret(SECRET);
            let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
            assert!(matches!(tokens().verify(&token), Err(ServerError::Unauthorized)), "{missing}");
        }
    }
}
