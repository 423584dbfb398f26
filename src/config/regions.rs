//! Tencent's data centres: a region's name, its host and its backup host.
//!
//! The hosts are on Tencent's current pages, with two exceptions: Mumbai's is only on older pages,
//! Saudi Arabia's on none that we know.

/// One data centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    /// Its name in the configuration.
    pub(super) name: &'static str,
    host: &'static str,
    backup_host: &'static str,
}

impl Region {
    /// The URL of Desk.
    pub(super) fn endpoint(self) -> String {
        format!("https://{}", self.host)
    }

    /// The URL to use while that one cannot be reached.
    pub(super) fn backup_endpoint(self) -> String {
        format!("https://{}", self.backup_host)
    }
}

const fn region(name: &'static str, host: &'static str, backup_host: &'static str) -> Region {
    Region { name, host, backup_host }
}

/// All data centres.
pub(super) const REGIONS: &[Region] = &[
    region("china", "console.tim.qq.com", "adminapi.my-imcloud.com"),
    region("singapore", "adminapisgp.im.qcloud.com", "adminapisgp.my-imcloud.com"),
    region("seoul", "adminapikr.im.qcloud.com", "adminapikr.my-imcloud.com"),
    region("tokyo", "adminapijpn.im.qcloud.com", "adminapijpn.my-imcloud.com"),
    region("frankfurt", "adminapiger.im.qcloud.com", "adminapiger.my-imcloud.com"),
    region("silicon_valley", "adminapiusa.im.qcloud.com", "adminapiusa.my-imcloud.com"),
    region("jakarta", "adminapiidn.im.qcloud.com", "adminapiidn.my-imcloud.com"),
    region("mumbai", "adminapiind.im.qcloud.com", "adminapiind.my-imcloud.com"),
    region("saudi_arabia", "adminapiksa.im.qcloud.com", "adminapiksa.my-imcloud.com"),
];

/// Finds a region by name. Case does not matter, and blanks and hyphens count as underscores.
pub(super) fn find(name: &str) -> Option<Region> {
    let name = name.to_lowercase().replace(['-', ' '], "_");
    REGIONS.iter().copied().find(|region| region.name == name)
}

/// All names, for a message.
pub(super) fn names() -> String {
    REGIONS.iter().map(|region| region.name).collect::<Vec<_>>().join(", ")
}
