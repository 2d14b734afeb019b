//! The two national identifiers and dates, see `shutong_core.domain.identity` and
//! `shutong_broker.policy.minors`.
#![forbid(unsafe_code)]

/// Year, month, day; dates compare as these do.
pub type Day = (i64, u32, u32);

const ID_WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const ID_CHECK: &[u8; 11] = b"10X98765432";
const USCC_ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
const ADULT_FROM_YEARS: i64 = 14;

/// The birth date in a valid identity number of a person (GB 11643).
pub fn birth_of(text: &[u8]) -> Option<Day> {
    let (digits, check) = text.split_first_chunk::<17>()?;
    if check.len() != 1 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let total: u32 = digits.iter().zip(ID_WEIGHTS).map(|(c, w)| u32::from(c - b'0') * w).sum();
    if ID_CHECK.get(total as usize % 11) != check.first() {
        return None;
    }
    let day = day_of(digits.get(6..10)?, digits.get(10..12)?, digits.get(12..14)?)?;
    (1850..2100).contains(&day.0).then_some(day)
}

/// Whether `text` is a valid unified social credit code (GB 32100).
pub fn is_uscc(text: &[u8]) -> bool {
    let Some((body, [check])) = text.split_first_chunk::<17>() else {
        return false;
    };
    let mut total = 0;
    let mut weight = 1;
    for (place, byte) in body.iter().enumerate() {
        let Some(value) = USCC_ALPHABET.iter().position(|known| known == byte) else {
            return false;
        };
        if (2..8).contains(&place) && !byte.is_ascii_digit() {
            return false;
        }
        total += value * weight;
        weight = weight * 3 % 31;
    }
    USCC_ALPHABET.get((31 - total % 31) % 31) == Some(check)
}

/// Whether a text (identity number or `YYYY-MM-DD`) tells a person under 14, or tells nothing.
pub fn text_is_under_14(text: &[u8], today: Day) -> bool {
    let born = match text {
        [y @ .., b'-', m1, m2, b'-', d1, d2] if y.len() == 4 => day_of(y, &[*m1, *m2], &[*d1, *d2]),
        _ => birth_of(text),
    };
    born.is_none_or(|(year, month, day)| today <= (year + ADULT_FROM_YEARS, month, day))
}

fn day_of(year: &[u8], month: &[u8], day: &[u8]) -> Option<Day> {
    let (year, month, day) = (digits(year)?, digits(month)?, digits(day)?);
    let sound = year >= 1 && (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
    sound.then_some((i64::from(year), month, day))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
    })
}

fn days_in(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The proleptic Gregorian date of a number of days after 1970-01-01.
///
/// Years begin in March here, so that the leap day is the last; 400 of them have 146,097 days.
pub fn date_of(days: i64) -> Day {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_need_their_check_character() {
        assert_eq!(birth_of(b"11010519491231002X"), Some((1949, 12, 31)));
        assert_eq!(birth_of(b"11010519491231002x"), None);
        assert_eq!(birth_of(b"110105194912310021"), None);
        assert_eq!(birth_of(b""), None);
        assert!(is_uscc(b"91350100M000100Y43"));
        assert!(!is_uscc(b"91350100M000100Y44"));
        assert!(!is_uscc(b"9135010"));
    }

    #[test]
    fn days_are_calendar_days() {
        assert_eq!(date_of(0), (1970, 1, 1));
        assert_eq!(date_of(-1), (1969, 12, 31));
        assert_eq!(date_of(11_016), (2000, 2, 29));
        assert_eq!(date_of(-719_162), (1, 1, 1));
        assert_eq!(date_of(2_932_896), (9999, 12, 31));
    }

    #[test]
    fn one_is_fourteen_from_the_day_after_the_birthday() {
        assert!(text_is_under_14(b"2012-11-23", (2026, 11, 23)));
        assert!(!text_is_under_14(b"2012-11-22", (2026, 11, 23)));
        assert!(text_is_under_14(b"2012-13-22", (2026, 11, 23)));
        assert!(text_is_under_14(b"unknown", (2026, 11, 23)));
        assert!(!text_is_under_14(b"11010519491231002X", (2026, 11, 23)));
    }
}
