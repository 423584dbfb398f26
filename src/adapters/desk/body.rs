//! The body of a response, decompressed where its header says so.
//!
//! No call asks for compression, but a proxy between here and Desk may compress without being asked.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

/// Returns the content of a body, at most `max_bytes` of it. A body that cannot be decompressed stays
/// as it is: the header may be wrong.
pub(super) fn content(headers: &HeaderMap, body: Vec<u8>, max_bytes: usize) -> Vec<u8> {
    let encoding = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    let unpacked = match encoding.as_str() {
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(&*body), max_bytes),
        // Named after deflate, it is zlib by its standard; some servers send bare deflate.
        "deflate" => read(ZlibDecoder::new(&*body), max_bytes)
            .or_else(|| read(DeflateDecoder::new(&*body), max_bytes)),
        _ => None,
    };
    unpacked.unwrap_or(body)
}

fn read(decoder: impl Read, max_bytes: usize) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    decoder.take(max_bytes as u64).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = br#"{"ErrorCode":0}"#;

    fn check(encoding: &str, body: Vec<u8>, expected: &[u8]) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        assert_eq!(content(&headers, body, 1_000), expected, "{encoding}");
    }

    #[test]
    fn a_body_is_decompressed_as_its_header_says() {
        let level = Compression::fast();
        let packed = |encoder: &mut dyn Read| {
            let mut packed = Vec::new();
            encoder.read_to_end(&mut packed).unwrap();
            packed
        };
        let gzip = packed(&mut GzEncoder::new(TEXT, level));
        check("gzip", gzip.clone(), TEXT);
        check(" GZIP ", gzip.clone(), TEXT);
        check("x-gzip", gzip, TEXT);
        check("deflate", packed(&mut ZlibEncoder::new(TEXT, level)), TEXT);
        check("deflate", packed(&mut DeflateEncoder::new(TEXT, level)), TEXT);
        check("identity", TEXT.to_vec(), TEXT);
        // The header is wrong.
        check("gzip", TEXT.to_vec(), TEXT);
        assert_eq!(content(&HeaderMap::new(), TEXT.to_vec(), 1_000), TEXT);
        // A small body may not unpack to a large one.
        let zeros = vec![0; 1_000_000];
        let bomb = packed(&mut GzEncoder::new(&*zeros, level));
        check("gzip", bomb, &zeros[..1_000]);
    }
}
