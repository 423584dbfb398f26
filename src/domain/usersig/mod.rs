//! UserSig 2.0, the signature that Tencent Cloud requires in the URL of every call.
//!
//! A UserSig is a small JSON object with an HMAC-SHA256 over its own fields, compressed with zlib and
//! written in base64, with `*`, `-` and `_` for `+`, `/` and `=`. The service signs; the simulated Desk
//! decodes and verifies. Key and UserSig are of a secret type, so that no log can print them.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// A real UserSig unpacks to a few hundred bytes; the limit stops a compression bomb.
const MAX_UNPACKED_BYTES: u64 = 16 * 1024;

/// The signing account: an administrator of one IM app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The SDKAppID of the IM app behind the Desk app.
    pub sdkappid: u64,
    /// The name of the account.
    pub identifier: String,
}

/// The unverified contents of a UserSig.
#[derive(Debug)]
pub struct UserSigClaims {
    /// The account.
    pub identifier: String,
    /// The SDKAppID of the IM app.
    pub sdkappid: u64,
    /// When it was signed, in Unix seconds.
    pub made_at_unix: i64,
    /// How long it is valid from then on, in seconds.
    pub lifetime_s: u64,
    /// A user buffer in base64. Calls to Desk use none, but other UserSigs may carry one.
    userbuf: Option<String>,
    /// The MAC in base64.
    sig: SecretString,
}

/// The text is no UserSig: cut off, mistyped or of another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the UserSig cannot be decoded")]
pub struct UndecodableUserSig;

/// Why a UserSig is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserSigFault {
    /// Its lifetime is over.
    #[error("the UserSig has expired")]
    Expired,
    /// It cannot be decoded.
    #[error("the UserSig cannot be decoded")]
    Undecodable,
    /// It was signed with another key.
    #[error("the UserSig does not verify: it was signed with another key")]
    WrongKey,
    /// It was made for another account.
    #[error("the UserSig was made for another account")]
    OtherIdentifier,
    /// It was made for another app.
    #[error("the UserSig was made for another SDKAppID")]
    OtherSdkappid,
}

impl UserSigFault {
    /// The `ErrorCode` with which Desk refuses it.
    pub fn code(self) -> i64 {
        match self {
            Self::Expired => 70001,
            Self::Undecodable => 70003,
            Self::WrongKey => 70009,
            Self::OtherIdentifier => 70013,
            Self::OtherSdkappid => 70014,
        }
    }
}

/// Signs a UserSig that is valid for `lifetime_s` seconds from `made_at_unix` on.
pub fn sign(
    identity: &Identity,
    key: &SecretString,
    made_at_unix: i64,
    lifetime_s: u64,
) -> SecretString {
    let mut packed = UserSigJson {
        ver: VERSION.to_owned(),
        identifier: identity.identifier.clone(),
        sdkappid: identity.sdkappid,
        expire: lifetime_s,
        time: made_at_unix,
        sig: String::new(),
        userbuf: None,
    };
    // The MAC covers the fields, not the JSON, so it can be a field of the same object.
    packed.sig = STANDARD.encode(mac(key, &packed.signed_text()).finalize().into_bytes());
    let json = serde_json::to_vec(&packed).expect("text and numbers always serialise");
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&json).expect("writing to memory cannot fail");
    let bytes = zlib.finish().expect("writing to memory cannot fail");
    SecretString::from(to_url_alphabet(&STANDARD.encode(bytes)))
}

/// Unpacks a UserSig without verifying it.
pub fn decode(usersig: &str) -> Result<UserSigClaims, UndecodableUserSig> {
    let packed = unpack(usersig)?;
    Ok(UserSigClaims {
        identifier: packed.identifier,
        sdkappid: packed.sdkappid,
        made_at_unix: packed.time,
        lifetime_s: packed.expire,
        userbuf: packed.userbuf,
        sig: SecretString::from(packed.sig),
    })
}

/// Checks that `usersig` was signed for `identity` with `key` and is valid at `now_unix`.
pub fn verify(
    usersig: &str,
    identity: &Identity,
    key: &SecretString,
    now_unix: i64,
) -> Result<(), UserSigFault> {
    let claims = decode(usersig).map_err(|UndecodableUserSig| UserSigFault::Undecodable)?;
    // The account is compared before the signature: "another account" is a more useful answer than
    // "does not verify".
    if claims.identifier != identity.identifier {
        return Err(UserSigFault::OtherIdentifier);
    }
    if claims.sdkappid != identity.sdkappid {
        return Err(UserSigFault::OtherSdkappid);
    }
    if !claims.signed_with(key) {
        return Err(UserSigFault::WrongKey);
    }
    if claims.expires_at_unix() <= now_unix {
        return Err(UserSigFault::Expired);
    }
    Ok(())
}

impl UserSigClaims {
    /// The first second at which it is no longer valid, in Unix seconds.
    pub fn expires_at_unix(&self) -> i64 {
        self.made_at_unix.saturating_add_unsigned(self.lifetime_s)
    }

    fn signed_with(&self, key: &SecretString) -> bool {
        let Ok(sig) = STANDARD.decode(self.sig.expose_secret()) else { return false };
        let text = signed_text(&SignedFields {
            identifier: &self.identifier,
            sdkappid: self.sdkappid,
            time: self.made_at_unix,
            expire: self.lifetime_s,
            userbuf: self.userbuf.as_deref(),
        });
        // Compares in constant time.
        mac(key, &text).verify_slice(&sig).is_ok()
    }
}

const VERSION: &str = "2.0";

/// The JSON inside a UserSig.
#[derive(Serialize, Deserialize)]
struct UserSigJson {
    #[serde(rename = "TLS.ver")]
    ver: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    sdkappid: u64,
    #[serde(rename = "TLS.expire")]
    expire: u64,
    #[serde(rename = "TLS.time")]
    time: i64,
    #[serde(rename = "TLS.sig")]
    sig: String,
    #[serde(rename = "TLS.userbuf", default, skip_serializing_if = "Option::is_none")]
    userbuf: Option<String>,
}

impl UserSigJson {
    fn signed_text(&self) -> String {
        signed_text(&SignedFields {
            identifier: &self.identifier,
            sdkappid: self.sdkappid,
            time: self.time,
            expire: self.expire,
            userbuf: self.userbuf.as_deref(),
        })
    }
}

/// The fields that the MAC covers.
struct SignedFields<'a> {
    identifier: &'a str,
    sdkappid: u64,
    time: i64,
    expire: u64,
    userbuf: Option<&'a str>,
}

fn signed_text(signed: &SignedFields<'_>) -> String {
    let SignedFields { identifier, sdkappid, time, expire, userbuf } = signed;
    let mut text = format!(
        "TLS.identifier:{identifier}\nTLS.sdkappid:{sdkappid}\nTLS.time:{time}\nTLS.expire:{expire}\n"
    );
    if let Some(userbuf) = userbuf {
        text.push_str(&format!("TLS.userbuf:{userbuf}\n"));
    }
    text
}

/// The key looks like hexadecimal, but its characters are the key: it is not decoded.
fn mac(key: &SecretString, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac
}

fn unpack(usersig: &str) -> Result<UserSigJson, UndecodableUserSig> {
    let bytes = STANDARD.decode(from_url_alphabet(usersig)?).map_err(|_| UndecodableUserSig)?;
    let mut json = Vec::new();
    ZlibDecoder::new(bytes.as_slice())
        .take(MAX_UNPACKED_BYTES)
        .read_to_end(&mut json)
        .map_err(|_| UndecodableUserSig)?;
    let packed: UserSigJson = serde_json::from_slice(&json).map_err(|_| UndecodableUserSig)?;
    if packed.ver == VERSION { Ok(packed) } else { Err(UndecodableUserSig) }
}

fn to_url_alphabet(base64: &str) -> String {
    base64
        .chars()
        .map(|c| match c {
            '+' => '*',
            '/' => '-',
            '=' => '_',
            c => c,
        })
        .collect()
}

/// Characters of the plain alphabet are refused: a query string does not preserve them.
fn from_url_alphabet(text: &str) -> Result<String, UndecodableUserSig> {
    text.chars()
        .map(|c| match c {
            '*' => Ok('+'),
            '-' => Ok('/'),
            '_' => Ok('='),
            '+' | '/' | '=' => Err(UndecodableUserSig),
            c => Ok(c),
        })
        .collect()
}

#[cfg(test)]
mod tests;
