//! The admin port: where it listens, and who may see what there.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::ExposeSecret as _;

use super::raw_config::RawConfig;
use crate::adapters::admin::AdminSettings;

/// Whether there is an admin port.
pub(super) enum AdminListen {
    Disabled,
    At(SocketAddr),
}

impl AdminListen {
    pub(super) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Disabled => None,
            Self::At(address) => Some(address),
        }
    }
}

pub(super) fn listen(raw: &mut RawConfig) -> Option<AdminListen> {
    let wanted = "an IP address and a port, as \"127.0.0.1:9464\", or \"\" for none";
    raw.parsed("admin.listen", wanted, |text| match text {
        "" => Some(AdminListen::Disabled),
        _ => text.parse().ok().map(AdminListen::At),
    })
}

pub(super) fn settings(raw: &mut RawConfig) -> Option<AdminSettings> {
    let hosts = raw.texts_or_none("admin.hosts");
    let show_ids = raw.flag("admin.show_ids");
    let token_name = "admin.token_file";
    // Read as a secret, because some people paste the token itself.
    let token_file = raw.secret(token_name);
    let token_file = token_file.map(|file| PathBuf::from(file.value.expose_secret()));
    if raw.has_problem(token_name) {
        return None;
    }
    Some(AdminSettings { hosts: hosts?, show_ids: show_ids?, token_file })
}
