use cmk_operator::server::operations::KeyReference;

/// A key as a request names it.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match KeyReference::parse(text) {
        KeyReference::Id(id) => assert!(text.eq_ignore_ascii_case(&id.to_string())),
        KeyReference::Alias(alias) => assert_eq!(alias, text),
        KeyReference::Arn { region, account_id, .. } => assert!(text.contains(region) && text.contains(account_id)),
        KeyReference::Unknown(unknown) => assert_eq!(unknown, text),
    }
}
