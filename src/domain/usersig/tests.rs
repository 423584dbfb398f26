//! Vectors from Tencent's published libraries, the faults, and properties for any identity and key.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const K1: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
const K2: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Signed by Tencent's Python library; its npm library returns the last one too.
const LIBRARY_MADE: [&str; 4] = [
    "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkKjIT87NK82CSxSnZiQUFmSlAKUMTAyiAyqVWFGQWpYJkTE1NjRDiJZm5YFFzNPXFmekgG3zKHM1T9D3LzdODi-OKs8vCqpxcAvydnV2SSv2cy03cPcpDnA2SMgu0nUxslWoBHdYzUg__",
    "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-NgUsUp2YkFBZkpQAkLKIDKpFYUZBalgsTNTAwMoIIlmbkgIUNzM3MjI1MzuHhxZjrI6DAfY-cM79Ss0KqqoAKf4Hx3l2LLgJTkIl-3wCjHyHKTgAKLPAMDR1PzgGRbpVoA1S4xtw__",
    "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-Myi0uKEkvyi2BKilOyEwsKMlOACowMwMAQKpNaUZBZlAoUNzYzMICKlWTmgkQMzY1NzSwsEeLFmekgG-IsSw20PXJScvwqzYLy3AzMw8wi9fUzclKKjEy180Kd83I9ywzCqgIty5JtlWoBtdY0iA__",
    "eJw9yssKwjAQheF3mW2lnbY0tQFXgiiI4K3gspiog0ksSQxe8N2FVDy7-*O8YbfcpkFa4FCkCKPYJKTxdKLIndBkyHnb*Zv9HZy4dn1PAniBcfngnrQEntdlxcYNQxxUPnqyEnj5F0dn4GCaOyZzJdTqyTZmhnXLDll2UcIWVWL2U6MXAdvXugnHCXy*LAwzKA__",
];

struct SignatureVector {
    sdkappid: u64,
    key: &'static str,
    identifier: &'static str,
    expire: u64,
    time: i64,
    sig: &'static str,
}

const VECTORS: [SignatureVector; 3] = [
    SignatureVector {
        sdkappid: 1_400_000_000,
        key: K1,
        identifier: "xiaojun",
        expire: 15_552_000,
        time: 1_700_000_000,
        sig: "LvA7d/Iw7gSsnskvVzBDPOCCDbuNCw4GHwTC0bip+B4=",
    },
    SignatureVector {
        sdkappid: 88_888_888,
        key: K2,
        identifier: "admin",
        expire: 86_400,
        time: 1_767_225_600,
        sig: "VL3GhKejUzzRpLSoGDs9PdcrMGQZAYw4Pp8n00A57Pc=",
    },
    SignatureVector {
        sdkappid: 20_000_001,
        key: K1,
        identifier: "administrator",
        expire: 3_600,
        time: 1_735_689_600,
        sig: "n9u0+HldlNy6RnF07V6Y//hldr25+nUCnmIv0VzQ9vc=",
    },
];

impl SignatureVector {
    fn identity(&self) -> Identity {
        Identity { sdkappid: self.sdkappid, identifier: self.identifier.to_owned() }
    }

    fn key(&self) -> SecretString {
        SecretString::from(self.key)
    }
}

#[test]
fn signatures_equal_those_of_the_published_libraries() {
    for vector in VECTORS {
        let usersig = sign(&vector.identity(), &vector.key(), vector.time, vector.expire);
        let usersig = usersig.expose_secret();
        assert!(usersig.bytes().all(|b| b.is_ascii_alphanumeric() || b"*-_".contains(&b)));
        let packed = serde_json::to_value(unpack(usersig).unwrap()).unwrap();
        let expected = json!({
            "TLS.ver": "2.0", "TLS.identifier": vector.identifier,
            "TLS.sdkappid": vector.sdkappid, "TLS.expire": vector.expire,
            "TLS.time": vector.time, "TLS.sig": vector.sig,
        });
        assert_eq!(packed, expected);
    }
}

#[test]
fn strings_of_the_published_libraries_decode_and_verify() {
    for (usersig, vector) in LIBRARY_MADE.iter().zip([0, 1, 2, 2].map(|i| &VECTORS[i])) {
        let claims = decode(usersig).unwrap();
        assert_eq!(claims.identifier, vector.identifier);
        assert_eq!(claims.sdkappid, vector.sdkappid);
        assert_eq!(claims.made_at_unix, vector.time);
        assert_eq!(claims.lifetime_s, vector.expire);
        assert_eq!(claims.sig.expose_secret(), vector.sig);
        assert_eq!(verify(usersig, &vector.identity(), &vector.key(), vector.time), Ok(()));
    }
}

#[test]
fn the_signature_covers_the_user_buffer() {
    let claims = UserSigClaims {
        identifier: "xiaojun".into(),
        sdkappid: 1_400_000_000,
        made_at_unix: 1_700_000_000,
        lifetime_s: 15_552_000,
        userbuf: Some("YWJj".into()),
        sig: SecretString::from("QjT201xPkXk/aM1e+y0vakZb0K2iPrFue++0s5y6bFM="),
    };
    assert!(claims.signed_with(&SecretString::from(K1)));
    assert!(!UserSigClaims { userbuf: None, ..claims }.signed_with(&SecretString::from(K1)));
}

#[test]
fn each_fault_has_the_code_of_desk() {
    let [vector, other, _] = &VECTORS;
    let (identity, key, now) = (vector.identity(), vector.key(), vector.time);
    let good = sign(&identity, &key, now, 60);
    let good = good.expose_secret();
    let stranger = Identity { identifier: "somebody".into(), ..identity.clone() };
    let elsewhere = Identity { sdkappid: 7, ..identity.clone() };
    let rows = [
        (verify(good, &identity, &key, now + 59), Ok(())),
        (verify(good, &identity, &key, now + 60), Err(70001)),
        (verify(&good[..good.len() - 8], &identity, &key, now), Err(70003)),
        (verify("", &identity, &key, now), Err(70003)),
        (verify("eJy+/=", &identity, &key, now), Err(70003)),
        (verify(good, &identity, &other.key(), now), Err(70009)),
        (verify(good, &stranger, &key, now), Err(70013)),
        (verify(good, &elsewhere, &key, now), Err(70014)),
    ];
    for (row, (got, expected)) in rows.into_iter().enumerate() {
        assert_eq!(got.map_err(UserSigFault::code), expected, "row {row}");
    }
}

#[test]
fn debug_output_of_claims_and_signature_hides_the_secret() {
    let printed = format!("{:?}", decode(LIBRARY_MADE[0]).unwrap());
    assert!(!printed.contains(VECTORS[0].sig));
    let usersig = sign(&VECTORS[0].identity(), &VECTORS[0].key(), 0, 1);
    assert!(!format!("{usersig:?}").contains(usersig.expose_secret()));
}

proptest! {
    #[test]
    fn a_signature_verifies_until_its_last_second(
        sdkappid in any::<u64>(),
        identifier in "[^\n]{1,64}",
        key in ".{0,80}",
        made_at in -1_000_000_000i64..4_000_000_000,
        lifetime in 1u64..2_000_000_000,
    ) {
        let identity = Identity { sdkappid, identifier };
        let key = SecretString::from(key);
        let usersig = sign(&identity, &key, made_at, lifetime);
        let last_second = made_at + lifetime as i64 - 1;
        prop_assert_eq!(verify(usersig.expose_secret(), &identity, &key, last_second), Ok(()));
    }

    #[test]
    fn no_text_panics_the_decoder(text in ".{0,200}") {
        prop_assert!(decode(&text).is_err());
    }
}
