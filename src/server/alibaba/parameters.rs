//! The parameters of an RPC request: those of the query and those of a form in the body, in one list.

use std::borrow::Cow;

use zeroize::Zeroize;

/// Why parameters can't be read. The values are not in it: they may be plaintext.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// A name or value is not percent-encoded UTF-8.
    #[error("a parameter is not percent-encoded UTF-8")]
    NotUtf8,
    /// A `%` is not followed by two hexadecimal digits.
    #[error("a parameter has a % without two hexadecimal digits after it")]
    BadEscape,
    /// The parameter is given more than once: which one counts would depend on the reader.
    #[error("the parameter {0} is given more than once")]
    Duplicate(String),
    /// There are more than [`Parameters::MAX`].
    #[error("there are more than {} parameters", Parameters::MAX)]
    TooMany,
}

/// The decoded parameters, sorted by the bytes of their names, each name once.
#[derive(Default, PartialEq, Eq)]
pub struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    /// No operation has as many: with 20 tags in `Tag.N.Key` form it would be about 60.
    pub const MAX: usize = 128;

    /// Reads a query and a form, either of which may be empty. `+` is a space, as in forms.
    ///
    /// # Errors
    /// [`ParameterError`].
    pub fn parse(query: &'a str, form: &'a str) -> Result<Self, ParameterError> {
        let mut all = Vec::new();
        for pair in query.split('&').chain(form.split('&')).filter(|pair| !pair.is_empty()) {
            if all.len() == Self::MAX {
                return Err(ParameterError::TooMany);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            all.push((decode(name)?, decode(value)?));
        }
        all.sort();
        if let Some(pair) = all.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(ParameterError::Duplicate(pair[0].0.chars().take(64).collect()));
        }
        Ok(Self(all))
    }

    /// The value of a parameter. An empty value counts as given.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        self.0.get(found).map(|(_, value)| value.as_ref())
    }

    /// All of them, sorted by the bytes of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

/// Values may be plaintext. What was decoded is wiped; what is borrowed belongs to the request.
impl Drop for Parameters<'_> {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            if let Cow::Owned(text) = value {
                text.zeroize();
            }
        }
    }
}

/// Decodes into a place that never grows, so that no copy is left behind.
fn decode(text: &str) -> Result<Cow<'_, str>, ParameterError> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => 16 * digit(bytes.next())? + digit(bytes.next())?,
            other => other,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|error| {
        error.into_bytes().zeroize();
        ParameterError::NotUtf8
    })
}

fn digit(byte: Option<u8>) -> Result<u8, ParameterError> {
    let value = byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(ParameterError::BadEscape)?;
    // A hexadecimal digit is less than 16.
    u8::try_from(value).map_err(|_| ParameterError::BadEscape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str, form: &str) -> Result<Vec<(String, String)>, ParameterError> {
        let parameters = Parameters::parse(query, form)?;
        Ok(parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn query_and_form_are_one_list() {
        let pairs = parse("Action=Encrypt&b=%E6%9D%AD%20x", "a=1%2B1&c=x+y&&d").unwrap();
        let expected = [("Action", "Encrypt"), ("a", "1+1"), ("b", "杭 x"), ("c", "x y"), ("d", "")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let parameters = Parameters::parse("a=1&b=", "").unwrap();
        assert_eq!((parameters.get("a"), parameters.get("b"), parameters.get("c")), (Some("1"), Some(""), None));
    }

    #[test]
    fn what_is_ambiguous_or_malformed_is_refused() {
        assert_eq!(parse("a=1&a=1", ""), Err(ParameterError::Duplicate("a".into())));
        assert_eq!(parse("a=1", "%61=2"), Err(ParameterError::Duplicate("a".into())));
        assert_eq!(parse("a=%ff", ""), Err(ParameterError::NotUtf8));
        for bad in ["a=%", "a=%4", "a=%zz", "%=1", "a=%+1"] {
            assert_eq!(parse(bad, ""), Err(ParameterError::BadEscape), "{bad}");
        }
        let many: Vec<_> = (0..=Parameters::MAX).map(|i| format!("p{i}=")).collect();
        assert_eq!(parse(&many.join("&"), ""), Err(ParameterError::TooMany));
    }
}
