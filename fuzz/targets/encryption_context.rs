use cmk_operator::kms::EncryptionContext;

/// An encryption context as JSON.
pub fn run(data: &[u8]) {
    let Ok(context) = serde_json::from_slice::<EncryptionContext>(data) else { return };
    let again: EncryptionContext = serde_json::from_str(&context.to_json()).expect("what was written is well-formed");
    assert!(again == context && again.encode() == context.encode());
    assert!(context.is_empty() == (context.encode() == EncryptionContext::new().encode()));
    assert!(context.iter().all(|(name, value)| context.get(name) == Some(value)));
    let _ = context.check_size();
}
