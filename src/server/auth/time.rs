//! When a request says that it was signed.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use crate::server::Failure;

/// How a dialect writes the time of a signature, and how far it may be from the clock, before and after.
pub(super) struct Format {
    /// `0` stands for a digit, everything else for itself. Year, month, day, hour, minute, second, in UTC.
    template: &'static [u8],
    /// The same for `strftime`.
    strftime: &'static str,
    /// The greatest distance from the clock, either way.
    tolerance: SignedDuration,
}

/// `X-Amz-Date`. AWS allows five minutes.
pub(super) const AWS: Format =
    Format { template: b"00000000T000000Z", strftime: "%Y%m%dT%H%M%SZ", tolerance: SignedDuration::from_mins(5) };

/// `Timestamp` and `x-acs-date`. Alibaba Cloud allows fifteen minutes.
pub(super) const ALIBABA: Format = Format {
    template: b"0000-00-00T00:00:00Z",
    strftime: "%Y-%m-%dT%H:%M:%SZ",
    tolerance: SignedDuration::from_mins(15),
};

impl Format {
    /// The time that a text says. None: the text is not of this form, or there is no such time.
    pub(super) fn parse(&self, text: &str) -> Option<Timestamp> {
        let text = text.as_bytes();
        if text.len() != self.template.len() {
            return None;
        }
        let mut digits = [0_u8; 14];
        let mut next = digits.iter_mut();
        for (byte, expected) in text.iter().zip(self.template) {
            match expected {
                b'0' => *next.next()? = byte.is_ascii_digit().then(|| byte - b'0')?,
                _ if byte == expected => {}
                _ => return None,
            }
        }
        let two = |at: usize| -> Option<i8> { i8::try_from(digits.get(at)? * 10 + digits.get(at + 1)?).ok() };
        let year = i16::from(two(0)?) * 100 + i16::from(two(2)?);
        let civil = DateTime::new(year, two(4)?, two(6)?, two(8)?, two(10)?, two(12)?, 0).ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    }

    /// Until when a request that was signed at a time may be answered.
    pub(super) fn valid_until(&self, signed: Timestamp) -> Timestamp {
        signed.saturating_add(self.tolerance).unwrap_or(Timestamp::MAX)
    }

    /// Whether a request that was signed at a time may still be answered.
    ///
    /// # Errors
    /// [`Failure::IllegalTimestamp`].
    pub(super) fn check(&self, signed: Timestamp, now: Timestamp) -> Result<(), Failure> {
        if now.duration_since(signed).abs() <= self.tolerance {
            return Ok(());
        }
        let text = |time: Timestamp| time.strftime(self.strftime).to_string();
        Err(Failure::IllegalTimestamp { signed: text(signed), now: text(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_form_is_read() {
        let expected: Timestamp = "2026-11-22T04:18:36Z".parse().unwrap();
        assert_eq!(AWS.parse("20261122T041836Z"), Some(expected));
        assert_eq!(ALIBABA.parse("2026-11-22T04:18:36Z"), Some(expected));
        let bad = ["", "2026-11-22T04:18:36Z", "20261122T041836", "20261122T041836z", "20261322T041836Z"];
        for text in bad.into_iter().chain(["20261122T046036Z", "+0261122T041836Z", "20260229T041836Z"]) {
            assert_eq!(AWS.parse(text), None, "{text}");
        }
        for text in ["20261122T041836Z", "2026-11-22T04:18:36.0Z", "2026-11-22T04:18:36+00:00", "2026-11-22 04:18:36Z"]
        {
            assert_eq!(ALIBABA.parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_tolerance_counts_both_ways() {
        let signed: Timestamp = "2026-11-22T04:00:00Z".parse().unwrap();
        for (format, minutes) in [(&AWS, 5), (&ALIBABA, 15)] {
            for sign in [-1, 1] {
                let edge = signed + SignedDuration::from_secs(sign * minutes * 60);
                assert_eq!(format.check(signed, edge), Ok(()));
                let beyond = edge + SignedDuration::from_secs(sign);
                assert!(matches!(format.check(signed, beyond), Err(Failure::IllegalTimestamp { .. })));
            }
        }
        let refused = AWS.check(signed, signed + SignedDuration::from_hours(1));
        let (signed, now) = ("20261122T040000Z".into(), "20261122T050000Z".into());
        assert_eq!(refused, Err(Failure::IllegalTimestamp { signed, now }));
    }
}
