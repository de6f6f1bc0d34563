use std::fmt::Write;

use cmk_operator::server::alibaba::Parameters;

/// A query and, after a line feed, a form.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (query, form) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(parameters) = Parameters::parse(query, form) else { return };
    let pairs: Vec<_> = parameters.iter().collect();
    assert!(pairs.len() <= Parameters::MAX);
    assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0), "sorted, each name once");
    assert!(pairs.iter().all(|(name, value)| parameters.get(name) == Some(value)));

    // Written in one form, they are read as the same.
    let encoded = |text: &str| {
        text.bytes().fold(String::new(), |mut encoded, byte| {
            write!(encoded, "%{byte:02x}").expect("a String takes all");
            encoded
        })
    };
    let written: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let written = written.join("&");
    let again = Parameters::parse("", &written).expect("what was written is well-formed");
    assert!(again == parameters);
}
