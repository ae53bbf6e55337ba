use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("device.toml"))
}

/// A file with these lines after its schema.
fn with(lines: &str) -> Result<Config, ConfigError> {
    parse(&format!("schema = \"{SCHEMA}\"\n{lines}"))
}

fn refusal(lines: &str) -> String {
    with(lines).unwrap_err().to_string()
}

#[test]
fn the_documented_file_holds_every_key_at_its_default() {
    let config = parse(DOCUMENTED).unwrap();
    assert_eq!(config, Config::for_command_line());
    let ours = toml::Table::try_from(&config).unwrap();
    assert_eq!(
        ours.iter().flat_map(|(k, v)| keys(k, v)).collect::<std::collections::BTreeSet<_>>(),
        documented().iter().flat_map(|(k, v)| keys(k, v)).collect()
    );
    // And each is explained by a comment in the lines before it.
    let mut commented = false;
    for line in DOCUMENTED.lines() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(commented, "{line} has no comment");
        }
        commented = line.starts_with('#');
    }
}

fn keys(name: &str, value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::Table(table) => table.keys().map(|inner| format!("{name}.{inner}")).collect(),
        _ => vec![name.to_owned()],
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = with("[serial]\ndevice = \"/dev/ttyUSB0\"\n[model]\nthreads = 2").unwrap();
    assert_eq!((config.serial.device.as_str(), config.serial.baud, config.model.threads), ("/dev/ttyUSB0", 115_200, 2));
    assert!(config.has_output());
    assert!(!with("").unwrap().has_output());
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    assert_eq!(
        refusal("[source]\nurl = \"x\""),
        "configuration device.toml: line 3: unknown key `source.url`; did you mean `source.uri`?"
    );
    assert!(
        refusal("[serial]\n\n\nbuad = 9600").contains("line 5: unknown key `serial.buad`; did you mean `serial.baud`?")
    );
    assert!(refusal("baud = 9600").contains("did you mean `serial.baud`?"));
    assert!(refusal("[diplay]\nuri = \"\"").contains("unknown key `diplay`; did you mean `display`?"));
    assert!(refusal("[network]\nwifi = 1").contains("unknown key `network`; `hoi-device config` prints all keys"));
}

#[test]
fn another_version_is_refused() {
    for (text, words) in [
        ("", "does not say of which version"),
        ("schema = \"hoi.device/2\"\n[future]\nx = 1", "it is of version `hoi.device/2`"),
        ("schema = 1", "no text"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, ConfigError::Version { .. }), "{error}");
        assert!(error.to_string().contains(words) && error.to_string().contains(SCHEMA), "{error}");
    }
}

#[test]
fn values_out_of_range_and_of_another_type_say_what_is_possible() {
    for (lines, words) in [
        ("[source]\nstall_s = 0.0", "source.stall_s = 0: 0.1 to 600 is possible"),
        ("[source]\nstall_s = nan", "0.1 to 600"),
        ("[source]\nuri = \"\"", "a source is needed"),
        ("[model]\nthreads = 0", "1 to 256"),
        ("[model]\nmin_score = 1.5", "0 to 1"),
        ("[model]\nconfirm_frames = 0", "1 to 1000000"),
        ("[serial]\nbaud = 4", "50 to 4000000"),
        ("[serial]\nprotocol = \"json\"", "jsonl"),
        ("[serial]\nstatus_s = -1.0", "0.1 to 3600"),
        ("[board]\nname = \"arduino\"", "raspberry_pi"),
        ("[serial]\nbaud = \"fast\"", "line 3"),
        ("[serial]\nbaud = -1", "line 3"),
        ("[serial\n", "line 2"),
        ("serial = 3", "serial"),
    ] {
        let said = refusal(lines);
        assert!(said.starts_with("configuration device.toml: "), "{said}");
        assert!(said.contains(words) && !said.contains('\n'), "{lines}: {said}");
    }
}

#[test]
fn files_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("device.toml");
    assert!(matches!(Config::read(&path), Err(ConfigError::Read { .. })));
    assert!(matches!(Config::read(folder.path()), Err(ConfigError::Read { .. })));
    std::fs::write(&path, [b'#', 0xff]).unwrap();
    assert!(matches!(Config::read(&path), Err(ConfigError::Read { .. })));
    std::fs::write(&path, "#".repeat(MAX_BYTES as usize + 1)).unwrap();
    assert!(matches!(Config::read(&path), Err(ConfigError::TooLarge { .. })));
    assert!(matches!(Config::read(Path::new("/dev/zero")), Err(ConfigError::TooLarge { .. })));
    std::fs::write(&path, DOCUMENTED).unwrap();
    Config::read(&path).unwrap();
}
