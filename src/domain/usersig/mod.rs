//! UserSig v2, the signature that Tencent Cloud wants in the URL of every call.
//!
//! A UserSig is a small JSON object with an HMAC-SHA256 over its own fields, compressed with zlib
//! and written in a base64 whose `+`, `/` and `=` became `*`, `-` and `_`. The worker signs; the
//! simulated Desk decodes and verifies. The time is an argument everywhere, and both the key and
//! the UserSig live in a secret type. This module never reads a clock and never prints a secret.

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

/// What no honest UserSig exceeds once unpacked; stops a compression bomb.
const MAX_UNPACKED_BYTES: u64 = 16 * 1024;

/// Who signs: an administrator account of one IM app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The number of the IM app behind the Desk app.
    pub sdkappid: u64,
    /// The account name, an App administrator.
    pub identifier: String,
}

/// What a UserSig says about itself; nothing of it is verified yet.
#[derive(Debug)]
pub struct Claims {
    /// The account it was made for.
    pub identifier: String,
    /// The IM app it was made for.
    pub sdkappid: u64,
    /// When it was made, in Unix seconds.
    pub made_at_unix: i64,
    /// How long it holds from then on, in seconds.
    pub lifetime_s: u64,
    /// A user buffer in base64, which Desk calls do not use.
    userbuf: Option<String>,
    /// The MAC in base64.
    sig: SecretString,
}

/// The text is not a UserSig: cut off, mistyped or of another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the UserSig cannot be decoded")]
pub struct Unreadable;

/// Why a UserSig is refused; the texts follow Tencent's table of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigFault {
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

impl SigFault {
    /// The `ErrorCode` that Tencent gives for this fault.
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

/// Makes a UserSig that holds for `lifetime_s` seconds from `made_at_unix` on.
pub fn sign(
    identity: &Identity,
    key: &SecretString,
    made_at_unix: i64,
    lifetime_s: u64,
) -> SecretString {
    let mut packed = Packed {
        ver: VERSION.to_owned(),
        identifier: identity.identifier.clone(),
        sdkappid: identity.sdkappid,
        expire: lifetime_s,
        time: made_at_unix,
        sig: String::new(),
        userbuf: None,
    };
    packed.sig = STANDARD.encode(mac(key, &packed.signed_text()).finalize().into_bytes());
    let json = serde_json::to_vec(&packed).expect("text and numbers always serialise");
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&json).expect("memory takes every byte");
    let bytes = zlib.finish().expect("memory takes every byte");
    SecretString::from(to_url_alphabet(&STANDARD.encode(bytes)))
}

/// Unpacks a UserSig without verifying it.
pub fn decode(usersig: &str) -> Result<Claims, Unreadable> {
    let packed = unpack(usersig)?;
    Ok(Claims {
        identifier: packed.identifier,
        sdkappid: packed.sdkappid,
        made_at_unix: packed.time,
        lifetime_s: packed.expire,
        userbuf: packed.userbuf,
        sig: SecretString::from(packed.sig),
    })
}

/// Says whether `usersig` was made for `identity` with `key` and still holds at `now_unix`.
pub fn verify(
    usersig: &str,
    identity: &Identity,
    key: &SecretString,
    now_unix: i64,
) -> Result<(), SigFault> {
    let claims = decode(usersig).map_err(|Unreadable| SigFault::Undecodable)?;
    if claims.identifier != identity.identifier {
        return Err(SigFault::OtherIdentifier);
    }
    if claims.sdkappid != identity.sdkappid {
        return Err(SigFault::OtherSdkappid);
    }
    if !claims.signed_with(key) {
        return Err(SigFault::WrongKey);
    }
    if claims.expires_at_unix() <= now_unix {
        return Err(SigFault::Expired);
    }
    Ok(())
}

impl Claims {
    /// The first second at which it holds no more, in Unix seconds.
    pub fn expires_at_unix(&self) -> i64 {
        self.made_at_unix.saturating_add_unsigned(self.lifetime_s)
    }

    fn signed_with(&self, key: &SecretString) -> bool {
        let Ok(sig) = STANDARD.decode(self.sig.expose_secret()) else { return false };
        let text = signed_text(&Signed {
            identifier: &self.identifier,
            sdkappid: self.sdkappid,
            time: self.made_at_unix,
            expire: self.lifetime_s,
            userbuf: self.userbuf.as_deref(),
        });
        mac(key, &text).verify_slice(&sig).is_ok()
    }
}

const VERSION: &str = "2.0";

/// The JSON inside a UserSig.
#[derive(Serialize, Deserialize)]
struct Packed {
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

impl Packed {
    fn signed_text(&self) -> String {
        signed_text(&Signed {
            identifier: &self.identifier,
            sdkappid: self.sdkappid,
            time: self.time,
            expire: self.expire,
            userbuf: self.userbuf.as_deref(),
        })
    }
}

/// The fields under the MAC.
struct Signed<'a> {
    identifier: &'a str,
    sdkappid: u64,
    time: i64,
    expire: u64,
    userbuf: Option<&'a str>,
}

fn signed_text(signed: &Signed<'_>) -> String {
    let Signed { identifier, sdkappid, time, expire, userbuf } = signed;
    let mut text = format!(
        "TLS.identifier:{identifier}\nTLS.sdkappid:{sdkappid}\nTLS.time:{time}\nTLS.expire:{expire}\n"
    );
    if let Some(userbuf) = userbuf {
        text.push_str(&format!("TLS.userbuf:{userbuf}\n"));
    }
    text
}

/// The key is the characters as they stand; it looks like hexadecimal but is not decoded.
fn mac(key: &SecretString, text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac
}

fn unpack(usersig: &str) -> Result<Packed, Unreadable> {
    let bytes = STANDARD.decode(from_url_alphabet(usersig)?).map_err(|_| Unreadable)?;
    let mut json = Vec::new();
    ZlibDecoder::new(bytes.as_slice())
        .take(MAX_UNPACKED_BYTES)
        .read_to_end(&mut json)
        .map_err(|_| Unreadable)?;
    let packed: Packed = serde_json::from_slice(&json).map_err(|_| Unreadable)?;
    if packed.ver == VERSION { Ok(packed) } else { Err(Unreadable) }
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

/// Characters of the plain alphabet are refused: they do not survive in a query string.
fn from_url_alphabet(text: &str) -> Result<String, Unreadable> {
    text.chars()
        .map(|c| match c {
            '*' => Ok('+'),
            '-' => Ok('/'),
            '_' => Ok('='),
            '+' | '/' | '=' => Err(Unreadable),
            c => Ok(c),
        })
        .collect()
}

#[cfg(test)]
mod tests;
