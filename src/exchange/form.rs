//! The parameters of a request, decoded. A parameter without a value is one that was not sent (RFC 6749 §3.2).

use super::RequestError;
use zeroize::Zeroize as _;

/// How many parameters are read; 32 targets and the rest of RFC 8693 §2.1 fit well.
const MAX_PARAMETERS: usize = 64;

/// A decoded form. Its values may be tokens, so they are wiped when it goes.
pub struct Form(Vec<(String, String)>);

impl std::fmt::Debug for Form {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Form({} parameters)", self.0.len())
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|(_, value)| value.zeroize());
    }
}

impl Form {
    /// Decodes `application/x-www-form-urlencoded` strictly: a broken escape, a byte that is no UTF-8 and a NUL are errors
    /// and never mended, so that nobody reads another value than we do.
    ///
    /// # Errors
    /// [`RequestError::Form`] when it cannot be decoded, [`RequestError::TooMany`] past the bound.
    pub fn decode(body: &[u8]) -> Result<Self, RequestError> {
        let mut parameters = Self(Vec::new());
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if parameters.0.len() >= MAX_PARAMETERS {
                return Err(RequestError::TooMany);
            }
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
                None => (pair, &[][..]),
            };
            let name = decode(name)?;
            parameters.0.push((name, decode(value)?));
        }
        Ok(parameters)
    }

    /// The value of a parameter that may be sent once.
    ///
    /// # Errors
    /// [`RequestError::Repeated`] when it was sent more often, with a value or without.
    pub fn single(&self, name: &'static str) -> Result<Option<&str>, RequestError> {
        let mut values = self.0.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(RequestError::Repeated(name)),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    }

    /// The values of a parameter that may be sent often.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, value)| own == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The names of what was sent.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

fn decode(text: &[u8]) -> Result<String, RequestError> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return plain(text.to_vec());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| {
                    byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
                };
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => high << 4 | low,
                    _ => return Err(RequestError::Form),
                }
            }
            byte => byte,
        });
    }
    plain(bytes)
}

fn plain(bytes: Vec<u8>) -> Result<String, RequestError> {
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(RequestError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_decoded_is_refused_and_not_mended() {
        for broken in ["a=%FF%FE", "a=%00", "a=%zz", "a=%4", "a=%", "a=%C0%AF", "%FF=a", "a=\u{0}"] {
            assert_eq!(Form::decode(broken.as_bytes()).err(), Some(RequestError::Form), "{broken}");
        }
        let form = Form::decode(b"grant%5ftype=a+b%2Bc&&empty=&bare").unwrap();
        assert_eq!(form.single("grant_type"), Ok(Some("a b+c")));
        assert_eq!(
            (form.single("empty"), form.single("bare"), form.single("Grant_type")),
            (Ok(None), Ok(None), Ok(None))
        );
    }

    #[test]
    fn a_single_parameter_that_is_repeated_is_refused_even_empty() {
        let form = Form::decode(b"scope=a&scope=&audience=x&audience=&audience=y").unwrap();
        assert_eq!(form.single("scope"), Err(RequestError::Repeated("scope")));
        assert_eq!(form.all("audience").collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn parameters_are_counted() {
        assert!(Form::decode("a=1&".repeat(MAX_PARAMETERS).as_bytes()).is_ok());
        assert_eq!(Form::decode("a=1&".repeat(MAX_PARAMETERS + 1).as_bytes()).err(), Some(RequestError::TooMany));
    }
}
