//! What is shown of an address: enough to tell two apart, too little to write to.

/// The last two digits: `…45`.
pub(crate) fn phone(number: &str) -> String {
    let digits: Vec<char> = number.chars().filter(char::is_ascii_digit).collect();
    format!("…{}", digits[digits.len().saturating_sub(2)..].iter().collect::<String>())
}

/// The first character and the domain: `a…@shop.example`.
pub(crate) fn email(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    format!("{}…@{domain}", local.chars().next().map(String::from).unwrap_or_default())
}

/// A text whose e-mail addresses and phone numbers are masked.
pub(crate) fn text(text: &str) -> String {
    let words: Vec<String> = text.split(' ').map(word).collect();
    words.join(" ")
}

fn word(word: &str) -> String {
    let punctuation = |c: char| !c.is_alphanumeric() && c != '+';
    let bare = word.trim_matches(punctuation);
    let masked = if bare.contains('@') {
        email(bare)
    } else if bare.chars().filter(char::is_ascii_digit).count() >= 7
        && bare.chars().all(|c| c.is_ascii_digit() || "+-()./".contains(c))
    {
        phone(bare)
    } else {
        return word.to_owned();
    };
    word.replacen(bare, &masked, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked_wherever_they_stand() {
        assert_eq!(phone("+491701234567"), "…67");
        assert_eq!(email("ann.smith@shop.example"), "a…@shop.example");
        assert_eq!(
            text("New: ann@shop.example, call '+491701234567' (order 12345)"),
            "New: a…@shop.example, call '…67' (order 12345)"
        );
        assert_eq!(text(""), "");
        assert_eq!(email("x"), "x…@");
    }
}
