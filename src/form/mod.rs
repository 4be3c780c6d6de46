//! The parameters of a request, decoded. A parameter without a value is one that was not sent (RFC 6749 §3.2).

mod error;

pub use error::{CredentialsError, HttpError, Parameter, RequestError, Required, TaskParameter};

use zeroize::Zeroize as _;

/// The limits of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormBounds {
    /// Parameters.
    pub parameters: usize,
    /// `audience` and `resource` values together.
    pub targets: usize,
}

/// The parameters of RFC 8693 §2.1 with every name of a target fit well.
impl Default for FormBounds {
    fn default() -> Self {
        Self { parameters: 64, targets: 16 }
    }
}

/// A decoded form. Its values may be tokens, so they are wiped when it goes.
pub struct Form {
    parameters: Vec<(String, String)>,
    bounds: FormBounds,
}

impl std::fmt::Debug for Form {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Form({} parameters)", self.parameters.len())
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        self.parameters.iter_mut().for_each(|(_, value)| value.zeroize());
    }
}

impl Form {
    /// Decodes `application/x-www-form-urlencoded` strictly: a broken escape, a byte that is no UTF-8 and a NUL are
    /// errors and never mended, so that nobody reads another value than we do.
    ///
    /// # Errors
    /// [`RequestError::Form`] when it cannot be decoded, [`RequestError::TooMany`] past the bound.
    pub fn decode(body: &[u8], bounds: FormBounds) -> Result<Self, RequestError> {
        let mut form = Self { parameters: Vec::new(), bounds };
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if form.parameters.len() >= bounds.parameters {
                return Err(RequestError::TooMany);
            }
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
                None => (pair, &[][..]),
            };
            let name = decode(name)?;
            form.parameters.push((name, decode(value)?));
        }
        Ok(form)
    }

    /// The value of a parameter that may be sent once.
    ///
    /// # Errors
    /// [`RequestError::Repeated`] when it was sent more often, with a value or without.
    pub fn single(&self, parameter: Parameter) -> Result<Option<&str>, RequestError> {
        let name = parameter.name();
        let mut values = self.parameters.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(RequestError::Repeated(parameter)),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    }

    /// The values of a parameter that may be sent often.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.parameters
            .iter()
            .filter(move |(own, value)| own == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Returns the values of `names`, parameters that may be sent often and that name targets.
    ///
    /// # Errors
    /// [`RequestError::TooManyTargets`] if there are more values than the limit.
    pub fn targets(&self, names: &[&str]) -> Result<Vec<String>, RequestError> {
        let values = names.iter().flat_map(|name| self.all(name)).map(str::to_owned);
        let values: Vec<String> = values.take(self.bounds.targets + 1).collect();
        if values.len() > self.bounds.targets { Err(RequestError::TooManyTargets) } else { Ok(values) }
    }

    /// The names of what was sent.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|(name, _)| name.as_str())
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

    fn decode(body: &[u8]) -> Result<Form, RequestError> {
        Form::decode(body, FormBounds::default())
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_and_not_mended() {
        for broken in ["a=%FF%FE", "a=%00", "a=%zz", "a=%4", "a=%", "a=%C0%AF", "%FF=a", "a=\u{0}"] {
            assert_eq!(decode(broken.as_bytes()).err(), Some(RequestError::Form), "{broken}");
        }
        let form = decode(b"grant%5ftype=a+b%2Bc&&empty=&bare").unwrap();
        assert_eq!(form.single(Parameter::GrantType), Ok(Some("a b+c")));
        assert_eq!(form.names().collect::<Vec<_>>(), ["grant_type", "empty", "bare"]);
        let form = decode(b"scope=&token&Grant_type=a").unwrap();
        for absent in [Parameter::Scope, Parameter::Token, Parameter::GrantType] {
            assert_eq!(form.single(absent), Ok(None), "{absent:?}");
        }
    }

    #[test]
    fn a_single_parameter_that_is_repeated_is_refused_even_empty() {
        let form = decode(b"scope=a&scope=&audience=x&audience=&audience=y").unwrap();
        assert_eq!(form.single(Parameter::Scope), Err(RequestError::Repeated(Parameter::Scope)));
        assert_eq!(form.all("audience").collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn parameters_are_counted() {
        assert!(decode("a=1&".repeat(64).as_bytes()).is_ok());
        assert_eq!(decode("a=1&".repeat(65).as_bytes()).err(), Some(RequestError::TooMany));
        let few = FormBounds { parameters: 3, targets: 1 };
        assert_eq!(Form::decode(b"a=1&b=1&c=1&d=1", few).err(), Some(RequestError::TooMany));
        let form = Form::decode(b"audience=a&resource=b&audience=", few).unwrap();
        assert_eq!(form.targets(&["audience", "resource"]), Err(RequestError::TooManyTargets));
    }
}
