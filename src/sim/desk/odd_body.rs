//! Bodies that are right in substance and odd in form, as gateways and older parts of an API write them.

use std::io::Read as _;

use flate2::Compression;
use flate2::read::{GzEncoder, ZlibEncoder};
use serde::{Deserialize, Serialize};

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddForm {
    /// A byte order mark before the JSON.
    ByteOrderMark,
    /// `ErrorInfo` has a UTF-8 character without its last byte.
    CutCharacter,
    /// `ErrorInfo` is in GBK; the second byte of its last character is a backslash.
    Gbk,
    /// `ErrorInfo` has half an emoji.
    LoneSurrogate,
    /// `ErrorInfo` has control characters that are not escaped.
    ControlCharacter,
    /// Compressed, with the header.
    Gzip,
    /// Compressed, with the header.
    Deflate,
}

impl OddForm {
    /// All forms.
    pub const ALL: [Self; 7] = [
        Self::ByteOrderMark,
        Self::CutCharacter,
        Self::Gbk,
        Self::LoneSurrogate,
        Self::ControlCharacter,
        Self::Gzip,
        Self::Deflate,
    ];

    /// The value of `Content-Encoding`, where there is one.
    pub(super) fn encoding(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            _ => None,
        }
    }

    /// Returns the JSON of an answer in this form.
    pub(super) fn write(self, json: &[u8]) -> Vec<u8> {
        let mut written = Vec::new();
        // Reading from memory cannot fail.
        let packed = match self {
            Self::ByteOrderMark => return [b"\xef\xbb\xbf", json].concat(),
            Self::CutCharacter => return with_info(json, b"\xe4\xbd"),
            Self::Gbk => return with_info(json, b"\xd7\xf9\xcf\xaf\xc3\xa6\x95\\"),
            Self::LoneSurrogate => return with_info(json, br"\ud83d"),
            Self::ControlCharacter => return with_info(json, b"\t\x01"),
            Self::Gzip => GzEncoder::new(json, Compression::fast()).read_to_end(&mut written),
            Self::Deflate => ZlibEncoder::new(json, Compression::fast()).read_to_end(&mut written),
        };
        packed.expect("memory can be read");
        written
    }
}

/// Replaces `ErrorInfo`, whose usual texts have no quotes.
fn with_info(json: &[u8], info: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\"ErrorInfo\":\"";
    let start = json.windows(NAME.len()).position(|window| window == NAME);
    let start = start.map_or(json.len(), |start| start + NAME.len());
    let end = json[start..].iter().position(|byte| *byte == b'"').map_or(start, |end| start + end);
    [&json[..start], info, &json[end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_form_changes() {
        let json = br#"{"ErrorCode":7,"ErrorInfo":"why","ActionStatus":"FAIL"}"#;
        let gbk = OddForm::Gbk.write(json);
        assert!(gbk.starts_with(br#"{"ErrorCode":7,"ErrorInfo":""#));
        assert!(gbk.ends_with(b"\x95\\\",\"ActionStatus\":\"FAIL\"}"));
        assert_eq!(OddForm::ByteOrderMark.write(json)[3..], json[..]);
        let mut read = String::new();
        let packed = OddForm::Gzip.write(json);
        flate2::read::GzDecoder::new(&*packed).read_to_string(&mut read).unwrap();
        assert_eq!(read.as_bytes(), json);
    }
}
