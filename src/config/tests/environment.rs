//! Variables: encoding, conflicts, lists.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::{check, good, load, owned};
use crate::config::utf8_variables;

#[test]
fn a_variable_is_utf8_and_sets_a_key_once() {
    let bad = || OsString::from_vec(vec![b'k', 0xff]);
    let name = |text: &str| OsString::from(text);
    let env = [(bad(), bad()), (name("OTHER"), bad()), (name("HANDOFF__A"), name("1"))];
    assert_eq!(utf8_variables(env).unwrap(), owned(&[("HANDOFF__A", "1")]));
    let unread = utf8_variables([(name("HANDOFF_B"), bad())]).unwrap();
    assert_eq!(unread, owned(&[("HANDOFF_B", "")]), "it sets nothing");
    let error = utf8_variables([(name("HANDOFF__DESK__SECRET_KEY"), bad())]).unwrap_err();
    let expected = "the value of HANDOFF__DESK__SECRET_KEY is not UTF-8";
    assert!(error.to_string().ends_with(expected), "{error}");
    for (one, other) in [
        ("HANDOFF__LOG__LEVEL", "HANDOFF__log__level"),
        ("HANDOFF__LOG.LEVEL", "HANDOFF__LOG__LEVEL"),
        (
            "HANDOFF__KAFKA__PROPERTIES__SASL.MECHANISM",
            "HANDOFF__KAFKA__PROPERTIES__SASL_MECHANISM",
        ),
    ] {
        let error = load(None, owned(&[(one, "info"), (other, "warn")])).unwrap_err().to_string();
        assert!(error.contains(&format!("{one} and {other} set the same key")), "{error}");
    }
}

#[test]
fn a_variable_that_looks_like_a_key_is_read_or_refused() {
    let error = |name: &str| {
        let error = utf8_variables([(OsString::from(name), OsString::from("1"))]).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    for name in ["HANDOFF_DESK__REGION", "handoff__desk__region", "Handoff_desk__Region"] {
        let refused = format!("the variable {name} is not read: write HANDOFF__DESK__REGION");
        assert!(error(name).ends_with(&refused), "{name}: {}", error(name));
    }
    for name in [
        "HANDOFF_CONFIG",
        "HANDOFF_TEST_KAFKA",
        "HANDOFF_CI_CONTAINER_TESTS",
        "HANDOFF_SIM_SECRET_KEY",
        "HANDOFF_PORT_9464_TCP",
        "HANDOFF",
        "OTHER__KEY",
    ] {
        assert_eq!(error(name), "", "{name}");
    }
}

#[test]
fn a_key_with_one_underscore_for_two_is_refused() {
    // Kubernetes sets the last three for services named handoff and handoff-admin.
    let variables = [
        "HANDOFF_DESK_TIMEOUT_MS",
        "HANDOFF_KAFKA_PROPERTIES_SECURITY_PROTOCOL",
        "HANDOFF_SERVICE_PORT",
        "HANDOFF_ADMIN_PORT",
        "HANDOFF_ADMIN_SERVICE_HOST",
    ];
    let refused = [
        "the variable HANDOFF_DESK_TIMEOUT_MS is not read: write HANDOFF__DESK__TIMEOUT_MS",
        "the variable HANDOFF_KAFKA_PROPERTIES_SECURITY_PROTOCOL is not read: write \
         HANDOFF__KAFKA__PROPERTIES__SECURITY_PROTOCOL",
    ];
    check("", &variables.map(|name| (name, "")), &refused);
}

#[test]
fn an_unknown_parameter_of_the_ledger_is_refused_without_its_value() {
    let url = "postgres://u:p@h/d?sslmode=require&pasword=s3cr3t";
    let error = load(None, owned(&[("HANDOFF__LEDGER__URL", url)])).unwrap_err().to_string();
    let refused = "`ledger.url` in the environment has an unknown parameter; there are ";
    assert!(error.contains(refused), "{error}");
    assert!(!error.contains("s3cr3t"), "{error}");
    for options in ["options[search_path]=x", "options%5Bsearch_path%5D=x"] {
        let known = format!("postgres://u:p@h/d?sslmode=require&{options}&application_name=a");
        let error = load(None, owned(&[("HANDOFF__LEDGER__URL", &known)])).unwrap_err().to_string();
        assert!(!error.contains("ledger.url"), "{error}");
    }
}

#[test]
fn a_list_in_the_environment_has_no_empty_items() {
    let park = |list: &'static str| [("HANDOFF__RETRY__PARK_MS", list)];
    assert_eq!(good("", &park("")).policy.retry.park, [std::time::Duration::ZERO; 0]);
    assert_eq!(good("", &park("1, 2")).policy.retry.park.len(), 2);
    let refused = "`retry.park_ms` = \"1,,2\" in the environment: must be a list of whole \
                   numbers from 1 to 86400000";
    check("", &park("1,,2"), &[refused]);
    let refused = "`escalation.types` is an empty list: must be a list of texts, at least one, \
                   none of them empty";
    check("", &[("HANDOFF__ESCALATION__TYPES", "")], &[refused]);
}

#[test]
fn the_password_of_the_ledger_has_one_place() {
    let env =
        |url| [("HANDOFF__LEDGER__URL", url), ("HANDOFF__LEDGER__PASSWORD_FILE", "/run/password")];
    good("", &env("postgres://me@db/handoff"));
    let error = |url| load(None, owned(&env(url))).unwrap_err().to_string();
    let both = "`ledger.password_file` is set, and `ledger.url` contains a password";
    for with_password in ["postgres://me:geheim@db/x", "postgres://me@db/x?password=geheim"] {
        let error = error(with_password);
        assert!(error.contains(both) && !error.contains("geheim"), "{error}");
    }
    let error = error("sqlite://handoff.db");
    assert!(error.contains("`ledger.password_file` is for a PostgreSQL ledger"), "{error}");
}

#[test]
fn a_value_in_place_of_a_section_is_rejected() {
    check(
        "retry = 5\n[kafka]\nproperties = \"a=b\"",
        &[("HANDOFF__DESK", "x")],
        &[
            "`desk` in the environment is a section, not a value: its keys go under [desk]",
            "`kafka.properties` in F is a section, not a value: its keys go under \
             [kafka.properties]",
            "`retry` in F is a section, not a value: its keys go under [retry]",
        ],
    );
}
