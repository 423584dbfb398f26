//! Tencent's data centres: a region's name, its host and its backup host.
//!
//! An app lives in one of them. Mumbai stands only on older pages of Tencent, Saudi Arabia on
//! none that we know; the other hosts are on the current pages.
//! This file never guesses: a name that is not in the table is no region.

/// One data centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    /// The name in the configuration.
    pub(super) name: &'static str,
    host: &'static str,
    backup_host: &'static str,
}

impl Region {
    /// Where Desk is.
    pub(super) fn endpoint(self) -> String {
        format!("https://{}", self.host)
    }

    /// Where to go when that cannot be reached.
    pub(super) fn backup_endpoint(self) -> String {
        format!("https://{}", self.backup_host)
    }
}

const fn region(name: &'static str, host: &'static str, backup_host: &'static str) -> Region {
    Region { name, host, backup_host }
}

/// All of them.
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

/// The region of this name; upper case, blanks and hyphens do not matter.
pub(super) fn find(name: &str) -> Option<Region> {
    let name = name.to_lowercase().replace(['-', ' '], "_");
    REGIONS.iter().copied().find(|region| region.name == name)
}

/// All names, for people.
pub(super) fn names() -> String {
    REGIONS.iter().map(|region| region.name).collect::<Vec<_>>().join(", ")
}
