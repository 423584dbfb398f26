//! A secret in a file of its own: read again for each use, so that a rotated one needs no restart.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use secrecy::SecretString;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// Limit for reading the file, which may be on a mount that hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Tencent's keys have 64 characters; some databases take a token of 2,000 as the password.
const MAX_BYTES: u64 = 4096;

/// Reads the secret, without line ends behind it. Fails if the file cannot be read in time, is empty
/// or too long; the error names `setting`, the key of the configuration that names the file.
pub(crate) async fn read(setting: &str, path: &Path) -> anyhow::Result<SecretString> {
    let what = describe(setting, path);
    let text = timeout(READ_TIMEOUT, read_start(path));
    let text = text.await.map_err(anyhow::Error::from).and_then(|t| Ok(t?));
    let text = text.with_context(|| format!("failed to read {what}"))?;
    ensure!(text.len() as u64 <= MAX_BYTES, "{what} is too long for a secret");
    let secret = text.trim_end_matches(['\r', '\n']);
    ensure!(!secret.is_empty(), "{what} is empty");
    Ok(secret.to_owned().into())
}

/// Reads one byte more than a secret may have: a device such as /dev/zero has no end.
async fn read_start(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path).await?.take(MAX_BYTES + 1).read_to_string(&mut text).await?;
    Ok(text)
}

/// The setting and its file for an error text. Users sometimes paste the secret itself as the file
/// name; such a value is not shown.
pub(super) fn describe(setting: &str, path: &Path) -> String {
    let name = path.display().to_string();
    let looks_like_a_secret =
        name.len() >= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let hidden = "(its value looks like a secret, not a file)";
    format!("{setting} {}", if looks_like_a_secret { hidden } else { &name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_file_has_an_end_and_a_content() {
        let error = async |path: &str| {
            let error = read("desk.secret_key_file", Path::new(path)).await.unwrap_err();
            format!("{error:#}")
        };
        let endless = error("/dev/zero").await;
        assert_eq!(endless, "desk.secret_key_file /dev/zero is too long for a secret");
        assert_eq!(error("/dev/null").await, "desk.secret_key_file /dev/null is empty");
        let pasted = error("0123456789abcdef0123456789abcdef").await;
        assert!(pasted.contains("looks like a secret") && !pasted.contains("abcdef"), "{pasted}");
    }
}
