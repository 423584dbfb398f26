//! The section `[desk]`: endpoint, identity and secret key.

use super::*;

#[test]
fn every_region_has_an_endpoint_and_a_backup() {
    for region in regions::REGIONS {
        let config = good("", &[("HANDOFF__DESK__REGION", region.name)]);
        assert_eq!(config.desk.endpoint, region.endpoint());
        assert_eq!(config.desk.backup_endpoint, Some(region.backup_endpoint()));
    }
    let config = good("[desk]\nregion = \"Silicon Valley\"", &[]);
    assert_eq!(config.desk.endpoint, "https://adminapiusa.im.qcloud.com");
    assert!(DEFAULTS.replace("\n# ", " ").contains("mumbai or saudi_arabia"));
    check(
        "[desk]\nregion = \"mars\"",
        &[],
        &["`desk.region` = \"mars\" in F: must be one of china, singapore, seoul, tokyo, \
           frankfurt, silicon_valley, jakarta, mumbai, saudi_arabia"],
    );
}

#[test]
fn region_or_endpoint_of_the_later_origin_wins() {
    let address = |toml: &str, env: &[(&str, &str)]| {
        let desk = good(toml, env).desk;
        (desk.endpoint, desk.backup_endpoint)
    };
    let both = "[desk]\nendpoint = \"https://a.example/\"\nbackup_endpoint = \"http://b:8080\"";
    let pair = |a: &str, b: Option<&str>| (a.to_owned(), b.map(str::to_owned));
    assert_eq!(address(both, &[]), pair("https://a.example", Some("http://b:8080")));
    assert_eq!(
        address(both, &[("HANDOFF__DESK__ENDPOINT", "http://127.0.0.1:1")]),
        pair("http://127.0.0.1:1", None),
        "the backup of another endpoint is not its backup"
    );
    assert_eq!(
        address(both, &[("HANDOFF__DESK__BACKUP_ENDPOINT", "http://c")]),
        pair("https://a.example", Some("http://c"))
    );
    assert_eq!(
        address(both, &[("HANDOFF__DESK__REGION", "seoul")]),
        pair("https://adminapikr.im.qcloud.com", Some("https://adminapikr.my-imcloud.com"))
    );
    check(
        "[desk]\nregion = \"seoul\"\nendpoint = \"https://a\"",
        &[],
        &["`desk.region` and `desk.endpoint` are both set in F: keep one of them"],
    );
    check(
        "[desk]\nbackup_endpoint = \"https://a\"",
        &[],
        &["`desk.backup_endpoint` goes with `desk.endpoint` only: a region brings its own, \
           remove it"],
    );
}

#[test]
fn an_endpoint_is_scheme_host_and_port() {
    let wanted = "must be a URL of scheme, host and optional port, as https://console.tim.qq.com";
    for bad in ["console.tim.qq.com", "ftp://a", "https://a/v4", "https://a?x=1", "https://", "a:1"]
    {
        check(
            "",
            &[("HANDOFF__DESK__ENDPOINT", bad), ("HANDOFF__DESK__BACKUP_ENDPOINT", bad)],
            &[
                &format!("`desk.backup_endpoint` = {bad:?} in the environment: {wanted}"),
                &format!("`desk.endpoint` = {bad:?} in the environment: {wanted}"),
            ],
        );
    }
    check(
        "",
        &[("HANDOFF__DESK__ENDPOINT", "https://me:pass@a")],
        &[&format!("`desk.endpoint` = \"..@..\" in the environment: {wanted}")],
    );
}

#[test]
fn a_secret_that_looks_like_another_type_stays_unchanged() {
    for key in ["0012345", "1e5", "TRUE", "a,b", "-7", "ü€ \"'"] {
        assert_eq!(key_of(&good("", &[("HANDOFF__DESK__SECRET_KEY", key)])), key);
    }
    let needed = &NEEDED[..2];
    let file = "[desk]\nsecret_key = \"0012345\"";
    assert_eq!(load_exactly(file, needed).map(|config| key_of(&config)).unwrap(), "0012345");
}

#[test]
fn key_or_key_file_of_the_later_origin_wins() {
    let needed = &NEEDED[..2];
    let file = "[desk]\nsecret_key_file = \"/run/key\"";
    let loaded = |toml, env| load_exactly(toml, env).map(|config| key_of(&config)).unwrap();
    assert_eq!(loaded(file, needed), "file /run/key");
    assert_eq!(loaded(file, &NEEDED), "s3cr3t");
    let env = [needed, &[("HANDOFF__DESK__SECRET_KEY_FILE", "/other")]].concat();
    assert_eq!(loaded("[desk]\nsecret_key = \"k\"", &env), "file /other");
    check(
        "",
        &[("HANDOFF__DESK__SECRET_KEY_FILE", "/run/key")],
        &["`desk.secret_key` and `desk.secret_key_file` are both set in the environment: keep \
           one of them"],
    );
}

#[test]
fn no_message_and_no_debug_output_shows_a_secret() {
    let key = "k3y-nobody-sees";
    let property = "\n[kafka.properties]\n\"sasl.password\" = \"k3y-nobody-sees\"";
    let config = good(property, &[("HANDOFF__DESK__SECRET_KEY", key)]);
    assert!(!format!("{config:?} {config:#?}").contains(key));
    for toml in [
        "[desk]\nsecret_key = \"k3y-nobody-sees",
        "[desk]\nsecret_key = \"k3y-nobody-sees\\q\"",
        "[desk]\nsecret_key = k3y-nobody-sees",
        "[desk]\nsecret_key = \"\"\"\nk3y-nobody-sees\n\"\"\"",
        "[desk]\nsecret_key = [\"k3y-nobody-sees\"]",
        "[desk]\nsecret_key.value = \"k3y-nobody-sees\"",
        "[desk]\nsecretkey = \"k3y-nobody-sees\"",
        "[desk]\nsecret_key_file = \"k3y-nobody-sees\\n\"",
        "[desk]\nk3y-nobody-sees",
        "[desk]\nsecret_key = \"k3y-nobody-sees\"\nsecret_key = \"k3y-nobody-sees\"",
        "[kafka.properties]\n\"sasl.password\" = [\"k3y-nobody-sees\"]",
    ] {
        let problems = load_exactly(toml, &NEEDED[..2]).unwrap_err();
        assert!(!problems.contains(key), "{problems}");
    }
    let padded = [&NEEDED[..2], &[("HANDOFF__DESK__SECRET_KEY", "k3y-nobody-sees\n")]].concat();
    assert_eq!(
        lines(load_exactly("", &padded)),
        ["`desk.secret_key` in the environment: must be text, not empty, without line breaks, \
          and without blanks at its ends"]
    );
}
