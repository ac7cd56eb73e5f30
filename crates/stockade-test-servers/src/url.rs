//! Passwords in URLs.

/// `password` with a %-code for each byte that is no letter and no digit.
pub(crate) fn encode(password: &str) -> String {
    let code = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    password.bytes().map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_letters_and_digits_become_codes() {
        assert_eq!(encode("aZ09"), "aZ09");
        assert_eq!(encode("a@b/c:d%é"), "a%40b%2Fc%3Ad%25%C3%A9");
    }
}
